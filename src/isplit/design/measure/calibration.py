"""Predict the loss after training as a share of the loss in closed form, fitted to splits that were trained."""

from dataclasses import dataclass
from functools import cache
from math import exp, log, sqrt
from pathlib import Path
from typing import ClassVar

import numpy as np

from isplit.records import Measurement, Part, Record

_ROUNDING = 1e-9
_Z = 1.6448536269514722  # 90 % of a normal distribution lie within this many standard deviations of its mean
_CALIBRATION_IMAGES = 1000
"""The losses that calibrations are fitted to were measured on about this number of images."""
REFERENCE_CLASSES = 20
"""The number of classes at which a share's logit is its intercept."""


@dataclass(frozen=True, kw_only=True)
class LossAfterTraining:
    """The loss that is expected after training, and the ends of its interval, as shares of the images."""

    least: float
    expected: float
    most: float


class RemainingShare(Part):
    """Compute which share of the loss in closed form remains after training.

    The logit of the share is linear in the logarithm of the number of classes: the more classes a network tells apart,
    the less of a loss a short training brings back.
    """

    intercept: float
    per_log_classes: float

    def at(self, classes: int, *, moved: float = 0.0) -> float:
        """Return the share for a number of classes, with its logit moved by so much."""
        return 1 / (1 + exp(-(self.intercept + self.per_log_classes * log(classes / REFERENCE_CLASSES) + moved)))


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
    """Map the loss before training to the loss after it; both are shares of the images.

    `remaining` gives the share of the loss that remains. The interval moves the logit of that share by `spread` in
    both directions, and adds `noise` on either side, which is what accuracies of a split that loses nothing differ by
    from one part of the data to another. So a wide interval ends where training brings back nothing, or everything.
    Where a network has fewer classes than `fewest_classes` or more than `most_classes`, nothing is known about the
    share, and the interval reaches to these ends.

    Both widths are from pairs of network and data that are predicted from the other pairs. Each is the 90 % quantile of
    the widths that their splits need, over the mean of the pairs' distributions (Dunn, Wasserman and Ramdas 2023,
    "Distribution-Free Prediction Sets for Two-Layer Hierarchical Models", pooling). So 90 % is the share of splits over
    many new pairs. The splits of a pair err together, so that fewer or more of a single pair may lie in theirs. A pair
    whose number of classes lies beyond that of all others is predicted with itself among the rest, because the others
    say nothing about it.

    No split is predicted that loses more than `largest_loss`. `stderr` is the root mean square error on the pairs that
    were left out. `name` tells users what the share was fitted to, and so where it holds.
    """

    schema_name: ClassVar[str] = "isplit.calibration/2"
    file_name: ClassVar[str] = "calibration.json"

    name: str
    splits: int
    remaining: RemainingShare
    spread: float
    noise: float
    fewest_classes: int
    most_classes: int
    largest_loss: float
    stderr: float

    def after_training(self, closed_form: Measurement) -> TrainedAccuracy | None:
        """Return the accuracy that a split is predicted to have after training.

        The result is None where the split loses more before training than any split of the calibration. Where the split
        was measured on fewer images than those splits were, the interval is wider by the error of its loss.

        Args:
            closed_form: The measurement of the split before training.

        """
        whole, images = closed_form.whole.accuracy, closed_form.accuracy.images
        loss = whole - closed_form.accuracy.accuracy
        if not self.covers(loss):
            return None
        unsure = _Z * closed_form.against_whole.stderr * sqrt(max(1 - images / _CALIBRATION_IMAGES, 0.0))
        after = self.loss_after(loss, classes=max(len(closed_form.per_class), 1), unsure=unsure)
        return TrainedAccuracy(
            accuracy=float(np.clip(whole - after.expected, 0, 1)),
            stderr=max(after.expected - after.least, after.most - after.expected) / _Z,
            low=float(np.clip(whole - after.most, 0, 1)),
            high=float(np.clip(whole - after.least, 0, 1)),
        )

    def covers(self, before: float) -> bool:
        """Say whether the calibration knows losses before training that are at least as large as this one."""
        return before <= self.largest_loss + _ROUNDING

    def knows(self, classes: int) -> bool:
        """Say whether the calibration knows networks with fewer classes, or as many, and with more, or as many."""
        return self.fewest_classes <= classes <= self.most_classes

    def loss_after(self, before: float, *, classes: int, unsure: float = 0.0) -> LossAfterTraining:
        """Return the loss after training, for a loss before it that may be off by `unsure` in either direction."""
        least, most = 0.0, 1.0
        if self.knows(classes):
            least, most = (self.remaining.at(classes, moved=moved) for moved in (-self.spread, self.spread))
        return LossAfterTraining(
            least=least * max(before - unsure, 0.0) - self.noise,
            expected=self.remaining.at(classes) * max(before, 0.0),
            most=most * max(before + unsure, 0.0) + self.noise,
        )


@cache
def packaged_calibration() -> Calibration | None:
    """Return the calibration that comes with the package, or None if it has none."""
    here = Path(__file__).parent
    return Calibration.load(here) if (here / Calibration.file_name).exists() else None
