"""Choose the split to train next: the one whose training could change or confirm the plan's choice."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isplit.plan.choose import Measure
from isplit.records import Limits, PlannedAccuracy, PlannedPlacement, TrainingAdvice

Mask = NDArray[np.bool_]


def training_advice(
    placements: Sequence[PlannedPlacement],
    checks: Sequence[Measure],
    scores: NDArray[np.float64],
    considered: Mask,
    chosen: int,
    limits: Limits,
    directory: str,
) -> TrainingAdvice | None:
    """Return the most promising untrained split whose training could change or confirm the choice."""
    if chosen >= 0 and placements[chosen].kind == "split":
        accuracy = placements[chosen].accuracy
        if accuracy is None or accuracy.source == "trained":
            return None
        words = "is predicted" if accuracy.source == "predicted" else "is without training, which mostly adds to it"
        return _advice(placements[chosen], directory, f"The accuracy of this split {words}.")
    mask = considered.copy()
    for check in checks:
        if check.name not in ("min_accuracy", "max_accuracy_loss"):
            mask &= ~check.broken
    order: list[int] = np.argsort(scores).tolist()
    for index in order:
        placement = placements[index]
        if not mask[index] or placement.kind != "split" or placement.accuracy is None:
            continue
        if chosen >= 0 and scores[index] >= scores[chosen]:
            return None
        if placement.accuracy.source != "trained" and _may_reach(placement, limits):
            return _advice(placement, directory, _reason(placement, placement.accuracy, limits))
    return None


def _may_reach(placement: PlannedPlacement, limits: Limits) -> bool:
    """Say whether training may plausibly bring a split within the limit, if it halves the loss."""
    accuracy = placement.accuracy
    if accuracy is None or accuracy.difference is None:
        return False
    if limits.max_accuracy_loss is not None:
        return -accuracy.difference / 2 <= limits.max_accuracy_loss
    return accuracy.accuracy - accuracy.difference / 2 >= (limits.min_accuracy or 0.0)


def _reason(placement: PlannedPlacement, accuracy: PlannedAccuracy, limits: Limits) -> str:
    """Say why a better split is not chosen untrained: it loses too much, or it is not known well enough to tell."""
    loss, bound, limit = -(accuracy.difference or 0.0), accuracy.largest_loss, limits.max_accuracy_loss
    if limit is None or bound is None or loss > limit:
        return f"Splitting after {placement.cut} would be better, but is a little too inaccurate untrained."
    if accuracy.source == "predicted":
        says, judge = f"is predicted to lose {100 * max(loss, 0.0):.1f} points", "the prediction"
    else:
        says, judge = f"loses {100 * max(loss, 0.0):.1f} points untrained", f"{accuracy.images or 0:,} images"
    return (
        f"Splitting after {placement.cut} would be better and {says}, but {judge} cannot tell whether it stays within "
        f"{100 * limit:g} (at most {100 * bound:.1f} with 95 % confidence)."
    )


def _advice(placement: PlannedPlacement, directory: str, reason: str) -> TrainingAdvice | None:
    if placement.cut is None or placement.budget is None:
        return None
    budget = placement.budget
    size = (
        f"--bytes {budget.payload_bytes}" if budget.payload_bytes is not None else f"--ratio {budget.element_ratio:g}"
    )
    command = f"isplit fit {directory} --cut {placement.cut} {size}"
    return TrainingAdvice(cut=placement.cut, budget=budget, reason=reason, command=command)
