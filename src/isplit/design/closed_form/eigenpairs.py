"""The largest eigenvalues of a long product of matrices and their vectors, without forming the product.

A budget keeps one or two hundred of some thousands of latents. To find all of them takes ten times as long as to find
these: a block of random vectors is multiplied by the product again and again (subspace iteration, Halko, Martinsson and
Tropp 2011, algorithm 4.4), and after every turn the eigenpairs within the block are solved for (Rayleigh and Ritz).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Needed:
    """How many of the largest eigenvalues matter.

    Attributes:
        count: Maps the largest eigenvalues (descending) to how many of them matter; all of them where more might.
        all_alike: Whether all of these are sent. Otherwise those with small eigenvalues hardly ever are.

    """

    count: Callable[[torch.Tensor], int]
    all_alike: bool = False


_FIRST_BLOCK = 128
_MOST_TURNS = 8
"""What settles does so within six turns; after eight, to find all eigenpairs at once would have taken as long."""
_LARGEST_SHARE = 0.34
"""Where more than this share of all eigenvectors matters, all of them are found at once."""
_TOLERANCE = 1e-4
"""The largest residual |A v - λ v| of a pair that surely matters, as a share of λ."""
_SURE = 16
"""A pair surely matters if its eigenvalue is this many times that of the last one that matters."""
_LOOSE_TOLERANCE = 0.1
"""The largest residual of the others, as a share of λ; their eigenvalues are then right to about its square."""
_EVEN_TOLERANCE = 1e-3
"""The largest residual where all that matter are sent alike, as a share of λ."""
_SPARE = 1.2
"""How many times as many vectors there are as matter: with none to spare the last ones would settle slowly."""


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """The largest eigenvalues (K, descending, float64) and their vectors (d×K, float64, orthonormal)."""

    values: torch.Tensor
    vectors: torch.Tensor


def largest_eigenpairs(factor: torch.Tensor, covariance: torch.Tensor, needed: Needed) -> Eigenpairs | None:
    """Return the largest eigenpairs of Lᵀ Sigma L, as many as matter.

    Products are taken in float32, and each pair is accepted by its residual. Pairs whose eigenvalue is small among
    those that matter are less exact, because hardly any budget sends them.

    Args:
        factor: L (d×d), lower triangular.
        covariance: Sigma (d×d), symmetric.
        needed: Says how many of the largest eigenvalues matter.

    Returns:
        The pairs; None where so many matter that all are better found at once, or where they do not settle.

    """
    width = len(factor)
    lower, middle = factor.float(), covariance.float()
    block = _random_columns(lower, min(_FIRST_BLOCK, width))
    for _ in range(_MOST_TURNS):
        if block.shape[1] > _LARGEST_SHARE * width:
            return None
        basis = torch.linalg.qr(block).Q
        image = lower.T @ (middle @ (lower @ basis))
        values, rotation = torch.linalg.eigh((basis.T @ image).double())
        values, rotation = values.flip(0), rotation.flip(1).float()
        vectors, block = basis @ rotation, image @ rotation
        count = needed.count(values.cpu())
        if _SPARE * count > len(values):
            block = torch.cat([block, _random_columns(lower, block.shape[1])], 1)
            continue
        kept, of_kept = values[:count].clamp_min(0), vectors[:, :count]
        residuals = (block[:, :count] - of_kept * kept.float()).norm(dim=0).double()
        tolerances = torch.where(
            kept >= _SURE * kept[-1], _TOLERANCE, _EVEN_TOLERANCE if needed.all_alike else _LOOSE_TOLERANCE
        )
        if bool((residuals <= tolerances * kept).all()):
            return Eigenpairs(kept, of_kept.double())
    return None


def _random_columns(like: torch.Tensor, count: int) -> torch.Tensor:
    """Return random columns in the type and place of a matrix; the same ones every time."""
    generator = torch.Generator().manual_seed(count)
    return torch.randn(len(like), count, generator=generator).to(like)
