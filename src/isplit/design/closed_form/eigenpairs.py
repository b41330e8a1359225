"""Find the largest eigenvalues of a product of matrices, and the vectors of those that matter.

A budget keeps some hundreds of some thousands of latents. A processor makes the product tridiagonal, which gives all
eigenvalues; these tell how many matter, and only the vectors of those are computed (LAPACK's routines in brackets):

    L, Sigma ─(sygst)─> Lᵀ Sigma L ─(sytrd)─> tridiagonal ─(sterf)─> eigenvalues ─> how many matter
                                                    └──────(stemr, ormqr)──────> their vectors

The long matrices are float32, as the products that they come from, and the tridiagonal one is float64: its vectors are
then orthogonal to a millionth where float32 would be off by a two-thousandth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Needed = Callable[[torch.Tensor], int]
"""Maps all eigenvalues (descending, float64) to how many of the largest matter; at least one."""

_LONG = 512
"""Vectors of at most so many entries are solved for in float64, and for all eigenvalues, which takes no time."""


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """The largest eigenvalues (K, descending, none below zero, float64) and their vectors (d×K, orthonormal)."""

    values: torch.Tensor
    vectors: torch.Tensor


def largest_eigenpairs(factor: torch.Tensor, covariance: torch.Tensor, needed: Needed | None = None) -> Eigenpairs:
    """Return the largest eigenpairs of Lᵀ Sigma L.

    The eigenvalues of vectors with more than 512 entries are off by some 1e-6 of the largest one, far below what any
    budget sends.

    Args:
        factor: L (d×d, float64), lower triangular.
        covariance: Sigma (d×d, float64), symmetric, on the same device.
        needed: Says how many of the largest eigenvalues matter. It is asked on a processor where vectors are long;
            elsewhere, and without it, all pairs are returned.

    """
    if needed is None or len(factor) <= _LONG or factor.device.type != "cpu":
        return _all_eigenpairs(factor, covariance)
    return _long_eigenpairs(factor, covariance, needed) or _all_eigenpairs(factor, covariance)


def _all_eigenpairs(factor: torch.Tensor, covariance: torch.Tensor) -> Eigenpairs:
    product = factor.T @ covariance @ factor
    # Encoder and decoder undo each other with any orthogonal vectors, so float32 will do where float64 takes long.
    values, vectors = torch.linalg.eigh(product.float() if len(product) > _LONG else product)
    return Eigenpairs(values.double().flip(0).clamp_min(0), vectors.flip(1))


def _long_eigenpairs(factor: torch.Tensor, covariance: torch.Tensor, needed: Needed) -> Eigenpairs | None:
    """Return the pairs that matter; None where LAPACK does not find them all."""
    from scipy import linalg  # importing it takes half a second

    lapack: Any = linalg.lapack  # its functions have no types
    width = len(factor)
    lower, middle = (np.asfortranarray(matrix.float().numpy()) for matrix in (factor, covariance))
    product, _ = lapack.ssygst(middle, lower, itype=2, lower=1, overwrite_a=1)
    workspace = int(lapack.ssytrd_lwork(width, lower=1)[0])
    reflectors, diagonal, beside, factors, _ = lapack.ssytrd(product, lower=1, lwork=workspace, overwrite_a=1)
    diagonal, beside = diagonal.astype(float), beside.astype(float)
    ascending, failed = lapack.dsterf(diagonal, beside)
    if failed:
        return None
    values = torch.from_numpy(ascending[::-1].copy()).clamp_min(0)
    count = min(max(1, needed(values)), width)
    pair_count, _, columns, failed = lapack.dstemr(
        diagonal, np.append(beside, 0.0), 3, 0.0, 0.0, width - count + 1, width, compute_v=1
    )
    if failed or pair_count != count:
        return None
    vectors = np.asfortranarray(columns[:, :count].astype(np.float32))
    # The reflections leave the first entry alone. Those of the others are kept as those of a QR decomposition are.
    rest = np.asfortranarray(reflectors[1:, : width - 1])
    vectors[1:], _, _ = lapack.sormqr("L", "N", rest, factors, np.asfortranarray(vectors[1:]), 64 * width)
    return Eigenpairs(values[:count], torch.from_numpy(vectors[:, ::-1].copy()))
