"""The closed-form bottleneck: linear, weighted by importance, and without any training.

At a cut, let a be the vector that crosses (of a position or a patch, standardised), Sigma its covariance, and
S = E[g gᵀ] the second moment of the correct class's gradient. To first order the decision moves by gᵀ(a - a'), so the
rank-k map that disturbs it least minimises E[(a - a')ᵀ S (a - a')]. With S = L Lᵀ that is plain PCA of Lᵀa:

    z  = Q_kᵀ Lᵀ (a - mean)          encoder, on the device
    a' = mean + L⁻ᵀ Q_k z            decoder, on the server

with Q_k the top eigenvectors of Lᵀ Sigma L; the loss is the sum of the eigenvalues left out. Assumed: the gradient
does not depend on the error, and errors of different vectors are independent. S = I gives plain PCA.
"""

from dataclasses import dataclass

import torch

from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.bottleneck.statistics import Statistics

# Added to S and Sigma, as a share of their mean eigenvalue: keeps directions without samples from dividing by zero.
_SHRINKAGE = 1e-3


@dataclass(frozen=True)
class LinearBottleneck:
    """Encoder and decoder of a cut.

    `eigenvalues` (d, descending) are the variances of the latents, in units of weighted error. `encoder` (d×k) and
    `decoder` (k×d) act on standardised vectors.
    """

    layout: PatchLayout
    mean: torch.Tensor
    scale: torch.Tensor
    encoder: torch.Tensor
    decoder: torch.Tensor
    eigenvalues: torch.Tensor

    @property
    def rank(self) -> int:
        """Latents per vector."""
        return self.encoder.shape[1]

    @property
    def elements(self) -> int:
        """Numbers that cross per image."""
        return self.rank * self.layout.vectors

    def truncated(self, rank: int) -> "LinearBottleneck":
        """Keep the first `rank` latents."""
        return LinearBottleneck(
            self.layout, self.mean, self.scale, self.encoder[:, :rank], self.decoder[:rank], self.eigenvalues
        )

    def encode(self, tensor: torch.Tensor) -> torch.Tensor:
        """Map what crosses, N×…, to latents N×P×k."""
        return ((self.layout.split(tensor.float()) - self.mean) / self.scale) @ self.encoder

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map latents N×P×k back to what crosses."""
        return self.layout.join((latents @ self.decoder) * self.scale + self.mean)

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Encode and decode."""
        return self.decode(self.encode(tensor))


def solve(layout: PatchLayout, statistics: Statistics, *, weighted: bool = True) -> LinearBottleneck:
    """Return the bottleneck of full rank; truncate it to what a budget allows.

    Args:
        layout: How the tensor becomes vectors.
        statistics: Of these vectors.
        weighted: False for plain PCA (S = I), for comparison.

    """
    width = layout.width
    importance = statistics.importance if weighted else torch.eye(width, dtype=torch.float64)
    factor = torch.linalg.cholesky(_shrunk(importance))
    covariance = _shrunk(statistics.covariance)
    eigenvalues, vectors = torch.linalg.eigh(factor.T @ covariance @ factor)
    eigenvalues, vectors = eigenvalues.flip(0).clamp_min(0), vectors.flip(1)
    decoder = torch.linalg.solve_triangular(factor.T, vectors, upper=True).T
    return LinearBottleneck(
        layout=layout,
        mean=statistics.mean.float(),
        scale=statistics.scale.float(),
        encoder=(factor @ vectors).float(),
        decoder=decoder.float(),
        eigenvalues=eigenvalues,
    )


def _shrunk(matrix: torch.Tensor) -> torch.Tensor:
    """Add a small multiple of the mean eigenvalue; a matrix of zeros becomes a multiple of the identity."""
    average = matrix.diagonal().mean()
    floor = _SHRINKAGE * average if average > 0 else torch.tensor(1.0, dtype=matrix.dtype)
    return matrix + floor * torch.eye(len(matrix), dtype=matrix.dtype)
