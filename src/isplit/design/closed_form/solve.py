"""Solve in closed form for the linear encoder and decoder of a cut, weighted by importance and without any training.

At a cut, let a be the vector that crosses (of a position or a patch, standardised per channel), Sigma its second
moment, and S = E[g gᵀ] the second moment of the decision's gradient. To first order the decision moves by gᵀ(a - a'),
so the rank-k map that disturbs it least minimises E[(a - a')ᵀ S (a - a')]. With S = L Lᵀ that is plain PCA of Lᵀa:

    z  = Q_kᵀ Lᵀ a        encoder, on the device
    a' = L⁻ᵀ Q_k z        decoder, on the server

Q_k holds the top eigenvectors of Lᵀ Sigma L, and the loss is the sum of the eigenvalues that are left out. Two
assumptions are made: the gradient does not depend on the error, and errors of different vectors are independent.
S = I gives plain PCA.
"""

from dataclasses import dataclass, replace
from math import prod

import torch

from isplit.design.bottleneck.linear import LinearMap
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.eigenpairs import Needed, largest_eigenpairs
from isplit.design.closed_form.moment_sums import Statistics

# Added to S and Sigma, as a share of their mean eigenvalue: keeps directions without samples from dividing by zero.
SHRINKAGE = 1e-3


@dataclass(frozen=True, eq=False)
class Reducer:
    """The few directions of the channels that matter: C channels standardised and turned into R, position by position.

    `encoder` is (C, R), `decoder` (R, C), and decoder @ encoder = 1. `left_out` is the weighted energy of the other
    directions at a position.
    """

    layout: PatchLayout
    mean: torch.Tensor
    scale: torch.Tensor
    encoder: torch.Tensor
    decoder: torch.Tensor
    left_out: float = 0.0

    @property
    def reduced(self) -> PatchLayout:
        """The layout of the reduced tensor N×R×H×W."""
        return PatchLayout((self.encoder.shape[1], *self.layout.extents), 1, self.layout.patch)

    def activations(self, tensor: torch.Tensor) -> torch.Tensor:
        """Reduce what crosses, N×…, to N×R×H×W, on its device."""
        mean, scale, encoder = (part.to(tensor.device) for part in (self.mean, self.scale, self.encoder))
        return self._apply((self._last(tensor) - mean) / scale, encoder)

    def gradients(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the gradient with respect to the reduced tensor."""
        return self._apply(self._last(tensor) * self.scale.to(tensor.device), self.decoder.T.to(tensor.device))

    def _last(self, tensor: torch.Tensor) -> torch.Tensor:
        return (tensor.movedim(1, -1) if self.layout.channel_axis == 1 else tensor).float()

    @staticmethod
    def _apply(tensor: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return (tensor @ matrix).movedim(-1, 1)


@dataclass(frozen=True, eq=False)
class Solution:
    """The latents at a cut that a budget keeps some of: all d of them, or those K that matter to any budget.

    `eigenvalues` (K, descending) are the latents' second moments, in units of weighted error. Column i of `encoder`
    (d×K) makes latent i of a standardised vector, row i of `decoder` (K×d) is what it stands for. With a `reducer` all
    of these are about its reduced tensor; what `keep` returns is not. `energy` is the sum of all d eigenvalues; None
    where all are there.
    """

    layout: PatchLayout
    mean: torch.Tensor
    scale: torch.Tensor
    encoder: torch.Tensor
    decoder: torch.Tensor
    eigenvalues: torch.Tensor
    reducer: Reducer | None = None
    energy: float | None = None

    def left_out(self, rank: int) -> float:
        """Return the weighted energy, per image, that is not in the first so many latents."""
        every = float(self.eigenvalues.sum()) if self.energy is None else self.energy
        rest = self.layout.vectors * max(0.0, every - float(self.eigenvalues[:rank].sum()))
        if self.reducer is None:
            return rest
        return rest + prod(self.layout.extents) * self.reducer.left_out

    def reduced(self) -> "Solution":
        """Return the same solution about its reduced tensor alone; the solution itself where there is no reducer."""
        return self if self.reducer is None else replace(self, reducer=None)

    def keep(self, latents: torch.Tensor | int) -> LinearMap:
        """Return encoder and decoder of the first so many latents, or of those at some places."""
        chosen = torch.arange(latents) if isinstance(latents, int) else latents
        encoder, decoder = self.encoder[:, chosen].T, self.decoder[chosen]
        layout, mean, scale = self.layout, self.mean, self.scale
        if self.reducer is not None:
            # The two encoders one after the other are one linear map, and so are the decoders.
            reducer = self.reducer
            shape = (len(chosen), layout.channels, layout.patch**2)
            encoder = torch.einsum("kra,cr->kca", encoder.reshape(shape), reducer.encoder / scale).flatten(1)
            decoder = torch.einsum("kra,rc->kca", decoder.reshape(shape), reducer.decoder * scale[:, None]).flatten(1)
            layout, mean, scale = reducer.layout, reducer.mean + reducer.scale * (mean @ reducer.decoder), reducer.scale
        kept_map = LinearMap(layout, rank=len(chosen))
        kept_map.mean.copy_(mean)
        kept_map.scale.copy_(scale)
        with torch.no_grad():
            kept_map.encoder.copy_(encoder)
            kept_map.decoder.copy_(decoder)
        return kept_map


def solve(
    layout: PatchLayout, statistics: Statistics, *, weighted: bool = True, needed: Needed | None = None
) -> Solution:
    """Solve for all latents, or for those that matter.

    Where no gradient arrives at all the eigenvalues are zero: such a place does not matter for the decision.

    Args:
        layout: How the tensor becomes vectors.
        statistics: Of these vectors.
        weighted: False for plain PCA (S = I), for comparison.
        needed: Says how many latents matter. Long vectors are then solved for these alone; None solves for all.

    It is computed where the statistics are; the solution is on the CPU.

    """
    width, place = layout.width, statistics.covariance.device
    importance = statistics.importance if weighted else torch.eye(width, dtype=torch.float64, device=place)
    weights, covariance = _shrunk(importance), _shrunk(statistics.covariance)
    factor = torch.linalg.cholesky(weights)
    pairs = largest_eigenpairs(factor, covariance, needed)
    matters = bool(importance.diagonal().sum() > 0)
    # Encoder and decoder undo each other as exactly in float32, which is what they are kept in.
    factor = factor.to(pairs.vectors.dtype)
    return Solution(
        layout=layout,
        mean=statistics.mean.float().cpu(),
        scale=statistics.scale.float().cpu(),
        encoder=(factor @ pairs.vectors).float().cpu(),
        decoder=torch.linalg.solve_triangular(factor.T, pairs.vectors, upper=True).T.float().cpu(),
        eigenvalues=(pairs.values if matters else torch.zeros_like(pairs.values)).cpu(),
        # The trace of Lᵀ Sigma L, without forming it.
        energy=float((weights * covariance).sum()) if matters else 0.0,
    )


def _shrunk(matrix: torch.Tensor) -> torch.Tensor:
    """Add a small multiple of the mean eigenvalue; a matrix of zeros becomes a multiple of the identity."""
    average = matrix.diagonal().mean()
    floor = SHRINKAGE * average if average > 0 else torch.ones_like(average)
    shrunk = matrix.clone()
    shrunk.diagonal().add_(floor)
    return shrunk
