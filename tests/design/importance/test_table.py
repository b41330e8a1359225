"""Scores of single images: rows are joined and kept, and never mistaken for those of another run."""

import numpy as np
import pytest

from isplit.design.importance.table import ScoreTable
from isplit.errors import StudyError

KEY = "k" * 64


@pytest.fixture
def table():
    """Two images and three cuts."""
    images, labels = np.array([7, 9]), np.array([0, 1])
    return ScoreTable(key=KEY, images=images, labels=labels, scores=np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))


def test_rows(table):
    """Further rows come last, the first ones can be taken alone, and the table itself stays as it is."""
    longer = table.extended(np.array([2]), np.array([1]), np.array([[7.0, 8.0, 9.0]]))

    assert (2, 3) == (len(table), len(longer))
    assert ([7, 9, 2], [0, 1, 1]) == (longer.images.tolist(), longer.labels.tolist())
    assert [[1, 2, 3], [4, 5, 6], [7, 8, 9]] == longer.scores.tolist()
    assert ([7], [[1, 2, 3]]) == (longer.head(1).images.tolist(), longer.head(1).scores.tolist())
    assert KEY == longer.head(1).key
    assert 3 == len(ScoreTable.empty(KEY, 3).extended(longer.images, longer.labels, longer.scores))


def test_saved_and_loaded(table, tmp_path):
    """A table comes back under its key; under another one there is nothing yet."""
    table.save(tmp_path)

    back = ScoreTable.load(tmp_path, KEY, 3)

    for name in ("images", "labels", "scores"):
        np.testing.assert_array_equal(getattr(table, name), getattr(back, name))
    assert (0, (0, 3)) == (
        len(ScoreTable.load(tmp_path, "other", 3)),
        ScoreTable.load(tmp_path, "other", 3).scores.shape,
    )


@pytest.mark.parametrize(("key", "cuts"), [(KEY[:16] + "other", 3), (KEY, 4)])
def test_another_run(table, tmp_path, key, cuts):
    """A file of the same name with another key or another number of cuts is refused."""
    table.save(tmp_path)

    with pytest.raises(StudyError, match="belongs to another run; delete it"):
        ScoreTable.load(tmp_path, key, cuts)
