"""Predict the loss after training from the loss in closed form, with a curve fitted to splits that were trained."""

from functools import cache
from math import log10, sqrt
from pathlib import Path
from typing import ClassVar

import numpy as np

from isplit.records import Measurement, Part, Record
from isplit.records.paired import Z95

_ROUNDING = 1e-9
_CALIBRATION_IMAGES = 1000
"""The losses that calibrations are fitted to were measured on about this number of images."""


class IntervalWidth(Part):
    """Compute how far a loss after training may be from its prediction, on either side, as a share of the images.

    The width is a sum of four terms, none of which is negative. `constant` is the first. `per_loss` is multiplied by
    the loss in closed form. `per_decade_of_bytes` counts once for each power of ten by which the mean payload is below
    1,000 bytes. `per_decade_of_numbers` counts once for each power of ten by which the latent has fewer numbers than
    the tensor that it stands for.
    """

    constant: float
    per_loss: float
    per_decade_of_bytes: float
    per_decade_of_numbers: float

    def at(self, loss: float, *, payload_bytes: float, kept_share: float) -> float:
        """Return the half width for a loss in closed form, a mean payload, and the share of numbers in the latent."""
        features = width_features(loss, payload_bytes=payload_bytes, kept_share=kept_share)
        coefficients = (self.constant, self.per_loss, self.per_decade_of_bytes, self.per_decade_of_numbers)
        return sum(feature * coefficient for feature, coefficient in zip(features, coefficients, strict=True))


def width_features(loss: float, *, payload_bytes: float, kept_share: float) -> tuple[float, float, float, float]:
    """Return the factors of the four terms of an interval's width, in the order of the fields of `IntervalWidth`."""
    return 1.0, max(loss, 0.0), max(3 - log10(max(payload_bytes, 1.0)), 0.0), max(-log10(kept_share), 0.0)


class TrainedAccuracy(Part):
    """Hold the accuracy that a split is predicted to have after training, with its 90 % interval.

    `accuracy` never exceeds the whole model's. Training brings some splits above it, so `high` may exceed it. `stderr`
    is the standard error of a normal distribution of which 90 % lie within the larger side of the interval.
    """

    accuracy: float
    low: float
    high: float
    stderr: float


class Calibration(Record):
    """Map the loss before training to the loss after it by a rising curve; both are shares of the images.

    `curve` holds the corners (before, after) of the curve in rising order; between them it is straight.

    `width` gives intervals that hold 90 % of the splits of a pair of network and data to which the curve was not
    fitted. It was made in two steps. First, a width was fitted to the errors as their 90 % quantile. Then each pair was
    left out in turn, and the width was multiplied by the largest 90 % quantile over the pairs of the error in units of
    that width (Romano, Patterson and Candès 2019). They take one quantile over all splits; the largest over the pairs
    is taken here, because the splits of a pair err together.

    `stderr` is the root mean square error on the pairs that were left out. `name` tells users what the curve was fitted
    to, and so where it holds.
    """

    schema_name: ClassVar[str] = "isplit.calibration/1"
    file_name: ClassVar[str] = "calibration.json"

    name: str
    splits: int
    curve: tuple[tuple[float, float], ...]
    stderr: float
    width: IntervalWidth

    def after_training(self, closed_form: Measurement, *, cut_numbers: float) -> TrainedAccuracy | None:
        """Return the accuracy that a split is predicted to have after training.

        The result is None where the split loses more before training than any split that the curve was fitted to. Where
        the split was measured on fewer images than those splits were, the interval is wider by the error of its loss.

        Args:
            closed_form: The measurement of the split before training.
            cut_numbers: The number of elements of the tensor at the cut.

        """
        whole, images = closed_form.whole.accuracy, closed_form.accuracy.images
        loss = whole - closed_form.accuracy.accuracy
        if not self.covers(loss):
            return None
        width = self.width.at(
            loss,
            payload_bytes=closed_form.payload_bytes.mean,
            kept_share=min(closed_form.elements / cut_numbers, 1.0),
        )
        unsure = Z95 * closed_form.against_whole.stderr * sqrt(max(1 - images / _CALIBRATION_IMAGES, 0.0))
        least, most = self.loss_after(loss - unsure) - width, self.loss_after(loss + unsure) + width
        expected = max(self.loss_after(loss), 0.0)
        return TrainedAccuracy(
            accuracy=float(np.clip(whole - expected, 0, 1)),
            stderr=max(expected - least, most - expected) / Z95,
            low=float(np.clip(whole - most, 0, 1)),
            high=float(np.clip(whole - least, 0, 1)),
        )

    def covers(self, before: float) -> bool:
        """Say whether the curve was fitted to losses before training that are at least as large as this one."""
        return before <= self.curve[-1][0] + _ROUNDING

    def loss_after(self, before: float) -> float:
        """Return the loss after training. Beyond its ends the curve is level."""
        corners, after = np.array(self.curve).T
        return float(np.interp(before, corners, after))


@cache
def packaged_calibration() -> Calibration | None:
    """Return the calibration that comes with the package, or None if it has none."""
    here = Path(__file__).parent
    return Calibration.load(here) if (here / Calibration.file_name).exists() else None
