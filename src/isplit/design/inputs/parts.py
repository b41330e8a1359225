"""Divide labelled images into the parts fit, select and test."""

import numpy as np
from numpy.typing import NDArray

from isplit.design.inputs.source import Source
from isplit.errors import DataError
from isplit.records import PartName

HELD_OUT = 0.1
"""The share of the images of a class that becomes the select part, or the test part, where the data has none."""


def divide(source: Source, *, spec: str, seed: int) -> tuple[dict[PartName, NDArray[np.int64]], str]:
    """Make fit, select and test of the parts that the source has.

    Returns:
        The indices of the images of each part, and the rule in words.

    Raises:
        DataError: There is no train part, or no class has enough images to hold some out.

    """
    parts = source.parts
    percent = round(100 * HELD_OUT)
    if parts.keys() == {"train", "val", "test"}:
        return {"fit": parts["train"], "select": parts["val"], "test": parts["test"]}, (
            "fit = train, select = val, test = test"
        )
    if len(parts) == 1:
        ((name, indices),) = parts.items()
        fit, select, test = hold_out(source.labels, indices, parts=2, seed=seed)
        rule = f"select and test = {percent} % each of {name}, held out class by class with seed {seed}; fit = the rest"
    elif len(parts) == 2 and "train" in parts:
        (name,) = parts.keys() - {"train"}
        fit, select = hold_out(source.labels, parts["train"], parts=1, seed=seed)
        test = parts[name]
        rule = f"select = {percent} % of train, held out class by class with seed {seed}; fit = the rest; test = {name}"
    else:
        msg = f"{spec} has the parts {', '.join(parts)} but no train: pass one of them as the split"
        raise DataError(msg)
    if not (len(select) and len(test)):
        msg = (
            f"{spec} is too small to divide: give a class at least 3 images, so that one can be held out for each part"
        )
        raise DataError(msg)
    return {"fit": fit, "select": select, "test": test}, rule


def hold_out(
    labels: NDArray[np.int64], indices: NDArray[np.int64], *, parts: int, seed: int
) -> list[NDArray[np.int64]]:
    """Return the rest and `parts` held-out parts, each with `HELD_OUT` of every class, each sorted.

    The rule is fixed, so that a study can be repeated: class c's indices are permuted by
    `numpy.random.default_rng([seed, c])`, and each part in turn takes the next round(n * HELD_OUT) of them. A class of
    three images or more gives at least one to each part.
    """
    pieces: list[list[NDArray[np.int64]]] = [[] for _ in range(parts + 1)]
    for label in np.unique(labels[indices]):
        members = indices[labels[indices] == label]
        count = round(len(members) * HELD_OUT) or (1 if len(members) >= 3 else 0)
        permuted = np.random.default_rng([seed, int(label)]).permutation(members)
        pieces[0].append(permuted[count * parts :])
        for part in range(parts):
            pieces[part + 1].append(permuted[count * part : count * (part + 1)])
    return [np.sort(np.concatenate(piece)) for piece in pieces]
