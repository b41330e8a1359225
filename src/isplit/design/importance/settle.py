"""Decide when more images would no longer change the order of the candidates."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from isplit.design.importance.candidates import interior_maxima
from isplit.records import CurvePoint


def order_is_settled(
    points: Sequence[CurvePoint],
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    num_classes: int,
    tolerance: float,
    *,
    first_only: bool = False,
) -> bool:
    """Return whether every comparison behind the ranking is decided, or too close to matter.

    The comparisons are those of every cut with the next, since each decides where a maximum is, and of maxima of
    neighbouring rank with each other. A comparison is decided when the paired difference exceeds two standard errors.
    It is too close to matter when two standard errors are within `tolerance` of the larger value. Checking again after
    every batch makes a false decision somewhat likelier than the 5 % of a single check.
    """
    values = [point.cui for point in points]
    if any(value is None for value in values):
        return False
    known = [value for value in values if value is not None]
    peaks = interior_maxima(known)
    ranked = sorted((first for first, _ in peaks), key=lambda index: -known[index])
    pairs = {*pairwise(range(len(known))), *pairwise(ranked)}
    if first_only:
        if not ranked:
            return False
        first = ranked[0]
        pairs = {(first - 1, first), (first, first + 1), *((first, other) for other in ranked[1:])}
    return all(_is_decided(known, scores, labels, num_classes, pair, tolerance) for pair in pairs)


def _is_decided(
    values: Sequence[float],
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    num_classes: int,
    pair: tuple[int, int],
    tolerance: float,
) -> bool:
    left, right = pair
    differences = scores[:, left] - scores[:, right]
    variance = 0.0
    for number in range(num_classes):
        class_differences = differences[labels == number]
        if len(class_differences) < 2:
            return False
        variance += float(class_differences.var(ddof=1)) / len(class_differences)
    two_errors = 2 * np.sqrt(variance) / num_classes
    return bool(
        abs(values[left] - values[right]) > two_errors or two_errors <= tolerance * max(values[left], values[right])
    )
