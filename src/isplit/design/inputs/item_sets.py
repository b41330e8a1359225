"""Read sets like torch's, which have a length and items of an image and its label."""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import ConcatDataset, Subset

from isplit.codec.bands import Picture, plain_picture
from isplit.design.inputs.array_files import channels_come_first
from isplit.design.inputs.source import Source, check_labels
from isplit.errors import DataError

_HASHED_ITEMS = 8
_CHECKED_CLASSES = 32

_LABEL_ATTRIBUTES = ("targets", "labels", "_labels")
"""Attributes in which sets store the labels of all items; torchvision's use all three names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Labels:
    """The labels of a set's items (N), the names of its classes if they are known to fit, and notices."""

    values: NDArray[Any]
    classes: tuple[str, ...] | None
    notices: tuple[str, ...] = ()


def read_sets(sets: Mapping[str, Any], *, spec: str) -> Source:
    """Make a source of sets like torch's, one for each part.

    The label of an item is the label that the item itself gives. Where a set keeps all labels in an attribute
    (`targets`, `labels`), those are taken if a sample of the items agrees with them, and each item is compared with
    them again when its image is read. The names in an attribute `classes` are taken only where the labels are those
    that the set itself keeps: a `target_transform`, or a wrapper that gives other labels, leaves them behind.

    Raises:
        DataError: A set has no length or items, an item is not an (image, label) pair, the labels do not fit the
            classes, sets have different classes, or an item changes each time that it is read.

    """
    parts: list[tuple[Any, _Labels]] = []
    for items in sets.values():
        if not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
            msg = f"{spec} gave a {type(items).__name__}: it must give a set with __len__ and __getitem__"
            raise DataError(msg)
        parts.append((items, _read_labels(items, spec=spec)))
    classes = _common_classes([labels.classes for _, labels in parts], spec=spec)
    checked = [check_labels(labels.values, images=len(items), classes=classes, spec=spec) for items, labels in parts]
    every_label = np.concatenate(checked)
    digest = hashlib.sha256()
    for (items, _), part_labels in zip(parts, checked, strict=True):
        digest.update(f"{len(part_labels)}:".encode() + part_labels.tobytes())
        _hash_pixels(items, digest, spec=spec)
    owners = [(items, i) for items, _ in parts for i in range(len(items))]
    lock = threading.Lock()  # a set made for torch's worker processes need not be safe for threads

    def read(index: int) -> Picture:
        items, item = owners[index]
        with lock:
            image, label = read_item(items, item, spec=spec)
            image = as_image(image, name=name_of(index))
        if label != every_label[index]:
            msg = (
                f"{spec}: item {item} has the label {label} now, and had {every_label[index]} when the labels were "
                f"read. If the set keeps other labels in an attribute ({', '.join(_LABEL_ATTRIBUTES)}) than its items "
                "give, remove the attribute"
            )
            raise DataError(msg)
        return image

    def name_of(index: int) -> str:
        return f"{spec}: item {owners[index][1]}"

    stops = np.cumsum([len(part_labels) for part_labels in checked])
    return Source(
        classes=classes or tuple(map(str, range(int(every_label.max()) + 1))),
        labels=every_label,
        parts={
            part: np.arange(stop - len(part_labels), stop)
            for part, part_labels, stop in zip(sets, checked, stops, strict=True)
        },
        read=read,
        name_of=name_of,
        sha256=digest.hexdigest(),
        notices=tuple(dict.fromkeys(notice for _, labels in parts for notice in labels.notices)),
    )


# --- labels and classes ---


def _read_labels(items: Any, *, spec: str) -> _Labels:
    """Return the labels of the items, and the names of the classes if these are known to fit."""
    if type(items) is Subset:
        whole = _read_labels(items.dataset, spec=spec)
        return _Labels(
            values=np.asarray(whole.values)[list(items.indices)], classes=whole.classes, notices=whole.notices
        )
    if type(items) is ConcatDataset:
        pieces = [_read_labels(piece, spec=spec) for piece in items.datasets]
        return _Labels(
            values=np.concatenate([np.asarray(piece.values).reshape(-1) for piece in pieces]),
            classes=_common_classes([piece.classes for piece in pieces], spec=spec),
            notices=tuple(notice for piece in pieces for notice in piece.notices),
        )
    classes = getattr(items, "classes", None)
    classes = tuple(map(str, classes)) if classes is not None and not isinstance(classes, str) else None
    attribute, kept = _kept_labels(items)
    if attribute is not None and _has_no_target_transform(items) and _agrees(items, kept, spec=spec):
        return _Labels(values=kept, classes=classes)
    values = np.array([read_item(items, i, spec=spec)[1] for i in range(len(items))])
    if classes is None or attribute is None or np.array_equal(values, kept):
        return _Labels(values=values, classes=classes)
    if _holds(items, "classes") and not _holds(items, attribute):  # a wrapper with its own names of classes
        return _Labels(values=values, classes=classes)
    notice = (
        f"{spec}: the items have other labels than the set's attribute {attribute!r}"
        f"{'' if _has_no_target_transform(items) else ' (it has a target_transform)'}: the items' labels were taken, "
        "and its class names were not, since they are in the order of the others. To name the classes, wrap the set "
        "in one that has an attribute `classes` of its own"
    )
    return _Labels(values=values, classes=None, notices=(notice,))


