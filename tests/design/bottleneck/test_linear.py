"""The closed form by hand, its optimality, and what it is made of."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isplit.design.bottleneck.linear import LinearMap, Reducer, solve
from isplit.design.bottleneck.patches import PatchLayout, choose_patch
from isplit.design.closed_form.moment_sums import MomentSums, Statistics
from isplit.design.closed_form.moments import CutMoments
from tests.design.conftest import make_cut


@torch.no_grad()
def apply(one: LinearMap, tensor: torch.Tensor) -> torch.Tensor:
    """Encode and decode."""
    return one.decode(one.encode(tensor))


def make_statistics(covariance: np.ndarray, importance: np.ndarray) -> Statistics:
    channels = len(covariance)
    return Statistics(
        mean=torch.zeros(channels, dtype=torch.float64),
        scale=torch.ones(channels, dtype=torch.float64),
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
        ((3, 64, 64), 640, 8),
        ((64, 64, 64), 640, 4),
        ((256, 16, 16), 640, 2),
        ((512, 8, 8), 640, 2),
        ((512, 4, 4), 128, 2),
        ((512, 4, 4), 127, 1),
        ((512, 5, 5), 128, 2),
        ((64, 3, 3), 640, 2),
        ((64, 1, 9), 640, 1),
        ((3000, 8, 8), 640, 1),
        ((512,), 640, 1),
    ],
)
def test_patch_by_width_and_samples(shape: tuple[int, ...], images: int, expected: int) -> None:
    """At most 2048 numbers a vector, a whole patch in the map, and at least a quarter of a sample a number."""
    cut = make_cut(shape)

    assert (expected, PatchLayout.of(cut).channels) == choose_patch(cut, images=images)


@pytest.mark.parametrize(
    ("eigenvalues", "loss", "expected"),
    [
        # All of the energy in 10 directions: they fit into patches of 8, 32 channels at most.
        ([1.0] * 10 + [0.0] * 246, 0.0, (8, 10)),
        # In 100: patches of 4, 128 channels at most.
        ([1.0] * 100 + [0.0] * 156, 0.0, (4, 100)),
        # Spread over all 256: nothing can be given up, patches of 2 hold 512.
        ([1.0] * 256, 0.0, (2, 256)),
        # 6.5 % are outside of 32 channels, 3.7 % outside of 128: a budget that loses much anyway can spare them.
        ([93.5 / 32] * 32 + [6.5 / 224] * 224, 0.55, (8, 32)),
        ([93.5 / 32] * 32 + [6.5 / 224] * 224, 0.53, (4, 128)),
        ([93.5 / 32] * 32 + [6.5 / 224] * 224, 0.15, (4, 128)),
        ([93.5 / 32] * 32 + [6.5 / 224] * 224, 0.14, (2, 256)),
    ],
)
def test_channels_that_hardly_matter_make_room(
    eigenvalues: list[float], loss: float, expected: tuple[int, int]
) -> None:
    """A larger patch is had where the channels that do not fit hold little beside what is lost anyway."""
    found = choose_patch(make_cut((256, 16, 16)), images=640, eigenvalues=eigenvalues, loss=loss)

    assert expected == found


def test_reduced_channels_give_one_linear_map() -> None:
    """Reducing the channels and then solving for patches is what the kept map does at once, mean and scale included."""
    rng = np.random.default_rng(4)
    mixing = rng.standard_normal((3, 6))
    hidden = rng.standard_normal((80, 3, 4, 4))
    tensor = torch.from_numpy((np.einsum("nrhw,rc->nchw", hidden, mixing) * 30 + 7).astype(np.float32))
    slopes = torch.from_numpy(rng.standard_normal((80, 6, 4, 4)).astype(np.float32))
    positions = CutMoments(make_cut((6, 4, 4)), image_size=(4, 4), images=4)
    positions.add(tensor, slopes)
    (single,) = positions.solve()
    reducer = Reducer(
        PatchLayout((6, 4, 4), 1, 2), single.mean, single.scale, single.encoder[:, :3], single.decoder[:3]
    )
    patches = CutMoments(make_cut((6, 4, 4)), image_size=(4, 4), images=4, patch=2, reducer=reducer)
    patches.add(tensor, slopes)

    (solution,) = patches.solve()
    whole = solution.keep(12)

    assert (12, 24) == tuple(whole.encoder.shape)
    torch.testing.assert_close(apply(whole, tensor), tensor, rtol=1e-3, atol=0.5)
    latents = whole.encode(tensor)
    # The latents' second moments are the eigenvalues: the map is the one that was solved for.
    torch.testing.assert_close(latents.square().mean((0, 2)).double(), solution.eigenvalues, rtol=0.05, atol=1e-3)


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


def test_moments_far_from_zero() -> None:
    """A deviation a thousandth of the mean, over uneven batches and more vectors than are multiplied at once."""
    rng = np.random.default_rng(0)
    means = np.array([1000, -3000])[:, None, None]
    activations = (rng.standard_normal((250, 2, 3, 4)) + means).astype(np.float32)
    gradients = rng.standard_normal((250, 2, 3, 4)).astype(np.float32)
    sums = MomentSums(PatchLayout((2, 3, 4), 1))
    for start, end in ((0, 1), (1, 90), (90, 97), (97, 250)):
        sums.add(torch.from_numpy(activations[start:end]), torch.from_numpy(gradients[start:end]))

    found = sums.statistics()

    vectors, slopes = (array.transpose(0, 2, 3, 1).reshape(-1, 2).astype(float) for array in (activations, gradients))
    np.testing.assert_allclose(found.mean, vectors.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.scale, vectors.std(0), rtol=1e-4)
    np.testing.assert_allclose(found.covariance, np.corrcoef(vectors.T), atol=1e-4)
    np.testing.assert_allclose(
        found.importance, slopes.T @ slopes / 3000 * np.outer(found.scale, found.scale), rtol=1e-4
    )
    assert 3000 == found.samples


def test_moments_of_patches_are_standardised_per_channel() -> None:
    """All places of a patch share their channel's mean and scale; patches over the edge are left out."""
    rng = np.random.default_rng(0)
    activations = (rng.standard_normal((40, 2, 3, 4)) * [[[[3]], [[0.1]]]] + [[[[5]], [[-1]]]]).astype(np.float32)
    activations[:, :, 2] += 1000  # the third row is in no whole patch
    layout = PatchLayout((2, 3, 4), 1, 2)
    sums = MomentSums(layout)
    sums.add(torch.from_numpy(activations), torch.from_numpy(activations))

    found = sums.statistics()

    inside = activations[:, :, :2].astype(float)
    mean, scale = inside.mean((0, 2, 3)), inside.std((0, 2, 3))
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(found.scale, scale, rtol=1e-3)
    standard = (inside - mean[:, None, None]) / scale[:, None, None]
    vectors = np.stack([standard[:, :, :, place : place + 2].reshape(40, 8) for place in (0, 2)]).reshape(80, 8)
    np.testing.assert_allclose(found.covariance, vectors.T @ vectors / 80, rtol=1e-2, atol=5e-3)
    assert 80 == found.samples


