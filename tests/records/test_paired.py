"""Paired comparisons: errors and bounds by hand, and how often the bounds hold."""

import numpy as np
import pytest

from isplit.records import Paired
from isplit.records.paired import lower_share, upper_share


def paired(losses: int, wins: int, images: int) -> Paired:
    """Return the comparison of two classifiers that disagree on so many of the images."""
    first, second = np.ones(images, bool), np.ones(images, bool)
    first[:wins] = False
    second[wins : wins + losses] = False
    return Paired.from_answers(first, second)


def test_where_nothing_disagrees_the_error_is_not_nothing():
    """On 50 images without a disagreement, the loss may be 5.8 points, and the standard error says so."""
    same = paired(0, 0, 50)
    assert pytest.approx(1 - 0.05 ** (1 / 50), abs=1e-9) == same.largest_loss(50)
    assert 0.055 < same.largest_loss(50) < 0.06
    assert pytest.approx(same.largest_loss(50) / 1.6449, rel=1e-3) == same.stderr


def test_shares_by_hand():
    """Clopper and Pearson's bounds of 0, 3 and all of 10 (from tables of the beta distribution)."""
    assert pytest.approx(1 - 0.05**0.1) == upper_share(0, 10)
    assert pytest.approx((0.0873, 0.6066), abs=1e-4) == (lower_share(3, 10), upper_share(3, 10))
    assert (0.0, 1.0) == (lower_share(0, 10), upper_share(10, 10))


def test_standard_error_of_disagreements():
    """Five losses and two wins on 100 images lose 3 points, with McNemar's error."""
    comparison = paired(5, 2, 100)
    assert (5, 2, -0.03) == (comparison.only_first, comparison.only_second, pytest.approx(comparison.difference))
    assert pytest.approx(((0.07 - 0.0009) / 100) ** 0.5) == comparison.stderr
    assert comparison.smallest_loss(100) < 0.03 < comparison.largest_loss(100)


@pytest.mark.parametrize(("loses", "wins", "images"), [(0.01, 0.0, 200), (0.03, 0.02, 500), (0.1, 0.05, 100)])
def test_bounds_hold(loses: float, wins: float, images: int):
    """The true loss is below the bound in about 95 % of samples or more."""
    rng = np.random.default_rng(0)
    draws = rng.multinomial(images, [loses, wins, 1 - loses - wins], size=200)
    bounds = [paired(int(lost), int(won), images).largest_loss(images) for lost, won, _ in draws]
    assert np.mean(np.array(bounds) >= loses - wins) >= 0.92


def test_images_that_would_settle():
    """So many images, with the same shares, settle it; a loss at the limit cannot be settled."""
    comparison = paired(8, 4, 1000)
    wanted = comparison.images_to_settle(1000, 0.01)
    assert wanted is not None
    scale = -(-wanted // 1000) + 1
    more = paired(8 * scale, 4 * scale, 1000 * scale)
    assert comparison.largest_loss(1000) > 0.01 >= more.largest_loss(1000 * scale)
    assert paired(10, 0, 1000).images_to_settle(1000, 0.01) is None


@pytest.mark.parametrize("images", [10, 60, 179])
def test_exact_bounds_decide_where_hardly_anything_disagrees(images: int):
    """299 images without a disagreement show a loss of at most a point, however few have been seen."""
    none = paired(0, 0, images)
    wanted = none.images_to_settle(images, 0.01)
    assert wanted is not None
    assert 299 <= wanted < 310
    assert paired(0, 0, wanted).largest_loss(wanted) <= 0.01


def test_counts_beyond_what_is_summed(monkeypatch):
    """A record with counts beyond a million takes no time and memory in proportion, and the bounds hardly differ."""
    exact = [bound(2000, 9000) for bound in (upper_share, lower_share)]
    monkeypatch.setattr("isplit.records.paired._LARGEST_EXACT", 0)
    np.testing.assert_allclose([bound(2000, 9000) for bound in (upper_share, lower_share)], exact, atol=5e-5)
    assert 0.999 < Paired(only_first=2**60, only_second=1, difference=-1, stderr=0).largest_loss(10) < 1.001


def test_paired():
    """Of four images one is won and two are lost: the variance is 3/4 - (1/4)^2 = 11/16, over four images."""
    paired = Paired.from_answers([1, 1, 0, 1], [0, 0, 1, 1])
    assert (2, 1) == (paired.only_first, paired.only_second)
    assert paired.difference == -0.25
    assert pytest.approx((11 / 64) ** 0.5) == paired.stderr


def test_paired_without_images():
    """No images are no difference, as little known as one image would tell, and no division by zero."""
    paired = Paired.from_answers([], [])
    assert (0, 0, 0.0) == (paired.only_first, paired.only_second, paired.difference)
    assert Paired.from_answers([True], [True]).stderr == paired.stderr > 0.5
