"""Curves and standard errors by hand, the table of scores, and when the order is settled."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from isplit.design.importance.curve import curve_points
from isplit.design.importance.settle import order_is_settled
from isplit.design.importance.table import ScoreTable
from isplit.errors import StudyError


def test_means_and_errors_by_hand() -> None:
    """Class a: 1, 3 (mean 2, variance 2); class b: 10 (mean 10). Overall the mean of the means, 6."""
    scores = np.array([[1.0, 2.0], [3.0, 2.0], [10.0, 12.0], [8.0, 12.0]])
    first, second = curve_points(["x", "y"], scores, np.array([0, 0, 1, 1]), ["a", "b"])

    assert (2.0, 9.0) == (first.per_class["a"], first.per_class["b"])
    assert 5.5 == first.cui
    assert 5.5 == first.image_mean
    # Each class: variance 2, two images, so 1 for the variance of its mean; (1 + 1) / 2² under the root.
    assert np.sqrt(0.5) == pytest.approx(first.stderr)
    assert 1.0 == pytest.approx(first.per_class_stderr["a"])
    assert 0.0 == second.stderr
    # Differences to the point before: a: 1, -1 (variance 2), b: 2, 4 (variance 2).
    assert np.sqrt(0.5) == pytest.approx(second.step_stderr)
    assert first.step_stderr is None


def test_every_class_has_the_same_say() -> None:
    """Ninety images of one class and ten of another: the mean of class means, beside the mean over images."""
    scores = np.concatenate([np.full((90, 1), 1.0), np.full((10, 1), 3.0)])
    (point,) = curve_points(["x"], scores, np.array([0] * 90 + [1] * 10), ["a", "b"])

    assert 2.0 == point.cui
    assert 1.2 == pytest.approx(point.image_mean)


def test_images_outside_the_classes_are_left_out() -> None:
    """A subset's curve is that of its own images."""
    scores = np.array([[1.0], [100.0], [3.0]])
    (point,) = curve_points(["x"], scores, np.array([0, -1, 1]), ["a", "b"])

    assert 2.0 == point.cui
    assert point.stderr is None, "one image a class tells no variance"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_scores_are_counted_and_not_averaged_away(bad: float) -> None:
    """The cut's value is None, the count says how many images; other cuts and classes keep theirs."""
    scores = np.array([[1.0, 2.0], [bad, 2.0], [3.0, 4.0], [3.0, 4.0]])
    first, second = curve_points(["x", "y"], scores, np.array([0, 0, 1, 1]), ["a", "b"])

    assert (None, 1) == (first.cui, first.non_finite)
    assert (None, 3.0) == (first.per_class["a"], first.per_class["b"])
    assert (3.0, 0) == (second.cui, second.non_finite)


@given(
    scores=arrays(np.float64, (12, 3), elements=st.floats(0, 1e3)),
    labels=arrays(np.int64, 12, elements=st.integers(0, 2)),
    shuffle=st.permutations(range(12)),
)
def test_the_order_of_images_does_not_matter(scores: np.ndarray, labels: np.ndarray, shuffle: list[int]) -> None:
    """The curve is a statistic of the set of images."""
    names = ["a", "b", "c"]
    before = curve_points(["x", "y", "z"], scores, labels, names)
    after = curve_points(["x", "y", "z"], scores[shuffle], labels[shuffle], names)

    assert [point.cui for point in before] == pytest.approx([point.cui for point in after], rel=1e-9, abs=1e-9)


def test_settled_when_differences_exceed_their_errors() -> None:
    """A clear peak is settled; the same peak in noise is not, unless the tolerance is wider than the noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    clear = np.array([1.0, 2.0, 1.5]) + 0.01 * rng.standard_normal((40, 3))
    noisy = np.array([1.0, 1.02, 1.0]) + 0.3 * rng.standard_normal((40, 3))

    def settled(scores: np.ndarray, tolerance: float) -> bool:
        points = curve_points(["x", "y", "z"], scores, labels, ["a", "b"])
        return order_is_settled(points, scores, labels, 2, tolerance)

    assert settled(clear, 0.001)
    assert not settled(noisy, 0.01)
    assert settled(noisy, 0.5)


def test_scores_survive_on_disk(tmp_path: Path) -> None:
    """What was saved is loaded under its key, and a head of it is a table too."""
    table = ScoreTable.empty("a" * 64, 2).extended(
        np.array([5, 3]), np.array([1, 0]), np.array([[1.0, 2.0], [3.0, 4.0]])
    )
    table.save(tmp_path)
    loaded = ScoreTable.load(tmp_path, "a" * 64, 2)

    assert [[1.0, 2.0], [3.0, 4.0]] == loaded.scores.tolist()
    assert [5] == loaded.head(1).images.tolist()
    assert 0 == len(ScoreTable.load(tmp_path, "b" * 64, 2))


def test_damaged_scores_are_refused(tmp_path: Path) -> None:
    """A truncated file is named, with what to do."""
    table = ScoreTable.empty("a" * 64, 2).extended(np.array([5]), np.array([1]), np.array([[1.0, 2.0]]))
    table.save(tmp_path)
    (path,) = (tmp_path / "scores").iterdir()
    path.write_bytes(path.read_bytes()[:40])

    with pytest.raises(StudyError, match="delete it"):
        ScoreTable.load(tmp_path, "a" * 64, 2)
