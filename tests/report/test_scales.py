"""Ticks at round numbers, written as people write them."""

import pytest

from isplit.report.scales import even_ticks, log_ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-4.8, -2.9, ["−4.5", "−4.0", "−3.5", "−3.0"]),
        (0.0, 100.0, ["0", "20", "40", "60", "80", "100"]),
        (0.0, 12.0, ["0.0", "2.5", "5.0", "7.5", "10.0"]),
        (79.2, 80.1, ["79.2", "79.4", "79.6", "79.8", "80.0"]),
        (0.0, 12_000.0, ["0", "2,500", "5,000", "7,500", "10,000"]),
        (1.0, 1.0, []),
    ],
)
def test_even_ticks_are_round_numbers(low: float, high: float, expected: list[str]):
    """Steps are 1, 2, 2.5 or 5 times a power of ten, all labels have the same decimals, and minus is a minus sign."""
    assert expected == [tick.label for tick in even_ticks(low, high)]


def test_even_ticks_stay_inside_the_limits():
    """The first and the last tick lie on the axis, at whole multiples of the step."""
    values = [tick.value for tick in even_ticks(-1.0, 1.0)]
    assert pytest.approx([-1.0, -0.5, 0.0, 0.5, 1.0]) == values


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.4, 2.5, ["10", "100"]),
        (1.9, 2.9, ["100", "200", "500"]),
        (1.05, 1.65, ["20"]),
        (-2.1, 3.0, ["0.01", "0.1", "1", "10", "100", "1,000"]),
        (0.0, 12.0, ["1", "1,000", "1,000,000", "1,000,000,000", "1,000,000,000,000"]),
    ],
)
def test_logarithmic_ticks(low: float, high: float, expected: list[str]):
    """Powers of ten, thinned where there are many; 1, 2 and 5 of each where one power would say nothing."""
    assert expected == [tick.label for tick in log_ticks(low, high)]
