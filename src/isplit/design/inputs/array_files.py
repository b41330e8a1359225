"""Make sources from arrays: .npz files, IDX files, and sets in memory."""

import gzip
import hashlib
import math
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isplit.codec.bands import MAX_CHANNELS, Picture, plain_picture
from isplit.design.inputs.files import check_bytes, file_sha256, open_zip
from isplit.design.inputs.source import Source, check_labels, choose_parts, part_name
from isplit.errors import DataError
from isplit.records.files import open_ordinary

MAX_ARRAY_BYTES = 2**33

# The largest factor by which deflate can shrink anything.
_DEFLATE_RATIO = 1032


def array_source(
    parts: Mapping[str, tuple[NDArray[np.uint8], Any]], *, classes: Sequence[str] | None, spec: str, sha256: str
) -> Source:
    """Make a source of uint8 images N×H×W[×C] and their labels, by part; without names, classes are "0", "1", ..."""
    for images, _ in parts.values():
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            msg = f"{spec}: images must be uint8 N×H×W or N×H×W×C, not {images.dtype} {images.shape}"
            raise DataError(msg)
        if images.size and images.max() == 1:
            msg = f"{spec}: images hold only the values 0 and 1 of 255, which is nearly black: multiply them by 255"
            raise DataError(msg)
        if images.ndim == 4 and channels_come_first(images.shape[1:]):
            height, width = images.shape[2:]
            msg = (
                f"{spec}: images of shape {images.shape} have {width} channels of {images.shape[1]} x {height} pixels; "
                "if their channels come first, give images.transpose(0, 2, 3, 1)"
            )
            raise DataError(msg)
    labels = [
        check_labels(labels_of_part, images=len(images), classes=classes, spec=spec)
        for images, labels_of_part in parts.values()
    ]
    arrays = [images[..., 0] if images.shape[3:] == (1,) else images for images, _ in parts.values()]
    starts = np.cumsum([0, *map(len, arrays)])

    def read(index: int) -> Picture:
        part = int(np.searchsorted(starts, index, side="right")) - 1
        return plain_picture(arrays[part][index - starts[part]])

    all_labels = np.concatenate(labels)
    return Source(
        classes=tuple(classes) if classes is not None else tuple(map(str, range(int(all_labels.max()) + 1))),
        labels=all_labels,
        parts={part: np.arange(start, stop) for part, start, stop in zip(parts, starts, starts[1:], strict=False)},
        read=read,
        name_of=lambda index: f"{spec}: image {index}",
        sha256=sha256,
    )


def channels_come_first(shape: Sequence[int]) -> bool:
    """Return whether a picture's shape looks like C×H×W: its first extent is far smaller than its last."""
    return len(shape) == 3 and shape[0] <= MAX_CHANNELS and shape[2] > 4 and 2 * shape[0] <= min(shape[1:])


def read_npz(path: Path, *, spec: str, split: str | None) -> Source:
    """Read `images`, `labels` and optionally `classes`, or arrays by part such as `train_images` and `train_labels`.

    Images are uint8 N×H×W[×C], or floats in [0, 1], which are scaled and rounded.

    Raises:
        DataError: arrays missing, of the wrong kind, too large or twice in the file, pickled objects, a damaged file.

    """
    with open_zip(path) as archive:
        for info in archive.infolist():
            check_bytes(info.file_size, MAX_ARRAY_BYTES, name=f"{path}: {info.filename}")
    try:
        with np.load(path, allow_pickle=False) as file:
            if twice := [name for name, count in Counter(file.files).items() if count > 1]:
                msg = f"{spec} has the array {twice[0]} more than once: save each under a name of its own"
                raise DataError(msg)
            names = {"all": ("images", "labels")} if "images" in file else {}
            for array in file.files:
                prefix, _, suffix = array.partition("images")
                if array != "images" and (part := part_name(prefix + suffix)) is not None:
                    names[part] = (array, f"{prefix}labels{suffix}")
            if not names:
                msg = f"{spec} has the arrays {', '.join(file.files)}: it needs images and labels"
                raise DataError(msg)
            arrays = {}
            for part in choose_parts(names, split=split, spec=spec):
                images, labels = (file[name] for name in names[part])
                arrays[part] = (_as_bytes(images, spec=spec), labels)
            classes = [str(name) for name in file["classes"]] if "classes" in file else None
    except KeyError as error:
        msg = f"{spec} lacks an array: {error.args[0]}; images need labels of the same name"
        raise DataError(msg) from error
    except (ValueError, OSError, EOFError, MemoryError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        msg = f"{spec} cannot be read: {error}; save plain arrays with numpy.savez (objects are not unpickled)"
        raise DataError(msg) from error
    return array_source(arrays, classes=classes, spec=spec, sha256=file_sha256(path))


def _as_bytes(images: NDArray[Any], *, spec: str) -> NDArray[np.uint8]:
    if images.dtype.kind != "f":
        return images
    if images.size and not 0 <= images.min() <= images.max() <= 1:  # also false for NaN
        msg = f"{spec}: float images must lie in [0, 1], not [{images.min()}, {images.max()}]: scale them or save uint8"
        raise DataError(msg)
    return np.round(images * 255).astype(np.uint8)


def read_idx_pair(images: Path, labels: Path, *, spec: str) -> Source:
    """Read images and labels from two IDX files (the format of MNIST), each perhaps compressed (.gz).

    Raises:
        DataError: not IDX, not bytes, truncated or too long, or sizes that do not fit each other.

    """
    digest = hashlib.sha256((file_sha256(images) + file_sha256(labels)).encode()).hexdigest()
    arrays = {"all": (_read_idx(images), _read_idx(labels))}
    return array_source(arrays, classes=None, spec=spec, sha256=digest)


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file: 0, 0, type (8: bytes), number of dimensions, each as big-endian uint32, then the values."""
    compressed = path.suffix == ".gz"
    try:
        with gzip.open(path) if compressed else open_ordinary(path) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
                msg = f"{path} is not an IDX file of bytes: it starts with {magic.hex(' ')!r}, not 00 00 08 01 (or 03)"
                raise DataError(msg)
            header = file.read(4 * magic[3])
            shape = struct.unpack(f">{len(header) // 4}I", header[: len(header) // 4 * 4])
            size = math.prod(shape)
            # What the file cannot hold is refused before memory is allocated for it.
            possible = path.stat().st_size * (_DEFLATE_RATIO if compressed else 1)
            check_bytes(size, MAX_ARRAY_BYTES, name=str(path))
            values = file.read(size) if len(shape) == magic[3] and size <= possible else b""
            if len(shape) != magic[3] or len(values) != size or file.read(1):
                msg = f"{path} is truncated or too long: its header says {shape} bytes; download it again"
                raise DataError(msg)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{path} cannot be read: {error}; download it again"
        raise DataError(msg) from error
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)
