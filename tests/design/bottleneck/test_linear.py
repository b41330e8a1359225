"""The closed form by hand, its optimality, and what it is made of."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isplit.design.bottleneck.linear import LinearBottleneck, solve
from isplit.design.bottleneck.patches import PatchLayout, choose_patch
from isplit.design.bottleneck.statistics import MomentSums, Statistics
from isplit.records import Crossing, Cut


def make_cut(shape: tuple[int, ...], axis: int = 1) -> Cut:
    names = "depth bytes head_macs tail_macs head_parameters tail_parameters head_peak_bytes tail_peak_bytes".split()
    crossing = (Crossing(name="x", shape=shape, dtype="float32", bytes=1),)
    figures = dict.fromkeys(names, 1)
    return Cut(name="x", kind="default", op="relu", crossing=crossing, channel_axis=axis, **figures)


def make_statistics(covariance: np.ndarray, importance: np.ndarray) -> Statistics:
    width = len(covariance)
    return Statistics(
        mean=torch.zeros(width, dtype=torch.float64),
        scale=torch.ones(width, dtype=torch.float64),
        covariance=torch.as_tensor(covariance, dtype=torch.float64),
        importance=torch.as_tensor(importance, dtype=torch.float64),
        samples=100,
    )


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    channels=st.integers(1, 3),
    patch=st.sampled_from([1, 2, 4]),
    axis=st.sampled_from([1, -1]),
)
def test_patches_come_back(rows: int, columns: int, channels: int, patch: int, axis: int) -> None:
    """Splitting into patches and joining them is the identity, padding included."""
    shape = (channels, rows, columns) if axis == 1 else (rows, columns, channels)
    layout = PatchLayout(shape, axis, patch)
    tensor = torch.randn(2, *shape)

    vectors = layout.split(tensor)

    assert (2, layout.vectors, layout.width) == vectors.shape
    assert torch.equal(tensor, layout.join(vectors))


def test_a_vector_holds_one_patch() -> None:
    """Channels first, then rows and columns of the patch; a patch over the edge repeats it and is not whole."""
    layout = PatchLayout((1, 3, 2), 1, 2)
    vectors = layout.split(torch.arange(6.0).reshape(1, 1, 3, 2))

    assert [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 4.0, 5.0]] == vectors[0].tolist()
    assert [True, False] == layout.whole().tolist()


def test_tokens_are_vectors_as_they_are() -> None:
    """N×T×D needs no patches."""
    layout = PatchLayout.of(make_cut((5, 8), -1))
    tokens = torch.randn(3, 5, 8)

    assert torch.equal(tokens, layout.split(tokens))
    assert torch.equal(tokens, layout.join(tokens))


@pytest.mark.parametrize(
    ("shape", "images", "expected"),
    [
        ((64, 64, 64), 640, 4),
        ((256, 16, 16), 640, 2),
        ((512, 8, 8), 640, 2),
        ((512, 4, 4), 640, 1),
        ((3000, 8, 8), 640, 1),
    ],
)
def test_patch_by_width_and_samples(shape: tuple[int, ...], images: int, expected: int) -> None:
    """At most 2048 numbers a vector, at least five samples a number."""
    assert expected == choose_patch(make_cut(shape), images)


def test_moments_are_those_of_numpy() -> None:
    """Streamed over batches: mean, standardised covariance, and the gradient's second moment in the same units."""
    rng = np.random.default_rng(0)
    activations = (rng.standard_normal((60, 2, 3, 4)) * [[[[3]], [[0.1]]]] + 5).astype(np.float32)
    gradients = rng.standard_normal((60, 2, 3, 4)).astype(np.float32)
    sums = MomentSums(PatchLayout((2, 3, 4), 1))
    for start in (0, 25):
        end = 25 if start == 0 else 60
        sums.add(torch.from_numpy(activations[start:end]), torch.from_numpy(gradients[start:end]))

    found = sums.statistics()

    vectors, slopes = (array.transpose(0, 2, 3, 1).reshape(-1, 2).astype(float) for array in (activations, gradients))
    scale = vectors.std(0)
    np.testing.assert_allclose(found.mean, vectors.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.scale, scale, rtol=1e-4)
    np.testing.assert_allclose(found.covariance, np.cov((vectors / scale).T, bias=True), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.importance, (slopes * scale).T @ (slopes * scale) / len(slopes), rtol=1e-4)
    assert 60 * 12 == found.samples