def _kept_labels(items: Any) -> tuple[str | None, Any]:
    """Return the attribute in which a set stores one label for each item, and these labels; or None."""
    for attribute in _LABEL_ATTRIBUTES:
        kept = getattr(items, attribute, None)
        if kept is None or isinstance(kept, str | bytes) or not hasattr(kept, "__len__") or len(kept) != len(items):
            continue
        values = np.asarray(kept)
        if values.ndim == 1 and values.dtype.kind in "iu":
            return attribute, values
    return None, None


def _has_no_target_transform(items: Any) -> bool:
    # torchvision also wraps both transforms into `transforms`.
    joint = getattr(items, "transforms", None)
    return getattr(items, "target_transform", None) is None and getattr(joint, "target_transform", None) is None


def _agrees(items: Any, kept: NDArray[Any], *, spec: str) -> bool:
    """Return whether some items, evenly spaced and of as many classes as possible, have the labels in `kept`."""
    _, first_of_class = np.unique(kept, return_index=True)
    spread = np.linspace(0, len(kept) - 1, _HASHED_ITEMS).astype(int)
    of_classes = first_of_class[np.linspace(0, len(first_of_class) - 1, _CHECKED_CLASSES).astype(int)]
    return all(read_item(items, int(i), spec=spec)[1] == kept[i] for i in np.unique([*spread, *of_classes]))


def _holds(items: Any, attribute: str) -> bool:
    """Return whether an object has an attribute itself or by its class, and does not only pass on another object's."""
    return attribute in getattr(items, "__dict__", {}) or any(attribute in vars(base) for base in type(items).__mro__)


def _common_classes(names: Sequence[tuple[str, ...] | None], *, spec: str) -> tuple[str, ...] | None:
    """Return the names of the classes that all sets share, or None if none of them has names.

    Raises:
        DataError: The sets have different classes, so that one label would stand for several.

    """
    distinct = list(dict.fromkeys(names))
    if len(distinct) == 1:
        return distinct[0]
    first, other = distinct[:2]
    msg = (
        f"{spec} joins sets with different classes ({_short(first)}; {_short(other)}), so that a label would stand for "
        "several classes: give all of them the same `classes`, in the same order"
    )
    raise DataError(msg)


def _short(names: tuple[str, ...] | None) -> str:
    if names is None:
        return "one has no names"
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


# --- items ---


def read_item(items: Any, index: int, *, spec: str) -> tuple[Any, int]:
    """Return an item's image and its label.

    Raises:
        DataError: It cannot be read, is not an (image, label) pair, or its label is not an integer.

    """
    try:
        item = items[index]
        image, label = (item["image"], item["label"]) if isinstance(item, Mapping) else item
    except Exception as error:  # the user's code may raise anything
        msg = f"{spec}: item {index} is not an (image, label) pair: {type(error).__name__}: {error}"
        raise DataError(msg) from error
    values = np.asarray(label)
    if values.size != 1 or values.dtype.kind not in "iu":
        msg = (
            f"{spec}: item {index} has the label {str(label)[:60]!r} ({type(label).__name__}): give each image an "
            "integer as its label"
        )
        raise DataError(msg)
    return image, int(values.reshape(()))


def as_image(value: Any, *, name: str) -> Picture:
    """Return an item's image as a PIL image, or as an array H×W×C if it is neither grey nor RGB nor RGBA.

    Taken are PIL images; uint8 arrays H×W or H×W×C; torch tensors of uint8, H×W or C×H×W; and float tensors that hold
    such an image divided by 255, as torchvision's ToTensor makes them.

    Raises:
        DataError: It is none of these; most often, it was normalised.

    """
    if isinstance(value, Image.Image):
        return value
    pixels = np.asarray(value)
    if (
        isinstance(value, torch.Tensor)
        and pixels.ndim == 3
        and (pixels.shape[0] in (1, 3, 4) or channels_come_first(pixels.shape))
    ):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.dtype.kind == "f" and isinstance(value, torch.Tensor) and pixels.size:
        scaled = pixels.astype(np.float64) * 255
        if 0 <= pixels.min() <= pixels.max() <= 1 and np.abs(scaled - np.round(scaled)).max() < 1e-3:
            pixels = np.round(scaled).astype(np.uint8)
        else:
            msg = (
                f"{name} holds floats from {pixels.min():.3g} to {pixels.max():.3g}, which are no pixels divided by "
                "255: give the set without its Normalize and Resize, since isplit resizes and normalises itself"
            )
            raise DataError(msg)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or channels_come_first(pixels.shape):
        msg = f"{name} is {pixels.dtype} {pixels.shape}: give a PIL image or a uint8 array H×W or H×W×C, untransformed"
        raise DataError(msg)
    return plain_picture(pixels)


def _hash_pixels(items: Any, digest: Any, *, spec: str) -> None:
    """Hash all pixels if a set holds them in memory, otherwise those of a few items, evenly spaced.

    Raises:
        DataError: An item has other pixels when it is read again.

    """
    if isinstance(pixels := getattr(items, "data", None), np.ndarray | torch.Tensor):
        digest.update(np.ascontiguousarray(pixels).data)
        return
    for item in range(0, len(items), 1 + len(items) // _HASHED_ITEMS):
        name = f"{spec}: item {item}"
        first, again = (as_image(read_item(items, item, spec=spec)[0], name=name).tobytes() for _ in range(2))
        if first != again:
            msg = f"{name} has other pixels each time it is read: give the set without random transforms"
            raise DataError(msg)
        digest.update(first)
