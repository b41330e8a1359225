"""Read folders of images: one folder for each class, optionally inside one folder for each part."""

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isplit.codec.image import IMAGE_SUFFIXES, decode_image
from isplit.codec.image_kinds import unread_files
from isplit.design.inputs.class_files import FILE_NAME, ClassFile, parse_class_file
from isplit.design.inputs.file_trees import FileTree
from isplit.design.inputs.source import Source, choose_parts, part_name
from isplit.errors import DataError
from isplit.text import display_name

MAX_HASHED_BYTES = 2 << 30
"""Folders up to this size are hashed whole."""


def read_folders(tree: FileTree, *, spec: str, split: str | None) -> Source:
    """Read class folders of images, or part folders of class folders, or either inside one enclosing folder.

    Classes are sorted by name (unless a classes.json gives another order), and the files of a class by their path.
    Names are taken in Unicode's composed form, and bytes that are not UTF-8 as escapes.

    Raises:
        DataError: There are no images, a class folder is empty, a part has a class that the first part lacks, two
            folders have one name, folders that look like parts are not called so, folders are called like images and
            their masks, or there is no part called `split`.

    """
    prefix, part_folders = _find_parts(tree, split=split, spec=spec)
    images_of_parts = {part: _images_by_class(tree, folder, spec=spec) for part, folder in part_folders.items()}
    first_part = next(iter(part_folders))
    classes = tuple(sorted(images_of_parts[first_part]))
    for part, images in images_of_parts.items():
        if extra := sorted(images.keys() - set(classes)):
            msg = f"{spec}: {part} has a class {extra[0]!r} that {first_part} lacks: add or remove it"
            raise DataError(msg)
    about = ClassFile(order=classes)
    has_class_file = (path := f"{prefix}{FILE_NAME}") in tree.files
    if has_class_file:
        about = parse_class_file(_read(tree, path, spec=spec), classes, name=f"{spec}: {display_name(path)}")
    else:
        _check_no_masks(classes, spec=spec)
    samples: list[tuple[str, int]] = []
    parts: dict[str, NDArray[np.int64]] = {}
    for part, images in images_of_parts.items():
        part_samples = [
            (path, label) for label, name in enumerate(about.order) for path in sorted(images.get(name, ()))
        ]
        parts[part] = np.arange(len(samples), len(samples) + len(part_samples))
        samples += part_samples

    def read(index: int) -> Image.Image:
        return decode_image(io.BytesIO(_read(tree, samples[index][0], spec=spec)), name=name_of(index))

    def name_of(index: int) -> str:
        return f"{spec}: {display_name(samples[index][0])}"

    listing = sorted((path, tree.files[path], label) for path, label in samples)
    return Source(
        classes=about.order,
        labels=np.array([label for _, label in samples], dtype=np.int64),
        parts=parts,
        read=read,
        name_of=name_of,
        sha256=tree.sha256 or _listing_sha256(tree, listing),
        titles=about.titles,
        groups=about.groups,
        notices=(
            *tree.notices,
            *about.notices,
            *_notices_of_unread_files(tree, part_folders.values(), spec=spec),
            *_notices_of_strays(tree, {prefix, *part_folders.values()}, spec=spec),
            *(() if has_class_file else _notices_of_subfolders(images_of_parts, part_folders, spec=spec)),
        ),
    )


def _read(tree: FileTree, path: str, *, spec: str) -> bytes:
    try:
        return tree.read(path)
    except OSError as error:
        msg = f"{spec}: {display_name(path)} cannot be read: {error.strerror or error}"
        raise DataError(msg) from error


def _notices_of_unread_files(tree: FileTree, folders: Iterable[str], *, spec: str) -> tuple[str, ...]:
    below = tuple(folders)
    kinds = unread_files(path for path in tree.files if path.startswith(below))
    if kinds is None:
        return ()
    return (f"{spec}: files of kinds that are not read were left out ({kinds}): convert them to PNG or JPEG",)


