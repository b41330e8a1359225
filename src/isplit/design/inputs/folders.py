"""Sources: images and labels as they were found, read in place from folders and zips."""

import difflib
import hashlib
import io
import json
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isplit.codec.image import decode_image
from isplit.errors import DataError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The files of a folder that count as images (torchvision's list); others are ignored."""

PART_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What a part may be called, and what it is called here."""

MAX_HASHED_BYTES = 2 << 30
"""Folders up to this size are hashed whole."""

MAX_MEMBER_BYTES = 2**28


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Images and labels as they were found.

    `parts` maps the names found there ("train", "val", "test", or any one name) to indices into `labels`; `read`
    gives one image and may be called from several threads. The readers that make a source neither extract to disk nor
    unpickle, and check sizes before memory is taken.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    parts: Mapping[str, NDArray[np.int64]]
    read: Callable[[int], Image.Image]
    sha256: str
    titles: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def choose_parts(available: Iterable[str], *, split: str | None, spec: str) -> tuple[str, ...]:
    """Return the parts to read: the one that `split` names, or all.

    Raises:
        DataError: there is no such part; the message lists those there are.

    """
    available = tuple(available)
    if split is None:
        return available
    if split in available:
        return (split,)
    known = f"it has {', '.join(available)}" if len(available) > 1 else "it is not divided: leave the split out"
    msg = f"{spec} has no part {split!r}: {known}"
    raise DataError(msg)


def check_labels(labels: Any, *, images: int, classes: Sequence[str] | None, spec: str) -> NDArray[np.int64]:
    """Return the labels as int64 after making sure that each image has one and each is the index of a class.

    Raises:
        DataError: not integers, not one per image, negative, or beyond the classes.

    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        msg = f"{spec}: labels must be one integer per image, not {labels.dtype} of shape {labels.shape}"
        raise DataError(msg)
    if len(labels) != images:
        msg = f"{spec} has {images} images but {len(labels)} labels: give one label per image"
        raise DataError(msg)
    if images == 0:
        msg = f"{spec} holds no images"
        raise DataError(msg)
    low, high = int(labels.min()), int(labels.max())
    # Without names, the largest label tells the number of classes; each of them needs an image.
    count = len(classes) if classes is not None else images
    if low < 0 or high >= count:
        wrong = low if low < 0 else high
        what = "images" if classes is None else "classes"
        msg = f"{spec}: label {wrong} is out of range: with {count} {what}, labels are 0 to {count - 1}"
        raise DataError(msg)
    return labels.astype(np.int64)


def close_match(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Return " (did you mean A, B?)" for the known names that resemble `name`, or nothing; case is ignored."""
    lowered = {other.lower(): other for other in known}
    found = [prefix + lowered[other] for other in difflib.get_close_matches(name.lower(), lowered, cutoff=0.6)]
    return f" (did you mean {', '.join(found)}?)" if found else ""


# --- folders, on disk or in a zip ---


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """Files below a root: their sizes by path ("/" between folders), all folders, and how to read a file."""

    files: Mapping[str, int]
    folders: frozenset[str]
    read: Callable[[str], bytes]
    sha256: str | None  # None: there is no single file to hash; the files that are used are hashed one by one


def directory_tree(root: Path) -> Tree:
    """List a directory; links are followed, hidden files left out."""
    files: dict[str, int] = {}
    folders: set[str] = set()
    for where, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = [name for name in subfolders if not _is_hidden(name)]
        below = Path(where).relative_to(root)
        folders.update((below / name).as_posix() for name in subfolders)
        for name in names:
            path = Path(where, name)
            # A dangling link is left out like a hidden file.
            if not _is_hidden(name) and path.is_file():
                files[(below / name).as_posix()] = path.stat().st_size

    def read(name: str) -> bytes:
        check_bytes(files[name], MAX_MEMBER_BYTES, name=f"{root / name}")
        return (root / name).read_bytes()

    return Tree(files=files, folders=frozenset(folders), read=read, sha256=None)


def zip_tree(path: Path) -> Tree:
    """List a zip file, to be read in place."""
    archive = open_zip(path)
    # One handle under a lock serves all threads: decoding the images, which takes longest, still runs in parallel.
    lock = threading.Lock()
    members: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    for info in archive.infolist():
        name = info.filename.strip("/")
        if any(_is_hidden(piece) for piece in name.split("/")):
            continue
        check_bytes(info.file_size, MAX_MEMBER_BYTES, name=f"{path}: {name}")
        if not info.is_dir():
            members[name] = info
        folder = name if info.is_dir() else name.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]

    def read(name: str) -> bytes:
        try:
            with lock:
                return archive.read(members[name])
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            msg = f"{path}: {name} cannot be read: {error}; make the zip again (plain deflate, no password)"
            raise DataError(msg) from error

    sizes = {name: info.file_size for name, info in members.items()}
    return Tree(files=sizes, folders=frozenset(folders), read=read, sha256=file_sha256(path))


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip file for reading.

    Raises:
        DataError: it is damaged or not a zip.

    """
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        msg = f"{path} cannot be read as a zip file: {error}; download or make it again"
        raise DataError(msg) from error


def read_tree(tree: Tree, *, spec: str, split: str | None) -> Source:
    """Read class folders of images, or part folders of class folders, or either inside one enclosing folder.

    Classes are sorted by name, and the files of a class by their path.

    Raises:
        DataError: no images, an empty class folder, a part with classes of its own, an unknown split.

    """
    prefix, part_folders = _find_parts(tree, split=split, spec=spec)
    classes: tuple[str, ...] | None = None
    samples: list[tuple[str, int]] = []
    parts: dict[str, NDArray[np.int64]] = {}
    for part, folder in part_folders.items():
        images = _images_by_class(tree, folder, spec=spec)
        classes = classes or tuple(sorted(images))
        if extra := sorted(images.keys() - set(classes)):
            msg = f"{spec}: {part} has a class {extra[0]!r} that {next(iter(part_folders))} lacks: add or remove it"
            raise DataError(msg)
        found = [(path, label) for label, name in enumerate(classes) for path in sorted(images.get(name, ()))]
        parts[part] = np.arange(len(samples), len(samples) + len(found))
        samples += found
    assert classes is not None
    titles, groups = _read_titles(tree, f"{prefix}classes.json", classes, spec=spec)

    def read(index: int) -> Image.Image:
        path = samples[index][0]
        try:
            content = tree.read(path)
        except OSError as error:
            msg = f"{spec}: {path} cannot be read: {error.strerror or error}"
            raise DataError(msg) from error
        return decode_image(io.BytesIO(content), name=f"{spec}: {path}")

    listing = sorted((path, tree.files[path], label) for path, label in samples)
    return Source(
        classes=classes,
        labels=np.array([label for _, label in samples], dtype=np.int64),
        parts=parts,
        read=read,
        sha256=tree.sha256 or _listing_sha256(tree, listing),
        titles=titles,
        groups=groups,
    )


def _find_parts(tree: Tree, *, split: str | None, spec: str) -> tuple[str, dict[str, str]]:
    """Return the root's path in the tree and the folder of each part, both with "/" at the end unless empty."""
    images = [path for path in tree.files if path.lower().endswith(IMAGE_EXTENSIONS)]
    if not any("/" in path for path in images):
        msg = f"{spec} holds no images: expected CLASS/IMAGE or train/CLASS/IMAGE ({', '.join(IMAGE_EXTENSIONS)})"
        raise DataError(msg)
    prefix = ""
    while True:
        below = [path.removeprefix(prefix).split("/") for path in images if path.startswith(prefix)]
        # Folders of images hold classes' images; folders of folders may be parts.
        direct = {pieces[0] for pieces in below if len(pieces) == 2}
        nested = {pieces[0] for pieces in below if len(pieces) > 2} - direct
        if len(nested) != 1 or direct or (only := next(iter(nested))).lower() in PART_NAMES or only == split:
            break
        prefix += f"{only}/"
    if split in nested:
        return prefix, {split: f"{prefix}{split}/"}
    named = {PART_NAMES[name.lower()]: name for name in sorted(nested) if name.lower() in PART_NAMES}
    others = (direct | nested) - set(named.values())
    looks_divided = any(name in nested or name.lower() in PART_NAMES for name in others)
    if not named or (others and not looks_divided):  # a class may well be called "train", beside "car" and "plane"
        choose_parts(["all"], split=split, spec=spec)
        return prefix, {"all": prefix}
    if others and split is None:
        msg = (
            f"{spec} has part folders ({', '.join(sorted(named.values()))}) beside {', '.join(sorted(others))}: "
            f"pass one of {', '.join(sorted(nested))} as the split, or move the others away"
        )
        raise DataError(msg)
    ordered = [part for part in ("train", "val", "test") if part in named]
    return prefix, {part: f"{prefix}{named[part]}/" for part in choose_parts(ordered, split=split, spec=spec)}


def _images_by_class(tree: Tree, folder: str, *, spec: str) -> dict[str, list[str]]:
    """Return the image paths of each class folder in `folder`, at any depth below it."""
    images: dict[str, list[str]] = {}
    for path in tree.folders:
        if path.startswith(folder) and path != folder.rstrip("/"):
            images.setdefault(path[len(folder) :].split("/")[0], [])
    for path in tree.files:
        name, inside, _ = path[len(folder) :].partition("/")
        if inside and path.startswith(folder) and path.lower().endswith(IMAGE_EXTENSIONS):
            images[name].append(path)
    if empty := sorted(name for name, paths in images.items() if not paths):
        msg = f"{spec}: the class folder {folder}{empty[0]} is empty: put images into it or remove it"
        raise DataError(msg)
    return images


def _read_titles(
    tree: Tree, path: str, classes: Sequence[str], *, spec: str
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Read classes.json, {"names": {folder: title}, "groups": {name: [folders]}}, if it is there."""
    if path not in tree.files:
        return {}, {}
    try:
        content = json.loads(tree.read(path))
        titles = {str(name): str(title) for name, title in content.get("names", {}).items()}
        groups = {str(name): tuple(map(str, members)) for name, members in content.get("groups", {}).items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        msg = (
            f'{spec}: {path} is not of the form {{"names": {{folder: title}}, "groups": {{name: [folders]}}}}: {error}'
        )
        raise DataError(msg) from error
    for group, members in groups.items():
        unknown = sorted(set(members) - set(classes))
        if unknown or not members:
            what = f"has the unknown class {unknown[0]!r}" if unknown else "is empty"
            msg = f"{spec}: {path}: group {group!r} {what}: name class folders"
            raise DataError(msg)
    return titles, groups


# --- helpers ---


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read piece by piece.

    Raises:
        DataError: it cannot be read.

    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise DataError(msg) from error


def _listing_sha256(tree: Tree, listing: Sequence[Sequence[Any]]) -> str:
    """Hash names, sizes, labels and contents of files; of more than `MAX_HASHED_BYTES`, the contents of every n-th."""
    digest = hashlib.sha256(json.dumps(listing).encode())
    total = sum(tree.files[entry[0]] for entry in listing)
    for entry in listing[:: 1 + total // MAX_HASHED_BYTES]:
        try:
            digest.update(tree.read(entry[0]))
        except OSError as error:
            msg = f"cannot read {entry[0]}: {error.strerror or error}"
            raise DataError(msg) from error
    return digest.hexdigest()


def check_bytes(size: int, limit: int, *, name: str) -> None:
    """Raise a DataError if `size` is more than `limit` bytes."""
    if size > limit:
        msg = f"{name} would take {size} bytes, more than the {limit} that are read: is it what it should be?"
        raise DataError(msg)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))
