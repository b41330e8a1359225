"""Average scores of single images to the curve over the cuts, with standard errors, in numpy."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isplit.records import CurvePoint


def curve_points(
    cuts: Sequence[str], scores: NDArray[np.float64], labels: NDArray[np.int64], classes: Sequence[str]
) -> tuple[CurvePoint, ...]:
    """Average scores per class, then over the classes.

    The mean of the class means gives every class the same weight, however many of its images were seen. Its variance
    is the sum of the variances of the class means, divided by the squared number of classes (stratified sampling).

    Args:
        cuts: K cut names, in order.
        scores: N×K, at least 0; NaN and infinity are counted, and make their cut's values None.
        labels: N class numbers; images with other numbers than those of `classes` (0…C-1) are left out.
        classes: C names.

    Raises:
        ValueError: not one image belongs to the classes.

    """
    members = [scores[labels == number] for number in range(len(classes))]
    means, errors = _class_statistics(members)
    with np.errstate(invalid="ignore"):
        steps = [np.diff(rows, axis=1) for rows in members]
    _, step_errors = _class_statistics(steps)
    seen = np.array([len(rows) > 0 for rows in members])
    if not seen.any():
        msg = "no image belongs to any of the classes"
        raise ValueError(msg)
    overall, overall_error = means[seen].mean(0), _stratified_error(errors[seen])
    step_error = np.concatenate([[np.nan], _stratified_error(step_errors[seen])])
    every = np.concatenate(members)
    image_mean, broken = every.mean(0), (~np.isfinite(every)).sum(0)
    return tuple(
        CurvePoint(
            cut=cut,
            cui=_finite(overall[k]),
            stderr=_finite(overall_error[k]),
            step_stderr=_finite(step_error[k]),
            image_mean=_finite(image_mean[k]),
            per_class={name: _finite(means[c, k]) for c, name in enumerate(classes)},
            per_class_stderr={name: _finite(errors[c, k]) for c, name in enumerate(classes)},
            non_finite=int(broken[k]),
        )
        for k, cut in enumerate(cuts)
    )


def _class_statistics(members: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each class's mean and standard error of the mean, C×K; NaN where there are too few images."""
    width = members[0].shape[1]
    means, errors = np.full((len(members), width), np.nan), np.full((len(members), width), np.nan)
    for number, rows in enumerate(members):
        with np.errstate(invalid="ignore"):
            if len(rows):
                means[number] = rows.mean(0)
            if len(rows) > 1:
                errors[number] = rows.std(0, ddof=1) / np.sqrt(len(rows))
    return means, errors


def _stratified_error(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt((errors**2).sum(0)) / len(errors)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
