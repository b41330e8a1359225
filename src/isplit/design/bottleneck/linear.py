"""The closed-form bottleneck: linear, weighted by importance, and without any training.

At a cut, let a be the vector that crosses (of a position or a patch, standardised per channel), Sigma its second
moment, and S = E[g gᵀ] that of the decision's gradient. To first order the decision moves by gᵀ(a - a'), so the
rank-k map that disturbs it least minimises E[(a - a')ᵀ S (a - a')]. With S = L Lᵀ that is plain PCA of Lᵀa:

    z  = Q_kᵀ Lᵀ a        encoder, on the device
    a' = L⁻ᵀ Q_k z        decoder, on the server

with Q_k the top eigenvectors of Lᵀ Sigma L; the loss is the sum of the eigenvalues left out. Assumed: the gradient
does not depend on the error, and errors of different vectors are independent. S = I gives plain PCA.

Errors of the latents z count alike, whatever their position. So what neighbouring vectors share is taken out by plain
PCA of the latents of all positions of an image, each about its own mean (`JointMap`; joint.py solves for it).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import nn
from torch.nn import functional

from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.moment_sums import Statistics

# Added to S and Sigma, as a share of their mean eigenvalue: keeps directions without samples from dividing by zero.
SHRINKAGE = 1e-3
_LONG = 512


@dataclass(frozen=True, eq=False)
class Reducer:
    """The few directions of the channels that matter: C channels standardised and turned into R, position by position.

    `encoder` is (C, R), `decoder` (R, C), and decoder @ encoder = 1.
    """

    layout: PatchLayout
    mean: torch.Tensor
    scale: torch.Tensor
    encoder: torch.Tensor
    decoder: torch.Tensor

    @property
    def reduced(self) -> PatchLayout:
        """The layout of the reduced tensor N×R×H×W."""
        return PatchLayout((self.encoder.shape[1], *self.layout.extents), 1, self.layout.patch)

    def activations(self, tensor: torch.Tensor) -> torch.Tensor:
        """Reduce what crosses, N×…, to N×R×H×W."""
        return self._apply((self._last(tensor) - self.mean) / self.scale, self.encoder)

    def gradients(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the gradient with respect to the reduced tensor."""
        return self._apply(self._last(tensor) * self.scale, self.decoder.T)

    def _last(self, tensor: torch.Tensor) -> torch.Tensor:
        return (tensor.movedim(1, -1) if self.layout.channel_axis == 1 else tensor).float()

    @staticmethod
    def _apply(tensor: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return (tensor @ matrix).movedim(-1, 1)


@dataclass(frozen=True, eq=False)
class Solution:
    """All latents of a place, of which a budget keeps some.

    `eigenvalues` (d, descending) are the latents' second moments, in units of weighted error. Column i of `encoder`
    (d×d) makes latent i of a standardised vector, row i of `decoder` (d×d) is what it stands for. With a `reducer` all
    of these are about its reduced tensor; what `keep` returns is not.
    """

    layout: PatchLayout
    mean: torch.Tensor
    scale: torch.Tensor
    encoder: torch.Tensor
    decoder: torch.Tensor
    eigenvalues: torch.Tensor
    reducer: Reducer | None = None

    def keep(self, latents: torch.Tensor | int) -> "LinearMap":
        """Return encoder and decoder of the first so many latents, or of those at some places."""
        chosen = torch.arange(latents) if isinstance(latents, int) else latents
        encoder, decoder = self.encoder[:, chosen].T, self.decoder[chosen]
        layout, mean, scale = self.layout, self.mean, self.scale
        if self.reducer is not None:
            # The two encoders one after the other are one linear map, and so are the decoders.
            own = self.reducer
            shape = (len(chosen), layout.channels, layout.patch**2)
            encoder = torch.einsum("kra,cr->kca", encoder.reshape(shape), own.encoder / scale).flatten(1)
            decoder = torch.einsum("kra,rc->kca", decoder.reshape(shape), own.decoder * scale[:, None]).flatten(1)
            layout, mean, scale = own.layout, own.mean + own.scale * (mean @ own.decoder), own.scale
        made = LinearMap(layout, rank=len(chosen))
        made.mean.copy_(mean)
        made.scale.copy_(scale)
        with torch.no_grad():
            made.encoder.copy_(encoder)
            made.decoder.copy_(decoder)
        return made


def solve(layout: PatchLayout, statistics: Statistics, *, weighted: bool = True) -> Solution:
    """Solve for all latents.

    Args:
        layout: How the tensor becomes vectors.
        statistics: Of these vectors.
        weighted: False for plain PCA (S = I), for comparison.

    Where no gradient arrives at all the eigenvalues are zero: such a place does not matter for the decision.

    """
    width = layout.width
    importance = statistics.importance if weighted else torch.eye(width, dtype=torch.float64)
    factor = torch.linalg.cholesky(_shrunk(importance))
    product = factor.T @ _shrunk(statistics.covariance) @ factor
    # Encoder and decoder undo each other with any orthogonal Q, so float32 will do where float64 takes long: it is off
    # by 2e-6 of the largest eigenvalue, far below what any budget sends.
    eigenvalues, vectors = torch.linalg.eigh(product.float() if width > _LONG else product)
    eigenvalues, vectors = eigenvalues.double().flip(0).clamp_min(0), vectors.double().flip(1)
    matters = bool(importance.diagonal().sum() > 0)
    return Solution(
        layout=layout,
        mean=statistics.mean.float(),
        scale=statistics.scale.float(),
        encoder=(factor @ vectors).float(),
        decoder=torch.linalg.solve_triangular(factor.T, vectors, upper=True).T.float(),
        eigenvalues=eigenvalues if matters else torch.zeros_like(eigenvalues),
    )


def _shrunk(matrix: torch.Tensor) -> torch.Tensor:
    """Add a small multiple of the mean eigenvalue; a matrix of zeros becomes a multiple of the identity."""
    average = matrix.diagonal().mean()
    floor = SHRINKAGE * average if average > 0 else torch.tensor(1.0, dtype=matrix.dtype)
    return matrix + floor * torch.eye(len(matrix), dtype=matrix.dtype)


class LinearMap(nn.Module):
    """One linear encoder and decoder for all vectors of a layout.

    `encoder` and `decoder` are (rank, d); `mean` and `scale` (C) standardise, so that both train at one rate whatever
    the units of the cut.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, layout: PatchLayout, *, rank: int) -> None:
        super().__init__()
        self.layout = layout
        self.rank = rank
        self.register_buffer("mean", torch.zeros(layout.channels))
        self.register_buffer("scale", torch.ones(layout.channels))
        self.encoder = nn.Parameter(torch.zeros(rank, layout.width))
        self.decoder = nn.Parameter(torch.zeros(rank, layout.width))

    @property
    def encoder_macs(self) -> int:
        """Multiply-accumulate operations for one image, standardising included; decoding takes as many."""
        return self.layout.vectors * self.layout.width * (self.rank + 1)

    def encode(self, tensor: torch.Tensor) -> torch.Tensor:
        """Map N×… to N×rank×P, P vectors an image."""
        if len(self.layout.extents) == 2:
            first = tensor if self.layout.channel_axis == 1 else tensor.movedim(-1, 1)
            standard = (first.float() - self._of_channels(self.mean)) / self._of_channels(self.scale)
            return functional.conv2d(
                self._padded(standard), self._kernel(self.encoder), stride=self.layout.patch
            ).flatten(2)
        vectors = self.layout.split(tensor.float())
        return (((vectors - self.mean) / self.scale) @ self.encoder.T).transpose(1, 2)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map N×rank×P back to N×…."""
        if len(self.layout.extents) == 2:
            grid = latents.unflatten(2, self.layout.grid)
            standard = functional.conv_transpose2d(grid, self._kernel(self.decoder), stride=self.layout.patch)
            rows, columns = self.layout.extents
            first = standard[:, :, :rows, :columns] * self._of_channels(self.scale) + self._of_channels(self.mean)
            return first if self.layout.channel_axis == 1 else first.movedim(1, -1)
        return self.layout.join((latents.transpose(1, 2) @ self.decoder) * self.scale + self.mean)

    def means(self, images: int) -> torch.Tensor:
        """Return what tokens decode to of which nothing is sent, N×T×D."""
        return self.mean.expand(images, self.layout.vectors, -1)

    def _padded(self, tensor: torch.Tensor) -> torch.Tensor:
        rows, columns = (
            count * self.layout.patch - extent
            for count, extent in zip(self.layout.grid, self.layout.extents, strict=True)
        )
        return functional.pad(tensor, (0, columns, 0, rows), mode="replicate") if rows or columns else tensor

    def _kernel(self, matrix: torch.Tensor) -> torch.Tensor:
        return matrix.reshape(-1, self.layout.channels, self.layout.patch, self.layout.patch)

    @staticmethod
    def _of_channels(values: torch.Tensor) -> torch.Tensor:
        return values[:, None, None]


class JointMap(nn.Module):
    """One linear encoder and decoder over the latents of all positions of an image: what they share is sent once.

    `encoder` and `decoder` are (rank, K·P) for K latents at P positions, `mean` (K·P) is what these are about.
    """

    mean: torch.Tensor

    def __init__(self, shape: tuple[int, int], *, rank: int) -> None:
        super().__init__()
        self.shape = shape
        self.rank = rank
        width = shape[0] * shape[1]
        self.register_buffer("mean", torch.zeros(width))
        self.encoder = nn.Parameter(torch.zeros(rank, width))
        self.decoder = nn.Parameter(torch.zeros(rank, width))

    @property
    def encoder_macs(self) -> int:
        """Multiply-accumulate operations for one image; decoding takes as many."""
        return self.encoder.numel()

    def encode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map N×K×P to N×rank×1."""
        return ((latents.flatten(1) - self.mean) @ self.encoder.T).unsqueeze(2)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map N×rank×1 back to N×K×P."""
        return (latents.squeeze(2) @ self.decoder + self.mean).unflatten(1, self.shape)


def laid_out_shape(ranks: Sequence[int], positions: Sequence[int]) -> tuple[int, int]:
    """Return K and P of what `lay_out` makes of maps with these ranks and positions.

    Latents of a map in front follow the last map's in rows of the same length.
    """
    row = positions[-1]
    return sum(ceil(rank * count / row) for rank, count in zip(ranks, positions, strict=True)), row


def lay_out(latents: Sequence[torch.Tensor]) -> torch.Tensor:
    """Lay the maps' latents, N×K×P each, out as one tensor N×K×P; the last row is filled up with zeros."""
    *fronts, grid = latents
    if not fronts:
        return grid
    (front,) = fronts
    if not front.shape[1]:
        return grid  # ONNX knows no tensors without elements, so none is made
    total, positions = laid_out_shape([front.shape[1], grid.shape[1]], [front.shape[2], grid.shape[2]])
    count = total - grid.shape[1]
    filled = functional.pad(front.flatten(1), (0, count * positions - front.shape[1] * front.shape[2]))
    rows = filled.unflatten(1, (count, positions))
    return torch.cat([grid, rows], dim=1) if grid.shape[1] else rows


class LinearBottleneck(Bottleneck):
    """The linear bottleneck of one cut: a map for all positions, and for tokens one more for those in front.

    Class and register tokens have other statistics than the grid's, so they have a map of their own. Their latents
    follow the grid's in rows of the same length, the last filled up with zeros, which cost next to nothing.

    Args:
        maps: In the order of the tokens: of the `prefix` tokens, if there are any, and of the rest. One that is None
            is not sent: its place decodes to its mean.
        prefix: Tokens in front of the grid.
        joint: Rank of a map over the latents of all positions, whose latents are sent in their place; 0 for none.

    """

    def __init__(self, maps: Sequence[LinearMap], *, prefix: int = 0, joint: int = 0) -> None:
        shape = laid_out_shape([one.rank for one in maps], [one.layout.vectors for one in maps])
        super().__init__((joint, 1) if joint else shape)
        self.maps = nn.ModuleList(maps)
        self.linear_maps = tuple(maps)
        self.prefix = prefix
        self.joint = JointMap(shape, rank=joint) if joint else None
        self.encoder_macs = sum(one.encoder_macs for one in maps)
        self.encoder_parameters = sum(one.encoder.numel() + 2 * one.layout.channels for one in maps)
        if self.joint is not None:
            self.encoder_macs += self.joint.encoder_macs
            self.encoder_parameters += self.joint.encoder.numel() + self.joint.mean.numel()
        self.decoder_macs, self.decoder_parameters = self.encoder_macs, self.encoder_parameters

    def encode(self, tensor: torch.Tensor) -> torch.Tensor:
        """Map what crosses to latents N×rank×P, or N×rank×1 with a joint map."""
        parts = [tensor[:, : self.prefix], tensor[:, self.prefix :]] if self.prefix else [tensor]
        latents = lay_out([one.encode(part) for one, part in zip(self.linear_maps, parts, strict=True)])
        return latents if self.joint is None else self.joint.encode(latents)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map latents back to what crosses."""
        if self.joint is not None:
            latents = self.joint.decode(latents)
        if not self.prefix:
            return self.linear_maps[0].decode(latents)
        front, grid = self.linear_maps
        if front.rank:
            own = latents[:, grid.rank :].flatten(1)[:, : front.rank * front.layout.vectors]
            first = front.decode(own.unflatten(1, (front.rank, front.layout.vectors)))
        else:
            first = front.means(latents.shape[0])
        rest = grid.decode(latents[:, : grid.rank]) if grid.rank else grid.means(latents.shape[0])
        return torch.cat([first, rest], dim=1)
