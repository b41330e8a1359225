"""The largest eigenpairs alone are those of the full problem, and as many as the caller says matter."""

import pytest
import torch
from scipy.linalg import lapack

from isplit.design.closed_form.eigenpairs import Eigenpairs, largest_eigenpairs


def problem(width: int, *, power: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a lower triangular factor and a covariance whose eigenvalues fall as a power of their place."""
    generator = torch.Generator().manual_seed(3)
    vectors = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
    falling = torch.arange(1, width + 1, dtype=torch.float64) ** -power
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5
    return torch.linalg.cholesky(mixing @ mixing.T + torch.eye(width)), (vectors * falling) @ vectors.T


def exact(factor: torch.Tensor, covariance: torch.Tensor) -> Eigenpairs:
    """Return all pairs in float64, the largest first."""
    values, vectors = torch.linalg.eigh(factor.T @ covariance @ factor)
    return Eigenpairs(values.flip(0), vectors.flip(1))


@pytest.mark.parametrize("width", [600, 601])
def test_the_largest_pairs_are_those_of_all(width: int) -> None:
    """Values to a millionth of the largest; vectors are orthonormal, and each is an eigenvector."""
    factor, covariance = problem(width, power=1.5)
    expected = exact(factor, covariance)

    pairs = largest_eigenpairs(factor, covariance, lambda values: 40)

    assert (width, 40) == tuple(pairs.vectors.shape)
    largest = float(expected.values[0])
    assert expected.values[:40].tolist() == pytest.approx(pairs.values.tolist(), abs=1e-6 * largest)
    vectors = pairs.vectors.double()
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(40).double(), rtol=0, atol=5e-6)
    residuals = factor.T @ covariance @ factor @ vectors - vectors * pairs.values
    assert float(residuals.norm(dim=0).max()) < 1e-5 * largest


def test_how_many_matter_is_asked_of_all_eigenvalues() -> None:
    """All above a level are found, however many there are, and at least one."""
    factor, covariance = problem(600, power=0.8)
    values = exact(factor, covariance).values
    seen: list[torch.Tensor] = []

    def above(level: float) -> int:
        def count(eigenvalues: torch.Tensor) -> int:
            seen.append(eigenvalues)
            return int((eigenvalues > level).sum())

        return len(largest_eigenpairs(factor, covariance, count).values)

    between = (values[:-1] + values[1:]) / 2
    assert [60, 150, 500] == [above(float(between[count - 1])) for count in (60, 150, 500)]
    assert 1 == above(2 * float(values[0]))
    assert [600] * 4 == [len(eigenvalues) for eigenvalues in seen]


def test_all_pairs_are_found_where_nothing_says_how_many_matter() -> None:
    """Without a question, or with short vectors, the pairs are all there."""
    for width, needed in ((600, None), (40, lambda values: 3)):
        factor, covariance = problem(width, power=1.0)
        pairs = largest_eigenpairs(factor, covariance, needed)
        assert (width, width) == tuple(pairs.vectors.shape)
        assert exact(factor, covariance).values.tolist() == pytest.approx(pairs.values.tolist(), abs=1e-5)


def test_all_pairs_are_found_where_lapack_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tridiagonal solver does not find, the full one does."""
    factor, covariance = problem(600, power=1.0)
    monkeypatch.setattr(lapack, "dsterf", lambda diagonal, beside: (diagonal, 1))
    assert 600 == len(largest_eigenpairs(factor, covariance, lambda values: 3).values)


def test_the_same_every_time() -> None:
    """Nothing is left to chance."""
    factor, covariance = problem(600, power=2.0)
    first, second = (largest_eigenpairs(factor, covariance, lambda values: 10) for _ in range(2))
    assert torch.equal(first.vectors, second.vectors)
