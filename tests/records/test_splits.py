"""Pairs of classifiers on the same images, and budgets."""

import pytest

from isplit.records import Budget, Paired


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


def test_order_of_budgets():
    """Bytes come first, small before large; then shares of the elements, the smallest first."""
    budgets = [Budget(element_ratio=8), Budget(payload_bytes=512), Budget(element_ratio=64), Budget(payload_bytes=64)]
    assert ["64B", "512B", "1in64", "1in8"] == [b.tag for b in sorted(budgets, key=lambda budget: budget.order)]
