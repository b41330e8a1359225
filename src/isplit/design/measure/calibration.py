"""From the loss in closed form to the loss after training: a curve fitted to splits that were trained."""

from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from isplit.records import Measurement, Record

_ROUNDING = 1e-9


class Calibration(Record):
    """The loss after training as a rising curve of the loss before it, both as shares of the images.

    `curve` holds its corners (before, after) in rising order; between them it is straight. `stderr` is the root mean
    square error on pairs of network and data that were left out when it was fitted. `name` tells users what it was
    fitted to, and so where it holds.
    """

    schema_name: ClassVar[str] = "isplit.calibration/1"
    file_name: ClassVar[str] = "calibration.json"

    name: str
    splits: int
    curve: tuple[tuple[float, float], ...]
    stderr: float

    def after_training(self, closed_form: Measurement) -> float | None:
        """Return the accuracy that a split is predicted to have after training.

        None where it loses more before training than any split that the curve was fitted to.
        """
        loss = closed_form.whole.accuracy - closed_form.accuracy.accuracy
        if loss > self.curve[-1][0] + _ROUNDING:
            return None
        return float(np.clip(closed_form.whole.accuracy - self.loss_after(loss), 0, 1))

    def loss_after(self, before: float) -> float:
        """Return the loss after training; beyond its ends the curve is level."""
        corners, after = np.array(self.curve).T
        return float(np.interp(before, corners, after))


@cache
def packaged_calibration() -> Calibration | None:
    """Return the calibration that came with the package, None if there is none."""
    here = Path(__file__).parent
    return Calibration.load(here) if (here / Calibration.file_name).exists() else None
