"""Data sets by name or path, divided into fit, select and test."""

import hashlib
import inspect
import os
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from isplit.design.inputs.array_files import array_source, read_idx_pair, read_npz
from isplit.design.inputs.folders import (
    Source,
    check_labels,
    choose_parts,
    close_match,
    directory_tree,
    read_tree,
    zip_tree,
)
from isplit.design.inputs.user_code import call_factory, import_factory
from isplit.errors import DataError, InputError, needs_extra
from isplit.records import DataSource, PartName

SPECS = (
    "a folder or .zip of CLASS/IMAGE or train/CLASS/IMAGE, an .npz file, idx:IMAGES,LABELS, torchvision:NAME, "
    "sklearn:digits, ./file.py:factory, package.module:factory"
)
"""What `open_data` understands, in words."""

_HASHED_ITEMS = 8
HELD_OUT = 0.1
"""The share of the images of a class that becomes the select part, or the test part, where the data has none."""

_UNDIVIDED = {"all": {}}
_TRAIN_FLAG = {"train": {"train": True}, "test": {"train": False}}
_TRAIN_TEST = {part: {"split": part} for part in ("train", "test")}
_TRAIN_VAL = {part: {"split": part} for part in ("train", "val")}
_TRAIN_VAL_TEST = {part: {"split": part} for part in ("train", "val", "test")}

TORCHVISION_SETS: dict[str, dict[str, dict[str, Any]]] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "QMNIST", "USPS"), _TRAIN_FLAG),
    **dict.fromkeys(("Food101", "GTSRB", "STL10", "SVHN", "StanfordCars"), _TRAIN_TEST),
    **dict.fromkeys(("DTD", "FGVCAircraft", "Flowers102", "PCAM", "RenderedSST2"), _TRAIN_VAL_TEST),
    **dict.fromkeys(("ImageNet", "Imagenette"), _TRAIN_VAL),
    **dict.fromkeys(("Caltech101", "Caltech256", "EuroSAT", "SEMEION"), _UNDIVIDED),
    "Country211": {"train": {"split": "train"}, "val": {"split": "valid"}, "test": {"split": "test"}},
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
}
"""torchvision's classification sets: their parts and the arguments that select each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Labelled images, divided into disjoint parts.

    `labels` (int64, one per image) index `classes`; `titles` are the classes' display names, in the same order;
    `groups` are named subsets of the classes. `parts` holds increasing indices into `labels`, and `part_rule` says in
    words how they were made.

    `sha256` is over the file's bytes (.zip, .npz; idx: over both files' hashes). For a folder it is over the names,
    sizes and labels of its images, and over their contents: of all up to `MAX_HASHED_BYTES`, beyond that of every n-th.
    For other sets (sklearn, torchvision, factories) it is over the labels and the pixels: all pixels where the set
    holds them in memory, else those of a few items, evenly spaced.
    """

    spec: str
    split: str | None
    classes: tuple[str, ...]
    titles: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    labels: NDArray[np.int64]
    parts: Mapping[PartName, NDArray[np.int64]]
    part_rule: str
    sha256: str
    read: Callable[[int], Image.Image]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Decode one image; safe to call from several threads.

        Raises:
            DataError: it is damaged or gone; the message names it.

        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.read(int(index))

    def source(self, class_outputs: Sequence[int]) -> DataSource:
        """Return the record of this data; `class_outputs` gives the model output of each class."""
        return DataSource(
            spec=self.spec,
            split=self.split,
            sha256=self.sha256,
            classes=self.classes,
            class_titles=self.titles,
            class_outputs=tuple(class_outputs),
            part_images={part: len(indices) for part, indices in self.parts.items()},
            part_rule=self.part_rule,
        )


