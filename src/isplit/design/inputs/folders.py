"""Read folders of images: one folder for each class, perhaps inside one folder for each part."""

import hashlib
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isplit.codec.image import decode_image
from isplit.design.inputs.file_trees import FileTree
from isplit.design.inputs.source import PART_NAMES, Source, choose_parts
from isplit.errors import DataError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The files of a folder that count as images (torchvision's list); other files are ignored."""

MAX_HASHED_BYTES = 2 << 30
"""Folders up to this size are hashed whole."""


def read_folders(tree: FileTree, *, spec: str, split: str | None) -> Source:
    """Read class folders of images, or part folders of class folders, or either inside one enclosing folder.

    Classes are sorted by name, and the files of a class by their path.

    Raises:
        DataError: There are no images, a class folder is empty, a part has a class that the first part lacks, or there
            is no part called `split`.

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
        part_samples = [(path, label) for label, name in enumerate(classes) for path in sorted(images.get(name, ()))]
        parts[part] = np.arange(len(samples), len(samples) + len(part_samples))
        samples += part_samples
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


def _find_parts(tree: FileTree, *, split: str | None, spec: str) -> tuple[str, dict[str, str]]:
    """Return the path of the root in the tree and the folder of each part, both with "/" at the end unless empty."""
    images = [path for path in tree.files if path.lower().endswith(IMAGE_EXTENSIONS)]
    if not any("/" in path for path in images):
        msg = f"{spec} holds no images: expected CLASS/IMAGE or train/CLASS/IMAGE ({', '.join(IMAGE_EXTENSIONS)})"
        raise DataError(msg)
    prefix, direct, nested = _enter_enclosing_folders(images, split=split)
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


def _enter_enclosing_folders(images: Sequence[str], *, split: str | None) -> tuple[str, set[str], set[str]]:
    """Go down while there is only one folder and it is no part.

    Returns:
        The path of the root; its folders that hold images; and its folders that hold only folders of images.

    """
    prefix = ""
    while True:
        paths = [path.removeprefix(prefix).split("/") for path in images if path.startswith(prefix)]
        direct = {pieces[0] for pieces in paths if len(pieces) == 2}
        nested = {pieces[0] for pieces in paths if len(pieces) > 2} - direct
        if direct or len(nested) != 1:
            return prefix, direct, nested
        (name,) = nested
        if name == split or name.lower() in PART_NAMES:
            return prefix, direct, nested
        prefix += f"{name}/"


def _images_by_class(tree: FileTree, folder: str, *, spec: str) -> dict[str, list[str]]:
    """Return the paths of the images of each class folder in `folder`, at any depth below it."""
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
    tree: FileTree, path: str, classes: Sequence[str], *, spec: str
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
