"""The largest eigenpairs alone are those of the full problem, and it says so where it cannot find them."""

import pytest
import torch

from isplit.design.closed_form.eigenpairs import Needed, largest_eigenpairs


def problem(width: int, *, power: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a lower triangular factor and a covariance whose eigenvalues fall as a power of their place."""
    generator = torch.Generator().manual_seed(3)
    vectors = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    falling = torch.arange(1, width + 1, dtype=torch.float64) ** -power
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5
    return torch.linalg.cholesky(mixing @ mixing.T + torch.eye(width)), (vectors * falling) @ vectors.T


def first(count: int) -> Needed:
    """Ask for so many pairs, and for all that there are where there are fewer."""
    return Needed(lambda values: min(count, len(values)), all_alike=True)


def test_the_largest_pairs_are_those_of_all() -> None:
    """Values to a millionth, and vectors that span the same space but for the last, which hardly matter."""
    factor, covariance = problem(600, power=1.5)
    values, vectors = torch.linalg.eigh(factor.T @ covariance @ factor)
    values, vectors = values.flip(0)[:40], vectors.flip(1)[:, :40]

    pairs = largest_eigenpairs(factor, covariance, first(40))

    assert pairs is not None
    assert (600, 40) == tuple(pairs.vectors.shape)
    assert values.tolist() == pytest.approx(pairs.values.tolist(), rel=1e-4)
    torch.testing.assert_close(pairs.vectors.T @ pairs.vectors, torch.eye(40).double(), rtol=0, atol=1e-5)
    overlap = (vectors[:, :10].T @ pairs.vectors[:, :10]).square().sum(1)
    assert [1.0] * 10 == pytest.approx(overlap.tolist(), abs=1e-4)


def test_the_block_grows_until_enough_is_known() -> None:
    """What matters can depend on the eigenvalues: all above a level are found, however few columns there were first."""
    factor, covariance = problem(600, power=0.8)
    values = torch.linalg.eigvalsh(factor.T @ covariance @ factor).flip(0)
    level = float(values[150])

    pairs = largest_eigenpairs(factor, covariance, Needed(lambda some: int((some > level).sum())))

    assert pairs is None or abs(len(pairs.values) - 150) <= 1
    few = largest_eigenpairs(factor, covariance, Needed(lambda some: int((some > float(values[60])).sum())))
    assert few is not None
    assert abs(len(few.values) - 60) <= 1


def test_nothing_is_returned_where_most_matter() -> None:
    """Half of all pairs are better found with all the others."""
    factor, covariance = problem(300, power=1.0)
    assert largest_eigenpairs(factor, covariance, first(150)) is None


def test_the_same_every_time() -> None:
    """The random columns are the same in every run."""
    factor, covariance = problem(600, power=2.0)
    one, other = (largest_eigenpairs(factor, covariance, first(10)) for _ in range(2))
    assert one is not None
    assert other is not None
    assert torch.equal(one.vectors, other.vectors)