def test_no_more_vectors_than_asked_for() -> None:
    """A limit per image takes as many at random, activation and gradient of the same places."""
    sums = MomentSums(PatchLayout((1, 8, 8), 1), per_image=10)
    values = torch.randn(3, 1, 8, 8)
    sums.add(values, 2 * values)
    found = sums.statistics()

    assert 30 == found.samples
    second = float(found.mean**2 + found.scale**2 * found.covariance)
    assert 4 * second == pytest.approx(float(found.importance / found.scale**2), rel=1e-4)


def test_importance_decides_what_is_kept() -> None:
    """The first direction varies more, the second matters more: PCA keeps the first, the closed form the second."""
    statistics = make_statistics(np.diag([4.0, 1.0]), np.diag([1.0, 100.0]))
    layout = PatchLayout((2, 1, 1), 1)
    tensor = torch.tensor([[[[2.0]], [[1.0]]]])

    pca = apply(solve(layout, statistics, weighted=False).keep(1), tensor).flatten().tolist()
    weighted = apply(solve(layout, statistics).keep(1), tensor).flatten().tolist()

    assert [2.0, 0.0] == pytest.approx(pca, abs=1e-5)
    assert [0.0, 1.0] == pytest.approx(weighted, abs=1e-5)
    assert [100.0, 4.0] == pytest.approx(solve(layout, statistics).eigenvalues.tolist(), rel=0.1)


