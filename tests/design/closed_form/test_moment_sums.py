"""Streamed moments are those of numpy."""

import numpy as np
import pytest
import torch

from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.moment_sums import MomentSums


def test_moments_are_those_of_numpy() -> None:
    """Streamed over batches: mean, standardised covariance, and the gradient's second moment in the same units."""
    rng = np.random.default_rng(0)
    activations = (rng.standard_normal((60, 2, 3, 4)) * [[[[3]], [[0.1]]]] + 5).astype(np.float32)
    gradients = rng.standard_normal((60, 2, 3, 4)).astype(np.float32)
    sums = MomentSums(PatchLayout((2, 3, 4), 1))
    for start in (0, 25):
        end = 25 if start == 0 else 60
        sums.add(torch.from_numpy(activations[start:end]), torch.from_numpy(gradients[start:end]))

    statistics = sums.statistics()

    vectors, slopes = (array.transpose(0, 2, 3, 1).reshape(-1, 2).astype(float) for array in (activations, gradients))
    scale = vectors.std(0)
    np.testing.assert_allclose(statistics.mean, vectors.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.scale, scale, rtol=1e-4)
    np.testing.assert_allclose(statistics.covariance, np.cov((vectors / scale).T, bias=True), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(statistics.importance, (slopes * scale).T @ (slopes * scale) / len(slopes), rtol=1e-4)
    assert 60 * 12 == statistics.samples


def test_moments_far_from_zero() -> None:
    """A deviation a thousandth of the mean, over uneven batches and more vectors than are multiplied at once."""
    rng = np.random.default_rng(0)
    means = np.array([1000, -3000])[:, None, None]
    activations = (rng.standard_normal((250, 2, 3, 4)) + means).astype(np.float32)
    gradients = rng.standard_normal((250, 2, 3, 4)).astype(np.float32)
    sums = MomentSums(PatchLayout((2, 3, 4), 1))
    for start, end in ((0, 1), (1, 90), (90, 97), (97, 250)):
        sums.add(torch.from_numpy(activations[start:end]), torch.from_numpy(gradients[start:end]))

    statistics = sums.statistics()

    vectors, slopes = (array.transpose(0, 2, 3, 1).reshape(-1, 2).astype(float) for array in (activations, gradients))
    np.testing.assert_allclose(statistics.mean, vectors.mean(0), rtol=1e-6)
    np.testing.assert_allclose(statistics.scale, vectors.std(0), rtol=1e-4)
    np.testing.assert_allclose(statistics.covariance, np.corrcoef(vectors.T), atol=1e-4)
    np.testing.assert_allclose(
        statistics.importance, slopes.T @ slopes / 3000 * np.outer(statistics.scale, statistics.scale), rtol=1e-4
    )
    assert 3000 == statistics.samples


def test_moments_of_patches_are_standardised_per_channel() -> None:
    """All places of a patch share their channel's mean and scale; patches over the edge are left out."""
    rng = np.random.default_rng(0)
    activations = (rng.standard_normal((40, 2, 3, 4)) * [[[[3]], [[0.1]]]] + [[[[5]], [[-1]]]]).astype(np.float32)
    activations[:, :, 2] += 1000  # the third row is in no whole patch
    layout = PatchLayout((2, 3, 4), 1, 2)
    sums = MomentSums(layout)
    sums.add(torch.from_numpy(activations), torch.from_numpy(activations))

    statistics = sums.statistics()

    inside = activations[:, :, :2].astype(float)
    mean, scale = inside.mean((0, 2, 3)), inside.std((0, 2, 3))
    np.testing.assert_allclose(statistics.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(statistics.scale, scale, rtol=1e-3)
    standard = (inside - mean[:, None, None]) / scale[:, None, None]
    vectors = np.stack([standard[:, :, :, place : place + 2].reshape(40, 8) for place in (0, 2)]).reshape(80, 8)
    np.testing.assert_allclose(statistics.covariance, vectors.T @ vectors / 80, rtol=1e-2, atol=5e-3)
    assert 80 == statistics.samples


def test_no_more_vectors_than_asked_for() -> None:
    """A limit per image takes as many at random, activation and gradient of the same places."""
    sums = MomentSums(PatchLayout((1, 8, 8), 1), per_image=10)
    values = torch.randn(3, 1, 8, 8)
    sums.add(values, 2 * values)
    statistics = sums.statistics()

    assert 30 == statistics.samples
    second = float(statistics.mean**2 + statistics.scale**2 * statistics.covariance)
    assert 4 * second == pytest.approx(float(statistics.importance / statistics.scale**2), rel=1e-4)


def test_a_channel_that_never_varies() -> None:
    """Its scale is 1, and it varies with no other: nothing is divided by zero."""
    values = torch.randn(20, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    values[:, 1] = 3.0
    sums = MomentSums(PatchLayout((2, 2, 2), 1))
    sums.add(values, torch.ones_like(values))

    statistics = sums.statistics()

    assert (3.0, 1.0) == (pytest.approx(float(statistics.mean[1])), float(statistics.scale[1]))
    assert [0.0] * 3 == pytest.approx(
        [float(statistics.covariance[place]) for place in ((0, 1), (1, 0), (1, 1))], abs=1e-9
    )
    assert 1.0 == pytest.approx(float(statistics.covariance[0, 0]))
    assert 1.0 == pytest.approx(float(statistics.importance[1, 1]))


def test_moments_of_long_vectors() -> None:
    """Vectors whose products are summed in float32, over several products, far from zero and after a restart."""
    rng = np.random.default_rng(0)
    width, count = 600, 2600
    activations = (rng.standard_normal((count, width)) + 1000).astype(np.float32)
    gradients = rng.standard_normal((count, width)).astype(np.float32)
    layout = PatchLayout((1, width), -1)
    first, sums = MomentSums(layout), MomentSums(layout)
    for start in range(0, count, 650):
        if start == 1300:
            sums.restore({name: part.copy() for name, part in first.state().items()})
        batch = slice(start, start + 650)
        for of_batch in (first, sums) if start >= 1300 else (first,):
            of_batch.add(torch.from_numpy(activations[batch, None]), torch.from_numpy(gradients[batch, None]))

    statistics = sums.statistics()

    scale = activations.astype(float).std(0)
    expected = np.corrcoef(activations.astype(float).T)
    np.testing.assert_allclose(statistics.covariance, expected, atol=1e-4)
    slopes = gradients.astype(float) * scale
    np.testing.assert_allclose(statistics.importance, slopes.T @ slopes / count, rtol=1e-3, atol=1e-4)
    assert torch.equal(first.statistics().covariance, statistics.covariance)
