"""The front and the choice: against the definition, on random rows."""

import numpy as np
import pytest

from isplit.plan.choose import best, pareto_front


def dominated(index: int, values: np.ndarray) -> bool:
    """Say whether another row is no worse in all and better in one, or equal and earlier."""
    no_worse = (values <= values[index]).all(axis=1)
    better = (values < values[index]).any(axis=1)
    earlier = (values == values[index]).all(axis=1) & (np.arange(len(values)) < index)
    return bool((no_worse & (better | earlier)).any())


@pytest.mark.parametrize("seed", range(30))
def test_the_front_is_what_no_other_beats(seed: int):
    """Small whole numbers, so that there are many ties; compared with the definition, pair by pair."""
    random = np.random.default_rng(seed)
    values = random.integers(0, 6, (60, 3)).astype(float)
    expected = [not dominated(index, values) for index in range(len(values))]
    assert expected == pareto_front(values[:, 0], values[:, 1], values[:, 2]).tolist()


def test_unknown_accuracy_is_not_on_the_front():
    """A row without an accuracy neither is on the front nor keeps others from it."""
    front = pareto_front(np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.array([np.nan, 0.1]))
    assert [False, True] == front.tolist()


def test_the_best_of_a_mask():
    """The least score among those allowed; -1 where none is; over several links at once."""
    scores = np.array([[3.0, 1.0, 2.0], [3.0, np.nan, 2.0]])
    assert [2, 2] == best(scores, np.array([True, False, True])).tolist()
    assert [-1, -1] == best(scores, np.zeros(3, bool)).tolist()