def test_latents_can_be_chosen_one_by_one() -> None:
    """`keep` takes places too: those latents alone, in that order."""
    statistics = make_statistics(np.diag([4.0, 1.0, 9.0]), np.eye(3))
    solution = solve(PatchLayout((3, 1, 1), 1), statistics)
    tensor = torch.tensor([[[[2.0]], [[1.0]], [[5.0]]]])

    some = solution.keep(torch.tensor([2, 0]))

    torch.testing.assert_close(some.encode(tensor), solution.keep(3).encode(tensor)[:, [2, 0]])
    assert [0.0, 1.0, 5.0] == pytest.approx(apply(some, tensor).flatten().tolist(), abs=1e-5)
    assert 2 == some.rank


def correlated(width: int, seed: int) -> np.ndarray:
    factor = np.random.default_rng(seed).standard_normal((width, width))
    return factor @ factor.T + 0.1 * np.eye(width)


@torch.no_grad()
def weighted_error(one: LinearMap, statistics: Statistics) -> float:
    """E[(a - a')ᵀ S (a - a')] from the moments: a' = Dᵀ E a with the rows of E and D."""
    rest = torch.eye(one.layout.width, dtype=torch.float64) - (one.decoder.T @ one.encoder).double()
    return float(torch.trace(rest.T @ statistics.importance @ rest @ statistics.covariance))


def test_no_other_linear_map_of_the_rank_is_better() -> None:
    """The weighted error is the sum of the eigenvalues left out, and perturbed or random maps have more."""
    statistics = make_statistics(correlated(8, 1), correlated(8, 2))
    layout = PatchLayout((8, 1, 1), 1)
    solution = solve(layout, statistics)
    best = solution.keep(3)
    error = weighted_error(best, statistics)

    assert float(solution.eigenvalues[3:].sum()) == pytest.approx(error, rel=0.02)
    generator = torch.Generator().manual_seed(0)
    for side in ("encoder", "decoder"):
        for _ in range(50):
            other = solution.keep(3)
            with torch.no_grad():
                matrix = getattr(other, side)
                matrix += 0.05 * torch.randn(matrix.shape, generator=generator)
            assert weighted_error(other, statistics) > error
    for places in ([0, 1, 3], [5, 6, 7]):
        assert weighted_error(solution.keep(torch.tensor(places)), statistics) > error
    assert weighted_error(solve(layout, statistics, weighted=False).keep(3), statistics) > error


@pytest.mark.parametrize("weighted", [True, False])
def test_full_rank_loses_nothing(weighted: bool) -> None:
    """All latents give back what went in, whatever the weights and units."""
    rng = np.random.default_rng(3)
    tensor = torch.from_numpy((rng.standard_normal((50, 3, 6, 6)) * 200 + 100).astype(np.float32))
    layout = PatchLayout((3, 6, 6), 1, 2)
    sums = MomentSums(layout)
    sums.add(tensor, torch.from_numpy(rng.standard_normal((50, 3, 6, 6)).astype(np.float32)))

    whole = solve(layout, sums.statistics(), weighted=weighted).keep(layout.width)
    torch.testing.assert_close(apply(whole, tensor), tensor, rtol=1e-3, atol=0.5)


def test_a_cut_without_gradient_or_variance_is_no_error() -> None:
    """Zero gradients leave a map that can be applied, and eigenvalues of zero: nothing there is worth a byte."""
    layout = PatchLayout((2, 2, 2), 1)
    sums = MomentSums(layout)
    sums.add(torch.zeros(4, 2, 2, 2), torch.zeros(4, 2, 2, 2))

    solution = solve(layout, sums.statistics())

    assert torch.isfinite(apply(solution.keep(2), torch.zeros(1, 2, 2, 2))).all()
    assert [0.0, 0.0] == solution.eigenvalues.tolist()


def test_a_dead_channel_comes_back_as_its_constant() -> None:
    """A channel that never varies has no say in what is kept, and decodes to its value."""
    tensor = torch.randn(50, 3, 4, 4)
    tensor[:, 1] = 7
    layout = PatchLayout((3, 4, 4), 1)
    sums = MomentSums(layout)
    sums.add(tensor, torch.randn(50, 3, 4, 4))
    decoded = apply(solve(layout, sums.statistics()).keep(2), tensor)

    torch.testing.assert_close(decoded[:, 1], tensor[:, 1], rtol=0, atol=0.05)
    torch.testing.assert_close(decoded[:, [0, 2]], tensor[:, [0, 2]], rtol=0, atol=0.05)