def test_importance_decides_what_is_kept() -> None:
    """The first direction varies more, the second matters more: PCA keeps the first, the closed form the second."""
    statistics = make_statistics(np.diag([4.0, 1.0]), np.diag([1.0, 100.0]))
    layout = PatchLayout((2, 1, 1), 1)
    tensor = torch.tensor([[[[2.0]], [[1.0]]]])

    pca = solve(layout, statistics, weighted=False).truncated(1)(tensor).flatten().tolist()
    weighted = solve(layout, statistics).truncated(1)(tensor).flatten().tolist()

    assert [2.0, 0.0] == pytest.approx(pca, abs=1e-5)
    assert [0.0, 1.0] == pytest.approx(weighted, abs=1e-5)
    assert [100.0, 4.0] == pytest.approx(solve(layout, statistics).eigenvalues.tolist(), rel=0.1)


def correlated(width: int, seed: int) -> np.ndarray:
    factor = np.random.default_rng(seed).standard_normal((width, width))
    return factor @ factor.T + 0.1 * np.eye(width)


def weighted_error(bottleneck: LinearBottleneck, statistics: Statistics) -> float:
    """E[(a - a')ᵀ S (a - a')] from the moments."""
    width = len(statistics.mean)
    rest = torch.eye(width, dtype=torch.float64) - (bottleneck.encoder @ bottleneck.decoder).double()
    return float(torch.trace(rest @ statistics.importance @ rest.T @ statistics.covariance))


def test_no_other_linear_map_of_the_rank_is_better() -> None:
    """The weighted error is the sum of the eigenvalues left out, and perturbed or random maps have more."""
    statistics = make_statistics(correlated(8, 1), correlated(8, 2))
    layout = PatchLayout((8, 1, 1), 1)
    best = solve(layout, statistics).truncated(3)
    error = weighted_error(best, statistics)

    assert float(best.eigenvalues[3:].sum()) == pytest.approx(error, rel=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        moved = best.encoder + 0.05 * torch.randn(best.encoder.shape, generator=generator)
        other = LinearBottleneck(layout, best.mean, best.scale, moved, best.decoder, best.eigenvalues)
        assert weighted_error(other, statistics) > error
    assert weighted_error(solve(layout, statistics, weighted=False).truncated(3), statistics) > error


@pytest.mark.parametrize("weighted", [True, False])
def test_full_rank_loses_nothing(weighted: bool) -> None:
    """All latents give back what went in, whatever the weights and units."""
    rng = np.random.default_rng(3)
    tensor = torch.from_numpy((rng.standard_normal((50, 3, 6, 6)) * 200 + 100).astype(np.float32))
    layout = PatchLayout((3, 6, 6), 1, 2)
    sums = MomentSums(layout)
    sums.add(tensor, torch.from_numpy(rng.standard_normal((50, 3, 6, 6)).astype(np.float32)))

    torch.testing.assert_close(solve(layout, sums.statistics(), weighted=weighted)(tensor), tensor, rtol=1e-3, atol=0.5)


def test_a_cut_without_gradient_or_variance_is_no_error() -> None:
    """Dead channels and zero gradients leave a map that can be applied."""
    layout = PatchLayout((2, 2, 2), 1)
    sums = MomentSums(layout)
    sums.add(torch.zeros(4, 2, 2, 2), torch.zeros(4, 2, 2, 2))

    assert torch.isfinite(solve(layout, sums.statistics())(torch.zeros(1, 2, 2, 2))).all()
