"""Figures of predictions beyond what was measured: importance, accuracy after training, and how far to trust them."""

from collections.abc import Sequence

from isplit.design.closed_form.passes import StatisticsImages
from isplit.design.measure.calibration import Calibration
from isplit.design.study import StudyView
from isplit.records import Prediction

_NOTABLE_EXCESS = 0.02
"""A mean payload above the budget by more than this share is reported."""


def prediction_warnings(images: StatisticsImages, rows: Sequence[Prediction]) -> tuple[str, ...]:
    """Say why predictions of one set of classes are less certain than they look, in whole sentences.

    Args:
        images: Those that statistics and tables are from.
        rows: The predictions.

    """
    return (*_shared_images(images), *_exceeded_budgets(rows), *_fewer_images(rows))


def _fewer_images(rows: Sequence[Prediction]) -> tuple[str, ...]:
    """Say how many splits were measured on fewer images than others, as `--quick` does."""
    counts = [row.measurement.accuracy.images for row in rows]
    most, fewest = max(counts, default=0), min(counts, default=0)
    if most == fewest:
        return ()
    fewer = sum(count < most for count in counts)
    return (
        f"{fewer} of {len(counts)} splits were measured on fewer than {most:,} images, some on {fewest:,}, where "
        "another split of the same budget was better. Their accuracies are less certain; predict again without "
        "`quick=True` to measure all on the same images.",
    )


def _shared_images(images: StatisticsImages) -> tuple[str, ...]:
    """Say that moments and tables are from the same images where that is so."""
    if not images.are_shared:
        return ()
    return (
        f"the fit part has {len(images.held_out):,} images, too few to take the statistics of the closed forms and "
        "their code tables from different ones: payloads of other images may be longer than the budget.",
    )


def _exceeded_budgets(rows: Sequence[Prediction]) -> tuple[str, ...]:
    """Say how many splits exceed their budget on the images that they were measured on, and by how much."""
    over = [
        (row.measurement.payload_bytes.mean / row.budget.payload_bytes - 1, row)
        for row in rows
        if row.budget.payload_bytes
    ]
    exceeding = [(share, row) for share, row in over if share > _NOTABLE_EXCESS]
    if not exceeding:
        return ()
    share, largest = max(exceeding, key=lambda pair: pair[0])
    return (
        f"on the select part {len(exceeding)} of {len(over)} splits exceed their budget by more than "
        f"{_NOTABLE_EXCESS:.0%}, most of all {largest.cut} at {largest.budget.tag} by {share:.1%}. Budgets are "
        "those of images of the fit part; what `isplit fit` keeps meets its budget on the select part too.",
    )


def importance_of(view: StudyView) -> dict[str, float | None]:
    """Return the curve of a group's classes: cut to importance; empty where it was not drawn."""
    curve = view.study.curve
    for subset in curve.subsets:
        if subset.name == view.name:
            return {point.cut: point.cui for point in subset.points}
    return {point.cut: point.cui for point in curve.points} if view.is_default else {}


def calibrated(row: Prediction, calibration: Calibration | None) -> Prediction:
    """Add the accuracy after training, or take it away where nothing is known of it: plain PCA is not trained."""
    after = None
    if calibration and row.design == "linear":
        after = calibration.after_training(row.measurement)
    changes = {
        "predicted_accuracy": after and after.accuracy,
        "predicted_stderr": after and after.stderr,
        "predicted_low": after and after.low,
        "predicted_high": after and after.high,
    }
    return row.model_copy(update=changes)
