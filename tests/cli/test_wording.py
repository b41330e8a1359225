"""isplit.cli.wording: how accuracies, differences and counts are written."""

import pytest

from isplit.cli.wording import count_with_unit, percent_with_interval, points_with_error
from isplit.records import Accuracy, Paired


def test_accuracy():
    """An accuracy in per cent with its Wilson interval: 8 of 10 is between 49.0 and 94.3 %."""
    assert "80.0% (49.0–94.3)" == percent_with_interval(Accuracy.from_counts(8, 10))


@pytest.mark.parametrize(("difference", "text"), [(-0.0123, "−1.2 ± 0.4"), (0.0123, "+1.2 ± 0.4"), (0.0, "+0.0 ± 0.4")])
def test_difference(difference, text):
    """A difference in points always has a sign, and the minus is a real one."""
    assert text == points_with_error(Paired(only_first=0, only_second=0, difference=difference, stderr=0.004))


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (11_700_000, "11.7M"), (15_470_000_000, "15.5G"), (999_999, "1e+03k")],
)
def test_count(number, text):
    """Three digits, and the unit from a thousand on."""
    assert text == count_with_unit(number)
