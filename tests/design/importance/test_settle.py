"""When the order of a curve's points is settled."""

import numpy as np

from isplit.design.importance.settle import _is_decided


def decided(differences, *, tolerance=0.0, height=1.0):
    """Compare two cuts whose scores differ by these numbers, in one class."""
    scores = np.stack([np.asarray(differences, float) + height, np.full(len(differences), height)], axis=1)
    values = scores.mean(0).tolist()
    return _is_decided(values, scores, np.zeros(len(scores), int), 1, (0, 1), tolerance)


def test_two_images_are_enough():
    """Their difference is 3, more than twice its error of 1; a single image has no error and decides nothing."""
    assert decided([2.0, 4.0])
    assert not decided([3.0])


def test_within_two_errors():
    """A difference of 2 with an error of 2 is open, unless twice that error is within the tolerance."""
    assert not decided([0.0, 4.0])
    assert decided([0.0, 4.0], height=98.0, tolerance=0.04)
    assert not decided([0.0, 4.0], height=98.0, tolerance=0.039)
