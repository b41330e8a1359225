"""The calibration that comes with the package."""

from itertools import pairwise

import pytest

from isplit.design.measure.calibration import Calibration, IntervalWidth, packaged_calibration, width_features
from tests.design.conftest import measured

WIDTH = IntervalWidth(constant=0.01, per_loss=0.1, per_decade_of_bytes=0.02, per_decade_of_numbers=0.03)


def test_shipped() -> None:
    """There is one; it says what it is from, and training never makes more of a smaller loss than of a larger."""
    found = packaged_calibration()
    assert found is not None
    assert f"{found.splits} splits of " in found.name
    assert 0 < found.stderr < 0.1
    assert 0 < found.width.at(0.0, payload_bytes=1000, kept_share=1.0) < 0.02
    assert found.width.at(0.0, payload_bytes=1000, kept_share=1.0) < found.width.at(
        0.3, payload_bytes=30, kept_share=0.1
    )
    for (before, after), (later, then) in pairwise(found.curve):
        assert before < later
        assert after <= then


@pytest.mark.parametrize(("before", "expected"), [(-0.1, -0.01), (0.0, -0.01), (0.25, 0.04), (0.5, 0.09), (0.9, 0.09)])
def test_loss_after(before: float, expected: float) -> None:
    """Straight between the corners, level beyond them."""
    curve = Calibration(name="by hand", splits=2, curve=((0.0, -0.01), (0.5, 0.09)), stderr=0.02, width=WIDTH)
    assert pytest.approx(expected) == curve.loss_after(before)


@pytest.mark.parametrize(
    ("correct", "expected"),
    # Of 1,000 images the whole model gets 800 right. Losses of 0, 10, 20, 30; -5 is below the curve, 31 beyond it.
    [(800, 0.79), (700, 0.77), (600, 0.75), (500, 0.65), (850, 0.79), (490, None)],
)
def test_curve_by_hand(correct: int, expected: float | None) -> None:
    """Straight between the corners, level below them, and nothing beyond what it was fitted to."""
    curve = ((0.0, 0.01), (0.2, 0.05), (0.3, 0.15))
    calibration = Calibration(name="by hand", splits=3, curve=curve, stderr=0.02, width=WIDTH)
    after = calibration.after_training(split_measured(correct), cut_numbers=1000)

    assert expected == (None if after is None else pytest.approx(after.accuracy))


def split_measured(correct: int, *, images: int = 1000, stderr: float = 0.0):
    """Return a measurement of a split that sends 100 bytes and 10 numbers; the whole model is right on 80 %."""
    measurement = measured(correct, whole=images * 8 // 10, images=images)
    payload = measurement.payload_bytes.model_copy(update={"mean": 100.0})
    against = measurement.against_whole.model_copy(update={"stderr": stderr})
    return measurement.model_copy(update={"payload_bytes": payload, "elements": 10, "against_whole": against})


def test_interval_by_hand() -> None:
    """10 points lost: 1 + 0.1 × 10 points, 2 for a tenth of 1,000 bytes, and 6 for a hundredth of the numbers."""
    assert pytest.approx((1.0, 0.1, 1.0, 2.0)) == width_features(0.1, payload_bytes=100, kept_share=0.01)
    assert (1.0, 0.0, 0.0, 0.0) == width_features(-0.1, payload_bytes=2000, kept_share=1.0)
    curve = ((0.0, -0.02), (0.5, 0.08))
    calibration = Calibration(name="by hand", splits=3, curve=curve, stderr=0.02, width=WIDTH)
    after = calibration.after_training(split_measured(700), cut_numbers=1000)
    assert after is not None
    assert (0.80, 0.70, 0.90) == pytest.approx((after.accuracy, after.low, after.high))
    assert 0.1 / 1.645 == pytest.approx(after.stderr, rel=1e-3)


def test_never_above_the_whole() -> None:
    """Where training is expected to gain, the whole model's accuracy is predicted; the interval may reach above it."""
    calibration = Calibration(name="by hand", splits=3, curve=((0.0, -0.02), (0.5, 0.08)), stderr=0, width=WIDTH)
    after = calibration.after_training(split_measured(790), cut_numbers=1000)
    assert after is not None
    assert 0.8 == after.accuracy
    assert 0.8 < after.high


def test_fewer_images_widen_the_interval() -> None:
    """On 100 images the loss itself may be off by more than on the thousand that the curve was fitted to."""
    calibration = Calibration(name="by hand", splits=3, curve=((0.0, 0.0), (0.5, 0.5)), stderr=0, width=WIDTH)
    sure = calibration.after_training(split_measured(700, stderr=0.03), cut_numbers=1000)
    unsure = calibration.after_training(split_measured(70, images=100, stderr=0.03), cut_numbers=1000)
    assert sure is not None
    assert unsure is not None
    more = 1.645 * 0.03 * 0.9**0.5
    assert (sure.low - more, sure.high + more) == pytest.approx((unsure.low, unsure.high), abs=1e-4)
