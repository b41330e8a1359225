"""Accuracies of a plan: which loss the limits are checked against."""

import pytest

from isplit.records.plan import PlannedAccuracy


@pytest.mark.parametrize(
    ("difference", "largest_loss", "expected"),
    [
        (-0.02, 0.05, 0.05),
        (0.03, 0.0, 0.0),
        (0.03, -0.01, -0.01),
        (-0.02, None, 0.02),
        (0.5, None, -0.5),
        (None, None, None),
    ],
)
def test_judged_loss(difference, largest_loss, expected):
    """The bound where there is one, be it zero or a gain; else what is expected to be lost; else nothing is known."""
    accuracy = PlannedAccuracy(
        accuracy=0.9,
        low=0.8,
        high=0.95,
        difference=difference,
        stderr=None,
        largest_loss=largest_loss,
        source="trained",
    )

    assert expected == accuracy.judged_loss