def _notices_of_strays(tree: FileTree, folders: Iterable[str], *, spec: str) -> tuple[str, ...]:
    """Count the images that lie beside the class folders, or above them, and so have no class."""
    above = {""}
    for folder in folders:
        pieces = folder.split("/")[:-1]
        above |= {"/".join(pieces[:count]) for count in range(1, len(pieces) + 1)}
    strays = sorted(
        path for path in tree.files if path.lower().endswith(IMAGE_SUFFIXES) and path.rpartition("/")[0] in above
    )
    if not strays:
        return ()
    number = "1 image that lies" if len(strays) == 1 else f"{len(strays)} images that lie"
    return (f"{spec}: {number} in no class folder had to be left out, for example {display_name(strays[0])}",)


def _notices_of_subfolders(
    images_of_parts: Mapping[str, Mapping[str, Sequence[str]]], part_folders: Mapping[str, str], *, spec: str
) -> tuple[str, ...]:
    """Say that class folders hold several folders of images, which might be the classes that were meant."""
    subfolders: dict[str, set[str]] = {}
    for part, images in images_of_parts.items():
        for name, paths in images.items():
            inner = (path.removeprefix(part_folders[part]).split("/")[1:-1] for path in paths)
            subfolders.setdefault(name, set()).update(pieces[0] for pieces in inner if pieces)
    several = {name: inner for name, inner in subfolders.items() if len(inner) > 1}
    if not several:
        return ()
    name = min(several)
    return (
        f"{spec}: {len(several)} of the {len(subfolders)} class folders hold several folders, whose images are taken "
        f"for one class: {name} holds {_listed(several[name])}. If these are the classes, give their folders instead",
    )


# --- parts ---


def _find_parts(tree: FileTree, *, split: str | None, spec: str) -> tuple[str, dict[str, str]]:
    """Return the path of the root in the tree and the folder of each part, both with "/" at the end unless empty."""
    images = [path for path in tree.files if path.lower().endswith(IMAGE_SUFFIXES)]
    if not any("/" in path for path in images):
        msg = f"{spec} holds no images: expected CLASS/IMAGE or train/CLASS/IMAGE ({', '.join(IMAGE_SUFFIXES)})"
        raise DataError(msg)
    prefix, direct, nested = _enter_enclosing_folders(images, split=split)
    if split in nested:
        return prefix, {split: f"{prefix}{split}/"}
    named: dict[str, str] = {}
    for name in sorted(nested):
        if (part := part_name(name)) is not None:
            if part in named:
                msg = f"{spec} has two folders for the part {part}, {named[part]} and {name}: join them, or remove one"
                raise DataError(msg)
            named[part] = name
    others = (direct | nested) - set(named.values())
    looks_divided = any(name in nested or part_name(name) for name in others)
    if not named or (others and not looks_divided):  # a class may well be called "train", beside "car" and "plane"
        choose_parts(["all"], split=split, spec=spec)
        _check_no_parts(images, prefix, direct, nested, has_names=f"{prefix}{FILE_NAME}" in tree.files, spec=spec)
        return prefix, {"all": prefix}
    if others and split is None:
        msg = (
            f"{spec} has part folders ({_listed(named.values())}) beside {_listed(others)}: "
            f"pass one of {_listed(nested)} as the split, or move the others away"
        )
        raise DataError(msg)
    ordered = [part for part in ("train", "val", "test") if part in named]
    return prefix, {
        part: _enter_part(images, f"{prefix}{named[part]}/") for part in choose_parts(ordered, split=split, spec=spec)
    }


def _enter_enclosing_folders(images: Sequence[str], *, split: str | None) -> tuple[str, set[str], set[str]]:
    """Go down while there is only one folder and it is not a part.

    Returns:
        The path of the root; its folders that hold images; and its folders that hold only folders of images.

    """
    prefix = ""
    while True:
        direct, nested = _folders_in(images, prefix)
        if len(direct | nested) != 1:
            return prefix, direct, nested
        (name,) = direct | nested
        inner = _folders_in(images, f"{prefix}{name}/")
        if name == split or part_name(name) is not None or not any(inner):
            return prefix, direct, nested
        prefix += f"{name}/"


def _enter_part(images: Sequence[str], folder: str) -> str:
    """Go down where a part's folder holds only one that is called like a part, too: training_set/training_set/cats."""
    while True:
        direct, nested = _folders_in(images, folder)
        if direct or len(nested) != 1:
            return folder
        (name,) = nested
        if part_name(name) is None:
            return folder
        folder += f"{name}/"