def open_data(spec: str, *, split: str | None = None, seed: int = 0, data_root: Path | None = None) -> Dataset:
    """Open labelled images by path or name, without decoding them.

    Args:
        spec: a directory or .zip of class folders, perhaps in train/val/test folders and perhaps with a classes.json,
            `{"names": {folder: title}, "groups": {name: [folders]}}`; an .npz file with `images`, `labels` and perhaps
            `classes`; `idx:IMAGES,LABELS`; `torchvision:NAME`; `sklearn:digits`; or `./file.py:factory` or
            `package.module:factory`, a function that returns a sized, indexable set of (PIL image or H×W×C uint8
            array, label), perhaps with `classes`.
        split: use only this part or part folder, as if it were all there is.
        seed: of the division into parts, where the data is not divided.
        data_root: where torchvision's sets are, or are downloaded to; by default a folder in the user's cache.

    Parts: train, val and test become fit, select and test. With train and one of the others, that one is the test part
    and a tenth of each class of train is held out as select. Undivided data is divided 80/10/10, class by class.

    Raises:
        InputError: a negative seed.
        DataError: unknown or missing data, fewer than two classes, a class without images to fit on, labels that do
            not fit the images or classes, no part called `split`, a damaged or oversized file.
        MissingExtraError: the library that has the set is not installed.

    """
    if seed < 0:
        msg = f"seed is {seed}; give 0 or more"
        raise InputError(msg)
    source = _open_source(spec, split=split, data_root=data_root)
    if len(source.classes) < 2:
        msg = f"{spec} has only one class, {''.join(source.classes)!r}: there is nothing to tell apart"
        raise DataError(msg)
    parts, rule = _divide(source, spec=spec, seed=seed)
    present = np.bincount(source.labels[parts["fit"]], minlength=len(source.classes))
    if not present.all():
        name = source.classes[int(np.argmin(present > 0))]
        msg = f"{spec}: class {name!r} has no image to fit on: add images, or leave the class out"
        raise DataError(msg)
    source.labels.setflags(write=False)
    return Dataset(
        spec=spec,
        split=split,
        classes=source.classes,
        titles=_distinct_titles(source),
        groups=source.groups,
        labels=source.labels,
        parts=parts,
        part_rule=rule,
        sha256=source.sha256,
        read=source.read,
    )


def _distinct_titles(source: Source) -> tuple[str, ...]:
    """Return the classes' display names; those that clash are told apart: "crane (n01)" and "crane (n02)"."""
    titles = [source.titles.get(name, name) for name in source.classes]
    counts = Counter(titles)
    named = zip(titles, source.classes, strict=True)
    return tuple(title if counts[title] == 1 else f"{title} ({name})" for title, name in named)


def balanced_order(labels: ArrayLike, indices: ArrayLike, *, seed: int) -> NDArray[np.int64]:
    """Return `indices` in a seeded random order in which every prefix is balanced over the classes.

    Each class's indices are shuffled, then the classes take turns; a class that has run out is passed over. So the
    first n hold each class equally often, give or take one, as long as it lasts, and are the same for every n. The
    order in which `indices` are given does not matter.
    """
    labels, indices = np.asarray(labels), np.sort(np.asarray(indices, dtype=np.int64))
    turns, classes, shuffled = [], [], []
    for label in np.unique(labels[indices]):
        own = indices[labels[indices] == label]
        shuffled.append(np.random.default_rng([seed, int(label), 1]).permutation(own))
        turns.append(np.arange(len(own)))
        classes.append(np.full(len(own), label))
    if not shuffled:
        return indices
    return np.concatenate(shuffled)[np.lexsort((np.concatenate(classes), np.concatenate(turns)))]


# --- parts ---


def _divide(source: Source, *, spec: str, seed: int) -> tuple[dict[PartName, NDArray[np.int64]], str]:
    """Make fit, select and test of the parts that the source has; the rule is returned in words."""
    found = source.parts
    percent = round(100 * HELD_OUT)
    if found.keys() == {"train", "val", "test"}:
        return {"fit": found["train"], "select": found["val"], "test": found["test"]}, (
            "fit = train, select = val, test = test"
        )
    if len(found) == 1:
        ((name, indices),) = found.items()
        fit, select, test = _hold_out(source.labels, indices, parts=2, seed=seed)
        rule = f"select and test = {percent} % each of {name}, held out class by class with seed {seed}; fit = the rest"
    elif len(found) == 2 and "train" in found:
        (name,) = found.keys() - {"train"}
        fit, select = _hold_out(source.labels, found["train"], parts=1, seed=seed)
        test = found[name]
        rule = f"select = {percent} % of train, held out class by class with seed {seed}; fit = the rest; test = {name}"
    else:
        msg = f"{spec} has the parts {', '.join(found)} but no train: pass one of them as the split"
        raise DataError(msg)
    if not (len(select) and len(test)):
        msg = (
            f"{spec} is too small to divide: give a class at least 3 images, so that one can be held out for each part"
        )
        raise DataError(msg)
    return {"fit": fit, "select": select, "test": test}, rule


