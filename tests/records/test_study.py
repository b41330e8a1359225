"""Accuracies and their intervals."""

import pytest

from isplit.records import Accuracy


def test_no_images():
    """Nothing is known without images: the interval is [0, 1]."""
    assert Accuracy(correct=0, images=0, accuracy=0.0, low=0.0, high=1.0) == Accuracy.from_counts(0, 0)


def test_nine_of_ten():
    """The Wilson interval of 9 in 10 from its formula, worked out with z = 1.95996: 0.5958 to 0.9821."""
    accuracy = Accuracy.from_counts(9, 10)
    assert (0.9, pytest.approx(0.595850, abs=1e-6), pytest.approx(0.982124, abs=1e-6)) == (
        accuracy.accuracy,
        accuracy.low,
        accuracy.high,
    )


def test_the_ends_are_exact():
    """None right begins at 0 and all right ends at 1, however the formula is rounded."""
    images = range(1, 1000)
    assert {0.0} == {Accuracy.from_counts(0, n).low for n in images}
    assert {1.0} == {Accuracy.from_counts(n, n).high for n in images}
