"""Accuracies and their intervals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    ("correct", "images", "low", "high"),
    [
        (825, 1000, 0.8002, 0.8473),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (1, 1, 0.2065, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_interval(correct, images, low, high):
    """The 95 % Wilson score interval, against values worked out from its formula."""
    accuracy = Accuracy.from_counts(correct, images)
    assert (low, high) == pytest.approx((accuracy.low, accuracy.high), abs=5e-5)
    assert (correct, images) == (accuracy.correct, accuracy.images)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_holds_the_share(counts):
    """The interval lies in [0, 1] and holds the share; that of the wrong answers is its mirror image."""
    correct, images = counts
    accuracy, mirror = Accuracy.from_counts(correct, images), Accuracy.from_counts(images - correct, images)
    assert 0 <= accuracy.low <= accuracy.accuracy <= accuracy.high <= 1
    assert (accuracy.low, accuracy.high) == pytest.approx((1 - mirror.high, 1 - mirror.low), abs=1e-12)


def test_an_accuracy_that_may_be_guessing():
    """An interval that reaches down to the chance level leaves guessing possible; one above it does not."""
    accuracy = Accuracy.from_counts(9, 10)

    assert accuracy.may_be_guessing(accuracy.low)
    assert not accuracy.may_be_guessing(accuracy.low - 0.01)
