"""The calibration that comes with the package."""

from math import log

import pytest

from isplit.design.measure.calibration import Calibration, RemainingShare, packaged_calibration
from tests.design.conftest import measured

HALF_AT_TWO_CLASSES = RemainingShare(intercept=log(10), per_log_classes=1.0)
"""The share remains that has the odds of half the number of classes: a half with two classes."""


def calibration_by_hand(**changes) -> Calibration:
    """Return a calibration whose interval takes from a quarter to three quarters of a loss, and two points more."""
    fields = {
        "name": "by hand",
        "splits": 3,
        "remaining": HALF_AT_TWO_CLASSES,
        "spread": log(3),
        "noise": 0.02,
        "fewest_classes": 2,
        "most_classes": 6,
        "largest_loss": 0.3,
        "stderr": 0.02,
    }
    return Calibration(**(fields | changes))


def split_measured(correct: int, *, images: int = 1000, stderr: float = 0.0, classes: int = 2):
    """Return a measurement of a split of some classes; the whole model is right on 80 %."""
    measurement = measured(correct, whole=images * 8 // 10, images=images)
    against = measurement.against_whole.model_copy(update={"stderr": stderr})
    per_class = {str(number): measurement.accuracy for number in range(classes)}
    return measurement.model_copy(update={"against_whole": against, "per_class": per_class})


def test_shipped() -> None:
    """It says what it is from; of a loss more remains with more classes, and the interval is narrow without a loss."""
    calibration = packaged_calibration()
    assert calibration is not None
    assert f"{calibration.splits} splits of " in calibration.name
    assert "mobilenetv2-tin100" in calibration.name
    assert 0 < calibration.stderr < 0.1
    assert 0.1 < calibration.remaining.at(10) < calibration.remaining.at(20) < calibration.remaining.at(100) < 0.9
    nothing, half = (calibration.loss_after(before, classes=20) for before in (0.0, 0.5))
    assert nothing.expected == 0
    assert nothing.most < 0.02
    assert 0 < half.least < half.expected < half.most < 0.5


@pytest.mark.parametrize(("classes", "expected"), [(2, 0.5), (6, 0.75), (18, 0.9)])
def test_share_by_hand(classes: int, expected: float) -> None:
    """The odds of the share that remains are half the number of classes; threefold odds make a quarter a half."""
    assert pytest.approx(expected) == HALF_AT_TWO_CLASSES.at(classes)
    assert pytest.approx(0.25) == HALF_AT_TWO_CLASSES.at(2, moved=-log(3))


@pytest.mark.parametrize(
    ("correct", "expected"),
    # Of 1,000 images the whole model gets 800 right. Half of a loss of 10, 20 or 30 points remains; 31 are too many.
    [(800, 0.8), (700, 0.75), (600, 0.7), (500, 0.65), (850, 0.8), (490, None)],
)
def test_expected_accuracy(correct: int, expected: float | None) -> None:
    """Half of the loss remains, a gain is not expected, and nothing is said beyond the largest loss."""
    after = calibration_by_hand().after_training(split_measured(correct))

    assert expected == (None if after is None else pytest.approx(after.accuracy))


def test_interval_by_hand() -> None:
    """Of 20 points between 5 and 15 remain, less and more 2 points."""
    after = calibration_by_hand().after_training(split_measured(600))
    assert after is not None
    assert (0.70, 0.63, 0.77) == pytest.approx((after.accuracy, after.low, after.high))
    assert 0.07 / 1.645 == pytest.approx(after.stderr, rel=1e-3)


@pytest.mark.parametrize("classes", [1, 7])
def test_beyond_the_classes_that_it_knows(classes: int) -> None:
    """With fewer or more classes than any pair had, all of the loss may remain, or nothing."""
    after = calibration_by_hand().after_training(split_measured(600, classes=classes))
    assert after is not None
    assert (0.6 - 0.02, 0.8 + 0.02) == pytest.approx((after.low, after.high))
    assert after.low < after.accuracy < after.high


def test_never_above_the_whole() -> None:
    """Where a split gains, the whole model's accuracy is predicted; the interval may reach above it."""
    after = calibration_by_hand().after_training(split_measured(820))
    assert after is not None
    assert (0.8, 0.78, 0.82) == pytest.approx((after.accuracy, after.low, after.high))


def test_fewer_images_widen_the_interval() -> None:
    """On 100 images the loss itself may be off by more than on the thousand that the share was fitted to."""
    calibration = calibration_by_hand()
    sure = calibration.after_training(split_measured(600, stderr=0.03))
    unsure = calibration.after_training(split_measured(60, images=100, stderr=0.03))
    assert sure is not None
    assert unsure is not None
    more = 1.645 * 0.03 * 0.9**0.5
    assert (sure.low - 0.75 * more, sure.high + 0.25 * more) == pytest.approx((unsure.low, unsure.high), abs=1e-4)