def _hold_out(
    labels: NDArray[np.int64], indices: NDArray[np.int64], *, parts: int, seed: int
) -> list[NDArray[np.int64]]:
    """Return the rest and `parts` held-out parts, each with `HELD_OUT` of every class, each sorted.

    The rule is fixed, so that a study can be repeated: class c's indices are permuted by
    `numpy.random.default_rng([seed, c])`, and each part in turn takes the next round(n * HELD_OUT) of them. A class of
    three images or more gives at least one to each part.
    """
    pieces: list[list[NDArray[np.int64]]] = [[] for _ in range(parts + 1)]
    for label in np.unique(labels[indices]):
        own = indices[labels[indices] == label]
        count = round(len(own) * HELD_OUT) or (1 if len(own) >= 3 else 0)
        permuted = np.random.default_rng([seed, int(label)]).permutation(own)
        pieces[0].append(permuted[count * parts :])
        for part in range(parts):
            pieces[part + 1].append(permuted[count * part : count * (part + 1)])
    return [np.sort(np.concatenate(piece)) for piece in pieces]


# --- where the data comes from ---


def _open_source(spec: str, *, split: str | None, data_root: Path | None) -> Source:
    kind, colon, rest = spec.partition(":")
    path = Path(spec).expanduser()
    if kind == "torchvision":
        return _torchvision_source(rest, spec=spec, split=split, root=data_root or _default_data_root())
    if kind == "sklearn" and rest == "digits":
        return _digits_source(spec=spec, split=split)
    if kind == "idx" and rest.count(",") == 1:
        choose_parts(["all"], split=split, spec=spec)
        images, labels = (Path(name).expanduser() for name in rest.split(","))
        return read_idx_pair(images, labels, spec=spec)
    if path.is_dir():
        return read_tree(directory_tree(path), spec=spec, split=split)
    if path.is_file() and path.suffix.lower() == ".zip":
        return read_tree(zip_tree(path), spec=spec, split=split)
    if path.is_file() and path.suffix.lower() == ".npz":
        return read_npz(path, spec=spec, split=split)
    known = ("torchvision", "sklearn", "idx")
    if colon and kind not in known and not get_close_matches(kind, known, cutoff=0.8):
        choose_parts(["all"], split=split, spec=spec)
        made = call_factory(import_factory(spec, error=DataError), spec=spec, error=DataError)
        return _set_source({"all": made}, spec=spec)
    hint = close_match(rest or kind, TORCHVISION_SETS, prefix="torchvision:")
    what = "is neither a folder nor a kind of file that is understood" if path.exists() else "is not there"
    msg = f"{spec!r} is not a kind of data that is understood" if colon else f"{spec!r} {what}"
    raise DataError(f"{msg}{hint}; data is {SPECS}")


def _default_data_root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "isplit" / "data"


