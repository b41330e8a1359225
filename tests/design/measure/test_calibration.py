"""The calibration that comes with the package."""

from itertools import pairwise

import pytest

from isplit.design.measure.calibration import Calibration, packaged_calibration


def test_shipped() -> None:
    """There is one; it says what it is from, and training never makes more of a smaller loss than of a larger."""
    found = packaged_calibration()
    assert found is not None
    assert f"{found.splits} splits of " in found.name
    assert 0 < found.stderr < 0.1
    for (before, after), (later, then) in pairwise(found.curve):
        assert before < later
        assert after <= then


@pytest.mark.parametrize(("before", "expected"), [(-0.1, -0.01), (0.0, -0.01), (0.25, 0.04), (0.5, 0.09), (0.9, 0.09)])
def test_loss_after(before: float, expected: float) -> None:
    """Straight between the corners, level beyond them."""
    curve = Calibration(name="by hand", splits=2, curve=((0.0, -0.01), (0.5, 0.09)), stderr=0.02)
    assert pytest.approx(expected) == curve.loss_after(before)
