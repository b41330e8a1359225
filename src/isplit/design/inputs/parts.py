"""Divide labelled images into the parts fit, select and test."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isplit.design.inputs.source import Source
from isplit.errors import DataError
from isplit.records import PartName

HELD_OUT = 0.1
"""The share of the images of a class that becomes the select part, or the test part, where the data has none."""

_DIVISIBLE = 3
"""A class of so many images gives one to each part."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Division:
    """The indices of the images of each part, the rule in words, and what the user has to know about it."""

    parts: dict[PartName, NDArray[np.int64]]
    rule: str
    notices: tuple[str, ...] = ()


def divide(source: Source, *, spec: str, seed: int) -> Division:
    """Make fit, select and test of the parts that the source has.

    Raises:
        DataError: There is no train part, or there are too few images to hold some out.

    """
    parts = source.parts
    percent = round(100 * HELD_OUT)
    if parts.keys() == {"train", "val", "test"}:
        return Division(
            parts={"fit": parts["train"], "select": parts["val"], "test": parts["test"]},
            rule="fit = train, select = val, test = test",
        )
    if len(parts) == 1:
        ((name, divided),) = parts.items()
        fit, select, test = hold_out(source.labels, divided, parts=2, seed=seed)
        rule = f"select and test = {percent} % each of {name}, held out class by class with seed {seed}; fit = the rest"
    elif len(parts) == 2 and "train" in parts:
        (name,) = parts.keys() - {"train"}
        divided = parts["train"]
        fit, select = hold_out(source.labels, divided, parts=1, seed=seed)
        test = parts[name]
        rule = f"select = {percent} % of train, held out class by class with seed {seed}; fit = the rest; test = {name}"
    else:
        msg = f"{spec} has the parts {', '.join(parts)} but no train: pass one of them as the split"
        raise DataError(msg)
    if not (len(fit) and len(select) and len(test)):
        msg = (
            f"{spec} is too small to divide: give a class at least 3 images, so that one can be held out for each part"
        )
        raise DataError(msg)
    counts = np.bincount(source.labels[divided])
    small = int(((counts > 0) & (counts < _DIVISIBLE)).sum())
    pool = int(counts[counts < _DIVISIBLE].sum())
    notices = ()
    if round(pool * HELD_OUT):
        rule = rule.replace("class by class", f"class by class (classes of fewer than {_DIVISIBLE} images as one)")
        notices = (
            f"{small} of the {len(source.classes)} classes have fewer than {_DIVISIBLE} images: their {pool} images "
            "were divided together, so that a class may be missing from a part. What is said of single classes is "
            "worth little",
        )
    return Division(parts={"fit": fit, "select": select, "test": test}, rule=rule, notices=notices)


def hold_out(
    labels: NDArray[np.int64], indices: NDArray[np.int64], *, parts: int, seed: int
) -> list[NDArray[np.int64]]:
    """Return the rest and `parts` held-out parts, each with `HELD_OUT` of every class, each sorted.

    The rule is fixed, so that a study can be repeated: class c's indices are permuted by
    `numpy.random.default_rng([seed, c])`, and each part in turn takes the next round(n * HELD_OUT) of them. A class of
    three images or more gives at least one to each part. The images of the classes that have fewer are divided
    together, as if they were one class whose number follows the last.
    """
    pieces: list[list[NDArray[np.int64]]] = [[indices[:0]] for _ in range(parts + 1)]
    pool: list[NDArray[np.int64]] = []

    def deal(members: NDArray[np.int64], number: int, least: int) -> None:
        count = max(round(len(members) * HELD_OUT), least)
        permuted = np.random.default_rng([seed, number]).permutation(members)
        pieces[0].append(permuted[count * parts :])
        for part in range(parts):
            pieces[part + 1].append(permuted[count * part : count * (part + 1)])

    present = np.unique(labels[indices])
    for label in present:
        members = indices[labels[indices] == label]
        if len(members) < _DIVISIBLE:
            pool.append(members)
        else:
            deal(members, int(label), 1)
    if pool:
        deal(np.concatenate(pool), int(present[-1]) + 1, 0)
    return [np.sort(np.concatenate(piece)) for piece in pieces]