def _torchvision_source(name: str, *, spec: str, split: str | None, root: Path) -> Source:
    with needs_extra("design"):
        import torchvision
    if name not in TORCHVISION_SETS:
        hint = close_match(name, TORCHVISION_SETS, prefix="torchvision:")
        msg = f"torchvision has no classification data {name!r}{hint}; there are {', '.join(TORCHVISION_SETS)}"
        raise DataError(msg)
    make = getattr(torchvision.datasets, name)
    download = {"download": True} if "download" in inspect.signature(make).parameters else {}
    parts = TORCHVISION_SETS[name]
    sets = {}
    for part in choose_parts(parts, split=split, spec=spec):
        try:
            root.mkdir(parents=True, exist_ok=True)
            sets[part] = make(root, **parts[part], **download)
        except (
            OSError,
            RuntimeError,
            ValueError,
            EOFError,
            ImportError,
            tarfile.TarError,
            zipfile.BadZipFile,
        ) as error:
            reason = " ".join(str(error).split())
            msg = (
                f"{spec} ({part}) could not be downloaded to or read from {root}: {reason}; put its files "
                f"there yourself, as torchvision.datasets.{name} expects them, or pass another data root"
            )
            raise DataError(msg) from error
    return _set_source(sets, spec=spec)


def _digits_source(*, spec: str, split: str | None) -> Source:
    with needs_extra("design"):
        from sklearn.datasets import load_digits
    choose_parts(["all"], split=split, spec=spec)
    digits: Any = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)  # 0 to 16
    labels = digits.target.astype(np.int64)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return array_source({"all": (images, labels)}, classes=None, spec=spec, sha256=digest)


def _set_source(sets: Mapping[str, Any], *, spec: str) -> Source:
    """Make a source of torch-style data sets: sized, indexable, each item an image and a label."""
    labels: list[NDArray[np.int64]] = []
    owners: list[tuple[Any, int]] = []
    digest = hashlib.sha256()
    first = next(iter(sets.values()))
    classes = getattr(first, "classes", None)
    classes = tuple(map(str, classes)) if classes is not None else None
    for made in sets.values():
        if not (hasattr(made, "__len__") and hasattr(made, "__getitem__")):
            msg = f"{spec} gave a {type(made).__name__}: it must give a set with __len__ and __getitem__"
            raise DataError(msg)
        found = check_labels(_set_labels(made, spec=spec), images=len(made), classes=classes, spec=spec)
        labels.append(found)
        owners += [(made, i) for i in range(len(made))]
        digest.update(f"{len(found)}:".encode() + found.tobytes())
        if isinstance(pixels := getattr(made, "data", None), np.ndarray | torch.Tensor):
            digest.update(np.ascontiguousarray(pixels).data)
        else:
            for item in range(0, len(made), 1 + len(made) // _HASHED_ITEMS):
                digest.update(_as_image(_item(made, item, spec=spec)[0], name=f"{spec}: item {item}").tobytes())
    every = np.concatenate(labels)
    stops = np.cumsum([len(found) for found in labels])
    lock = threading.Lock()  # a set made for torch's worker processes need not be safe for threads

    def read(index: int) -> Image.Image:
        made, item = owners[index]
        with lock:
            return _as_image(_item(made, item, spec=spec)[0], name=f"{spec}: item {item}")

    return Source(
        classes=classes or tuple(map(str, range(int(every.max()) + 1))),
        labels=every,
        parts={part: np.arange(stop - len(found), stop) for part, found, stop in zip(sets, labels, stops, strict=True)},
        read=read,
        sha256=digest.hexdigest(),
    )


def _set_labels(made: Any, *, spec: str) -> Any:
    """Return the labels of a torch-style set: from the attribute where it keeps them, else by reading every item."""
    for attribute in ("targets", "labels", "_labels"):
        found = getattr(made, attribute, None)
        if found is not None and np.ndim(found) == 1 and len(found) == len(made):
            return found
    return np.array([_item(made, i, spec=spec)[1] for i in range(len(made))])


def _item(made: Any, index: int, *, spec: str) -> tuple[Any, Any]:
    try:
        image, label = made[index]
    except Exception as error:  # the user's code may raise anything
        msg = f"{spec}: item {index} is not an (image, label) pair: {type(error).__name__}: {error}"
        raise DataError(msg) from error
    return image, label


def _as_image(found: Any, *, name: str) -> Image.Image:
    if isinstance(found, Image.Image):
        return found
    pixels = np.asarray(found)
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4))):
        msg = f"{name} is {pixels.dtype} {pixels.shape}: give a PIL image or a uint8 array H×W or H×W×C, untransformed"
        raise DataError(msg)
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels))