def _folders_in(images: Sequence[str], prefix: str) -> tuple[set[str], set[str]]:
    """Return the folders in `prefix` that hold images, and those that hold only folders of images.

    A folder that is called like a part and holds both counts as one of folders: the images beside them are strays.
    """
    paths = [path.removeprefix(prefix).split("/") for path in images if path.startswith(prefix)]
    nested = {pieces[0] for pieces in paths if len(pieces) > 2}
    direct = {pieces[0] for pieces in paths if len(pieces) == 2}
    direct -= {name for name in nested if part_name(name) is not None}
    return direct, nested - direct


def _check_no_parts(
    images: Sequence[str], prefix: str, direct: set[str], nested: set[str], *, has_names: bool, spec: str
) -> None:
    """Refuse folders that are not classes: parts under other names, or parts without class folders.

    Raises:
        DataError: Folders hold the same subfolders, as parts do, or all of them are called like parts.

    """
    folders = direct | nested
    if has_names:
        return
    if len(folders) > 1 and all(part_name(name) is not None for name in folders):
        msg = (
            f"{spec}: the folders {_listed(folders)} are called like parts and hold images, not class folders: put the "
            "images of each class into a folder of its own, or write a labels.csv"
        )
        raise DataError(msg)
    subfolders: dict[str, set[str]] = {name: set() for name in sorted(nested)}
    for path in images:
        name, *inner = path.removeprefix(prefix).split("/")
        if path.startswith(prefix) and name in subfolders and len(inner) > 1:
            subfolders[name].add(inner[0])
    for first, second in combinations(subfolders, 2):
        shared = subfolders[first] & subfolders[second]
        if len(shared) >= 2 and 2 * len(shared) >= min(len(subfolders[first]), len(subfolders[second])):
            msg = (
                f"{spec}: the folders {first} and {second} hold the same subfolders ({_listed(shared)}), as parts of a "
                f"data set do, not classes. If they are parts, call them train, val and test, or pass one as the split "
                f"({_listed(nested)}); if they are classes, list them in a {FILE_NAME}"
            )
            raise DataError(msg)


def _check_no_masks(classes: Sequence[str], *, spec: str) -> None:
    """Raise a DataError for folders of images and of their masks or annotations, which are no classes."""
    words = {re.sub(r"[\W_]", "", name).casefold() for name in classes}
    if words <= _PICTURES | _ANNOTATIONS and words & _PICTURES and words & _ANNOTATIONS:
        msg = (
            f"{spec}: the folders {_listed(classes)} are called like images and their masks or labels, not like "
            f"classes: write the class of each image into a labels.csv; if they are classes, list them in a {FILE_NAME}"
        )
        raise DataError(msg)


_PICTURES = frozenset("image images img imgs photo photos picture pictures jpegimages inputs".split())
_ANNOTATIONS = frozenset(
    "mask masks label labels annotation annotations annots segmentation segmentations segmentationclass gt groundtruth "
    "targets".split()
)


def _listed(names: Iterable[str], *, most: int = 6) -> str:
    shown = [display_name(name) for name in sorted(names)]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")


# --- classes ---


def _images_by_class(tree: FileTree, folder: str, *, spec: str) -> dict[str, list[str]]:
    """Return the paths of the images of each class folder in `folder`, at any depth below it."""
    images: dict[str, list[str]] = {}
    for path in tree.folders:
        if path.startswith(folder) and path != folder.rstrip("/"):
            images.setdefault(path[len(folder) :].split("/")[0], [])
    for path in tree.files:
        name, inside, _ = path[len(folder) :].partition("/")
        if inside and path.startswith(folder) and path.lower().endswith(IMAGE_SUFFIXES):
            images[name].append(path)
    if empty := sorted(name for name, paths in images.items() if not paths):
        msg = (
            f"{spec}: the class folder {display_name(folder + empty[0])} is empty (it holds no "
            f"{', '.join(IMAGE_SUFFIXES)}): put images into it or remove it"
        )
        raise DataError(msg)
    named = {display_name(name): paths for name, paths in images.items()}
    if len(named) < len(images):
        counts = Counter(map(display_name, images))
        twice = next(name for name, count in counts.items() if count > 1)
        msg = f"{spec}: two class folders are called {twice!r}, in two Unicode forms or encodings: join or rename them"
        raise DataError(msg)
    return named


def _listing_sha256(tree: FileTree, listing: Sequence[Sequence[Any]]) -> str:
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
