"""The common form in which every reader returns labelled images, and the checks that all readers share."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isplit.codec.bands import Picture
from isplit.errors import DataError

_PART_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "development": "val", "eval": "val",
    "evaluation": "val",
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip

_FILLERS = frozenset(
    ("set", "sets", "data", "dataset", "images", "image", "imgs", "img", "samples", "split", "part", "folder", "the")
)


def part_name(name: str) -> str | None:
    """Return "train", "val" or "test" for the name of a part of a data set, and None for any other name.

    Case does not matter, nor do words that only say that it is a set: "training_set", "TestImages", "val-data".

    >>> part_name("training_set"), part_name("Test Images"), part_name("trainset"), part_name("trains")
    ('train', 'test', 'train', None)
    """
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    words = [word for word in re.split(r"[\W_]+", spaced.lower()) if word and word not in _FILLERS]
    if len(words) != 1:
        return None
    (word,) = words
    for filler in ("", *_FILLERS):
        if filler and not word.endswith(filler):
            continue
        if (part := _PART_WORDS.get(word.removesuffix(filler))) is not None:
            return part
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Labelled images as a reader found them, not yet divided into fit, select and test.

    `parts` maps the names of the parts that the data has ("train", "val", "test", or any one name) to indices into
    `labels`. `read` decodes one image and may be called from several threads; `name_of` is what messages call it.
    `notices` say what the user has to know about the labels. The readers that make a source neither extract files to
    disk nor unpickle anything, and they check sizes before they take memory.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    parts: Mapping[str, NDArray[np.int64]]
    read: Callable[[int], Picture]
    name_of: Callable[[int], str]
    sha256: str
    titles: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def choose_parts(available: Iterable[str], *, split: str | None, spec: str) -> tuple[str, ...]:
    """Return the parts to read: the part that `split` names, or all of them.

    Raises:
        DataError: There is no such part. The message lists the parts that there are.

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
    """Return the labels as int64 of shape (images,), after checking that each is the index of a class.

    Raises:
        DataError: The labels are not integers, not one per image, negative, or beyond the classes.

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
    matches = [prefix + lowered[other] for other in difflib.get_close_matches(name.lower(), lowered, cutoff=0.6)]
    return f" (did you mean {', '.join(matches)}?)" if matches else ""


def notices_of_similar_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Name classes that differ only in what a slip of the hand makes: in case, in spaces, or "1" and "01".

    >>> notices_of_similar_names(["cat", "Cat", "dog"])
    ("the classes 'cat' and 'Cat' differ only in how they are written, and are taken for 2 classes",)
    """
    spellings: dict[str, list[str]] = {}
    for name in classes:
        plain = " ".join(re.split(r"[\s_-]+", name.strip().casefold()))
        key = str(int(float(plain))) if re.fullmatch(r"[0-9]{1,15}(\.0*)?", plain) else plain
        spellings.setdefault(key, []).append(name)
    twins = [names for names in spellings.values() if len(names) > 1]
    shown = [" and ".join(map(repr, names)) for names in twins[:3]]
    if not twins:
        return ()
    number = sum(map(len, twins))
    more = ", and others" if len(twins) > 3 else ""
    return (
        f"the classes {'; '.join(shown)}{more} differ only in how they are written, and are taken for {number} classes",
    )
