"""Open labelled images by name or path, and divide them into fit, select and test."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isplit.codec.bands import Picture
from isplit.codec.image import preprocess
from isplit.design.inputs.array_files import read_idx_pair, read_npz
from isplit.design.inputs.file_trees import directory_tree, zip_tree
from isplit.design.inputs.folders import read_folders
from isplit.design.inputs.hugging_face import read_hugging_face
from isplit.design.inputs.library_sets import TORCHVISION_SETS, read_digits, read_factory, read_torchvision
from isplit.design.inputs.objects import object_spec, read_object
from isplit.design.inputs.parts import Division, divide
from isplit.design.inputs.source import Source, choose_parts, close_match, notices_of_similar_names
from isplit.design.inputs.tables import FILE_NAME as TABLE_NAME
from isplit.design.inputs.tables import (
    ImageFiles,
    files_below,
    notices_of_files_elsewhere,
    parse_csv,
    read_table,
)
from isplit.errors import DataError, InputError
from isplit.records import DataSource, PartName, Preprocessing
from isplit.records.files import LARGEST_TABLE_BYTES, FileTooLargeError, read_limited
from isplit.text import display_name, utf8_text

SPECS = (
    "a folder or .zip of CLASS/IMAGE or train/CLASS/IMAGE (or with a labels.csv), a .csv or .npz file, "
    "idx:IMAGES,LABELS, torchvision:NAME, hfdata:DIR_OR_NAME, sklearn:digits, ./file.py:factory, package.module:factory"
)
"""The forms of data that `open_data` takes."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dataset:
    """Labelled images, divided into disjoint parts.

    `labels` (int64, one per image) index `classes`; `titles` are the classes' display names, in the same order;
    `groups` are named subsets of the classes. `parts` holds increasing indices into `labels`, and `part_rule` says in
    words how they were made. `notices` say what the user has to know about the labels and the parts.

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
    read: Callable[[int], Picture]
    name_of: Callable[[int], str] = "image {}".format
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {len(images)}" for name, images in self.parts.items())
        return f"Dataset({self.spec}: {len(self)} images of {len(self.classes)} classes; {parts})"

    def image(self, index: int) -> Picture:
        """Decode one image; safe to call from several threads.

        Raises:
            DataError: The image is damaged or gone; the message names it.

        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.read(int(index))

    def pixels(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return one image as the model sees it before normalisation, (H, W, C); safe to call from several threads.

        Raises:
            DataError: The image is damaged or gone, or has no pixels of a known range; the message names it.

        """
        return preprocess(self.image(index), preprocessing, name=self.name_of(int(index)))

    def source(self, class_outputs: Sequence[int]) -> DataSource:
        """Return the record of this data; `class_outputs` gives the model output of each class."""
        return DataSource(
            spec=utf8_text(self.spec),
            split=self.split,
            sha256=self.sha256,
            classes=self.classes,
            class_titles=self.titles,
            class_outputs=tuple(class_outputs),
            part_images={part: len(indices) for part, indices in self.parts.items()},
            part_rule=self.part_rule,
        )


def open_data(data: Any, *, split: str | None = None, seed: int = 0, data_root: Path | None = None) -> Dataset:
    """Open labelled images by path or name, or take those that a program holds, without decoding them.

    Args:
        data: A path or a name (`SPECS`): a directory or .zip of class folders, perhaps in train/val/test folders and
            perhaps with a classes.json, or with a labels.csv; a .csv of paths and labels; an .npz file with `images`,
            `labels` and perhaps `classes`; `idx:IMAGES,LABELS`; `torchvision:NAME`; `hfdata:DIR_OR_NAME`;
            `sklearn:digits`; or `./file.py:factory` or `package.module:factory`, a function that returns a sized,
            indexable set of (PIL image or H×W×C uint8 array, label), perhaps with `classes`. Or the data itself: a pair
            (images, labels) of arrays, a pandas frame with columns of paths and labels, a torch Dataset or
            DataLoader, a Hugging Face dataset, or a dictionary of these by part.
        split: Use only this part or part folder, as if it were all there is.
        seed: Seed of the division into parts, where the data is not divided.
        data_root: Where torchvision's sets are, or are downloaded to; by default a folder in the user's cache.

    Parts: train, val and test become fit, select and test. With train and one of the others, that one is the test part
    and a tenth of each class of train is held out as select. Undivided data is divided 80/10/10, class by class.

    Raises:
        InputError: a negative seed.
        DataError: unknown or missing data, fewer than two classes, a class without images to fit on, labels that do
            not fit the images or classes, no part called `split`, a damaged or oversized file.
        MissingExtraError: the library that has the set is not installed.

    Examples:
        >>> isplit.open_data("photos")
        Dataset(photos: 60 images of 3 classes; fit 33, select 3, test 24)

    """
    if not 0 <= seed < 2**64:
        msg = f"seed is {seed}; give 0 or more, and less than 2^64"
        raise InputError(msg)
    if isinstance(data, str | os.PathLike):
        spec = os.fspath(data)
        source = _open_source(spec, split=split, data_root=data_root)
    else:
        spec = object_spec(data)
        source = read_object(data, spec=spec, split=split)
    if len(source.classes) < 2:
        msg = (
            f"{spec} has only one class, {''.join(source.classes)!r}: there is nothing to tell apart{_tables_in(data)}"
        )
        raise DataError(msg)
    division = divide(source, spec=spec, seed=seed)
    source.labels.setflags(write=False)
    return Dataset(
        spec=spec,
        split=split,
        classes=source.classes,
        titles=_distinct_titles(source),
        groups=source.groups,
        labels=source.labels,
        parts=division.parts,
        part_rule=division.rule,
        sha256=source.sha256,
        read=source.read,
        name_of=source.name_of,
        notices=(*source.notices, *division.notices, *_notices_of_classes(source, division)),
    )


def _tables_in(data: Any) -> str:
    """Return a hint at tables in a folder, of which one may give the labels that its folders do not."""
    folder = Path(data) if isinstance(data, str | os.PathLike) else None
    if folder is None or not folder.is_dir():
        return ""
    tables = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
    if not tables:
        return ""
    return f". If {display_name(tables[0])} holds the labels, give its path as the data, or call it {TABLE_NAME}"


def _notices_of_classes(source: Source, division: Division) -> tuple[str, ...]:
    """Name the classes without any image, those without one to fit on, and those with similar names.

    Classes that the division has reported are not named again.
    """
    counts = np.bincount(source.labels, minlength=len(source.classes))
    fit_counts = np.bincount(source.labels[division.parts["fit"]], minlength=len(source.classes))
    notices: list[str] = []
    for names, what in (
        ([name for name, count in zip(source.classes, counts, strict=True) if count == 0], "no image at all"),
        (
            [
                name
                for name, count, fit_count in zip(source.classes, counts, fit_counts, strict=True)
                if count and not fit_count and not division.notices
            ],
            "no image to fit on",
        ),
    ):
        if names:
            listed = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
            notices.append(f"{len(names)} of the {len(source.classes)} classes have {what}: {listed}")
    return (*notices, *notices_of_similar_names(source.classes))


def _distinct_titles(source: Source) -> tuple[str, ...]:
    """Return the classes' display names; equal ones are told apart, as "crane (n01)" and "crane (n02)"."""
    titles = [source.titles.get(name, name) for name in source.classes]
    counts = Counter(titles)
    named = zip(titles, source.classes, strict=True)
    return tuple(title if counts[title] == 1 else f"{title} ({name})" for title, name in named)


_CLASSES_IN_ORDER = 100


def balanced_order(labels: ArrayLike, indices: ArrayLike, *, seed: int) -> NDArray[np.int64]:
    """Return `indices` in a seeded random order in which every prefix is balanced over the classes.

    Each class's indices are shuffled, then the classes take turns; a class that has run out is passed over. So the
    first n hold each class equally often, give or take one, as long as it lasts, and are the same for every n. The
    order in which `indices` are given does not matter. Within a turn, the classes come in the order of their labels;
    more than 100 classes come in a seeded random order, so that n images of fewer classes are no choice by label.
    """
    labels, indices = np.asarray(labels), np.sort(np.asarray(indices, dtype=np.int64))
    turns, ranks, shuffled = [], [], []
    present = np.unique(labels[indices])
    rank_of = np.arange(len(present))
    if len(present) > _CLASSES_IN_ORDER:
        rank_of = np.random.default_rng([seed, len(present), 2]).permutation(rank_of)
    for label, rank in zip(present, rank_of, strict=True):
        members = indices[labels[indices] == label]
        shuffled.append(np.random.default_rng([seed, int(label), 1]).permutation(members))
        turns.append(np.arange(len(members)))
        ranks.append(np.full(len(members), rank))
    if not shuffled:
        return indices
    return np.concatenate(shuffled)[np.lexsort((np.concatenate(ranks), np.concatenate(turns)))]


def _open_source(spec: str, *, split: str | None, data_root: Path | None) -> Source:
    kind, colon, rest = spec.partition(":")
    path = Path(spec).expanduser()
    if kind == "python":
        msg = f"{spec} was held in memory by a program: pass the data itself, from Python"
        raise DataError(msg)
    if kind == "torchvision":
        return read_torchvision(rest, spec=spec, split=split, root=data_root)
    if kind == "hfdata":
        return read_hugging_face(rest, spec=spec, split=split)
    if kind == "sklearn" and rest == "digits":
        return read_digits(spec=spec, split=split)
    if kind == "idx" and rest.count(",") == 1:
        choose_parts(["all"], split=split, spec=spec)
        images, labels = (Path(name).expanduser() for name in rest.split(","))
        return read_idx_pair(images, labels, spec=spec)
    if path.exists() and (path.is_dir() or path.suffix.lower() in (".zip", ".npz", ".csv", ".tsv")):
        return _open_path(path, spec=spec, split=split)
    known = ("torchvision", "sklearn", "idx", "hfdata")
    if colon and not get_close_matches(kind, known, cutoff=0.8):
        return read_factory(spec=spec, split=split)
    hint = close_match(rest or kind, TORCHVISION_SETS, prefix="torchvision:")
    what = "is neither a folder nor a kind of file that is understood" if path.exists() else "is not there"
    msg = f"{spec!r} is not a kind of data that is understood" if colon else f"{spec!r} {what}"
    raise DataError(f"{msg}{hint}; data is {SPECS}")


def _open_path(path: Path, *, spec: str, split: str | None) -> Source:
    suffix = "" if path.is_dir() else path.suffix.lower()
    if suffix == ".npz":
        return read_npz(path, spec=spec, split=split)
    if suffix in (".csv", ".tsv"):
        columns = parse_csv(_content(path, spec=spec), name=spec)
        elsewhere = notices_of_files_elsewhere(columns, path.parent, spec=spec)
        return read_table(columns, files_below(path.parent), spec=spec, split=split, notices=elsewhere)
    tree = zip_tree(path) if suffix == ".zip" else directory_tree(path)
    if TABLE_NAME not in tree.files:
        return read_folders(tree, spec=spec, split=split)
    notice = f"{spec}: the labels were taken from its {TABLE_NAME}, not from the names of its folders"
    files = files_below(path) if path.is_dir() else ImageFiles(exists=tree.files.__contains__, read=tree.read)
    columns = parse_csv(tree.read(TABLE_NAME), name=f"{spec}: {TABLE_NAME}")
    elsewhere = notices_of_files_elsewhere(columns, path, spec=spec) if path.is_dir() else ()
    return read_table(
        columns,
        files,
        spec=spec,
        split=split,
        notices=[notice, *tree.notices, *elsewhere],
    )


def _content(path: Path, *, spec: str) -> bytes:
    try:
        return read_limited(path, limit_bytes=LARGEST_TABLE_BYTES, kind="a table of labels")
    except FileTooLargeError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        msg = f"{spec} cannot be read: {error.strerror or error}"
        raise DataError(msg) from error
