"""Open labelled images by name or path, and divide them into fit, select and test."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from isplit.codec.image import preprocess
from isplit.design.inputs.array_files import read_idx_pair, read_npz
from isplit.design.inputs.file_trees import directory_tree, zip_tree
from isplit.design.inputs.folders import read_folders
from isplit.design.inputs.library_sets import TORCHVISION_SETS, read_digits, read_factory, read_torchvision
from isplit.design.inputs.parts import Division, divide
from isplit.design.inputs.source import Source, choose_parts, close_match
from isplit.errors import DataError, InputError
from isplit.records import DataSource, PartName, Preprocessing
from isplit.text import utf8_text

SPECS = (
    "a folder or .zip of CLASS/IMAGE or train/CLASS/IMAGE, an .npz file, idx:IMAGES,LABELS, torchvision:NAME, "
    "sklearn:digits, ./file.py:factory, package.module:factory"
)
"""What `open_data` understands, in words."""


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
    read: Callable[[int], Image.Image]
    name_of: Callable[[int], str]
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {len(images)}" for name, images in self.parts.items())
        return f"Dataset({self.spec}: {len(self)} images of {len(self.classes)} classes; {parts})"

    def image(self, index: int) -> Image.Image:
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

    Example:
        >>> isplit.open_data("photos")
        Dataset(photos: 60 images of 3 classes; fit 33, select 3, test 24)

    """
    if seed < 0:
        msg = f"seed is {seed}; give 0 or more"
        raise InputError(msg)
    source = _open_source(spec, split=split, data_root=data_root)
    if len(source.classes) < 2:
        msg = f"{spec} has only one class, {''.join(source.classes)!r}: there is nothing to tell apart"
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
        notices=(*source.notices, *division.notices, *_notices_of_empty_classes(source, division)),
    )


def _notices_of_empty_classes(source: Source, division: Division) -> tuple[str, ...]:
    """Name the classes without any image; and those without one to fit on, unless the division has told of them."""
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
    return tuple(notices)


def _distinct_titles(source: Source) -> tuple[str, ...]:
    """Return the classes' display names; those that clash are told apart: "crane (n01)" and "crane (n02)"."""
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
    if kind == "torchvision":
        return read_torchvision(rest, spec=spec, split=split, root=data_root)
    if kind == "sklearn" and rest == "digits":
        return read_digits(spec=spec, split=split)
    if kind == "idx" and rest.count(",") == 1:
        choose_parts(["all"], split=split, spec=spec)
        images, labels = (Path(name).expanduser() for name in rest.split(","))
        return read_idx_pair(images, labels, spec=spec)
    if path.is_dir():
        return read_folders(directory_tree(path), spec=spec, split=split)
    if path.is_file() and path.suffix.lower() == ".zip":
        return read_folders(zip_tree(path), spec=spec, split=split)
    if path.is_file() and path.suffix.lower() == ".npz":
        return read_npz(path, spec=spec, split=split)
    known = ("torchvision", "sklearn", "idx")
    if colon and kind not in known and not get_close_matches(kind, known, cutoff=0.8):
        return read_factory(spec=spec, split=split)
    hint = close_match(rest or kind, TORCHVISION_SETS, prefix="torchvision:")
    what = "is neither a folder nor a kind of file that is understood" if path.exists() else "is not there"
    msg = f"{spec!r} is not a kind of data that is understood" if colon else f"{spec!r} {what}"
    raise DataError(f"{msg}{hint}; data is {SPECS}")
