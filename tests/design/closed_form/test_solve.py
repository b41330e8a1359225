"""The closed form is optimal, by hand and against other maps, and loses nothing at full rank."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from isplit.design.bottleneck.linear import LinearMap
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.moment_sums import MomentSums, Statistics
from isplit.design.closed_form.moments import CutMoments, CutVectors
from isplit.design.closed_form.solve import Reducer, solve
from tests.design.conftest import make_cut


@torch.no_grad()
def apply(mapping: LinearMap, tensor: torch.Tensor) -> torch.Tensor:
    """Encode and decode."""
    return mapping.decode(mapping.encode(tensor))


def make_statistics(covariance: np.ndarray, importance: np.ndarray) -> Statistics:
    channels = len(covariance)
    return Statistics(
        mean=torch.zeros(channels, dtype=torch.float64),
        scale=torch.ones(channels, dtype=torch.float64),
        covariance=torch.as_tensor(covariance, dtype=torch.float64),
        importance=torch.as_tensor(importance, dtype=torch.float64),
        samples=100,
    )


def test_reduced_channels_give_one_linear_map() -> None:
    """Reducing the channels and then solving for patches is what the kept map does at once, mean and scale included."""
    rng = np.random.default_rng(4)
    mixing = rng.standard_normal((3, 6))
    hidden = rng.standard_normal((80, 3, 4, 4))
    tensor = torch.from_numpy((np.einsum("nrhw,rc->nchw", hidden, mixing) * 30 + 7).astype(np.float32))
    slopes = torch.from_numpy(rng.standard_normal((80, 6, 4, 4)).astype(np.float32))
    positions = CutMoments(CutVectors.of(make_cut((6, 4, 4)), image_size=(4, 4)), images=4)
    positions.add(tensor, slopes)
    (single,) = positions.solve().solutions
    reducer = Reducer(
        PatchLayout((6, 4, 4), 1, 2), single.mean, single.scale, single.encoder[:, :3], single.decoder[:3]
    )
    vectors = CutVectors.of(make_cut((6, 4, 4)), image_size=(4, 4), patch=2, reducer=reducer)
    patches = CutMoments(vectors, images=4)
    patches.add(tensor, slopes)

    (solution,) = patches.solve().solutions
    whole = solution.keep(12)

    assert (12, 24) == tuple(whole.encoder.shape)
    torch.testing.assert_close(apply(whole, tensor), tensor, rtol=1e-3, atol=0.5)
    latents = whole.encode(tensor)
    # The latents' second moments are the eigenvalues: the map is the one that was solved for.
    torch.testing.assert_close(latents.square().mean((0, 2)).double(), solution.eigenvalues, rtol=0.05, atol=1e-3)


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
def weighted_error(mapping: LinearMap, statistics: Statistics) -> float:
    """E[(a - a')ᵀ S (a - a')] from the moments: a' = Dᵀ E a with the rows of E and D."""
    rest = torch.eye(mapping.layout.width, dtype=torch.float64) - (mapping.decoder.T @ mapping.encoder).double()
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


def test_short_vectors_are_solved_in_float64() -> None:
    """Eigenvalues by hand to twelve digits: 3 and 1, each with a thousandth of the mean, times 1.001."""
    statistics = make_statistics(np.diag([3.0, 1.0]), np.eye(2))

    eigenvalues = solve(PatchLayout((2, 1, 1), 1), statistics, weighted=False).eigenvalues

    assert [1.001 * 3.002, 1.001 * 1.002] == pytest.approx(eigenvalues.tolist(), rel=1e-12)


def test_energy_that_is_left_out() -> None:
    """What some latents leave is the rest of the trace, at every position; given-up channels add what they hold."""
    layout = PatchLayout((4, 6, 6), 1)
    sums = MomentSums(layout)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        sums.add(*(torch.randn(8, 4, 6, 6, generator=generator) for _ in range(2)))
    solution = solve(layout, sums.statistics())

    expected = 36 * float(solution.eigenvalues[1:].sum())
    assert expected == pytest.approx(solution.left_out(1), rel=1e-6)
    assert 0 == pytest.approx(solution.left_out(4), abs=1e-6)
    kept = solution.encoder[:, :3], solution.decoder[:3]
    reducer = Reducer(layout, solution.mean, solution.scale, *kept, left_out=0.5)
    assert expected + 36 * 0.5 == pytest.approx(replace(solution, reducer=reducer).left_out(1), rel=1e-6)
