"""The linear bottleneck: one linear encoder and decoder for all positions, and perhaps one over all of them together.

Its weights come from the closed form (closed_form/solve.py), which makes errors of the latents count alike, whatever
their position. So plain PCA of the latents of all positions of an image, each about its own mean, takes out what
neighbouring vectors share (`JointMap`; closed_form/joint.py solves for it).
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional

from isplit.design.bottleneck.base import Bottleneck, Work
from isplit.design.bottleneck.patches import PatchLayout
from isplit.records import BottleneckSpec, Budget


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

    common_step = True
    starts = ("closed-form", "random")
    # A small network on noisy digits (whole 74 %, 718 images) went from 58.9 to 69.1 % in an epoch at a hundredth of
    # each matrix per step, to 64.8 at a thousandth and to 68.2 at three hundredths (60 bytes, tail at 3e-5).
    learning_rate = 1e-2
    # The closed form's encoder and decoder have the units of the gradient and of its inverse, powers of ten apart.
    relative_learning_rate = True

    def __init__(self, maps: Sequence[LinearMap], *, prefix: int = 0, joint: int = 0) -> None:
        shape = laid_out_shape(
            [linear_map.rank for linear_map in maps], [linear_map.layout.vectors for linear_map in maps]
        )
        super().__init__((joint, 1) if joint else shape)
        self.maps = nn.ModuleList(maps)
        self.linear_maps = tuple(maps)
        self.prefix = prefix
        self.joint = JointMap(shape, rank=joint) if joint else None
        macs = sum(linear_map.encoder_macs for linear_map in maps)
        parameters = sum(linear_map.encoder.numel() + 2 * linear_map.layout.channels for linear_map in maps)
        if self.joint is not None:
            macs += self.joint.encoder_macs
            parameters += self.joint.encoder.numel() + self.joint.mean.numel()
        self.work = Work(
            encoder_macs=macs, decoder_macs=macs, encoder_parameters=parameters, decoder_parameters=parameters
        )

    @classmethod
    def rebuild(cls, spec: BottleneckSpec, budget: Budget) -> Self:
        """Return a bottleneck of that spec; all of its values are zero."""
        shapes = [spec.shape]
        if spec.prefix:
            tokens, width = spec.shape
            shapes = [(spec.prefix, width), (tokens - spec.prefix, width)]
        layouts = [PatchLayout(shape, spec.channel_axis, spec.patch) for shape in shapes]
        maps = [LinearMap(layout, rank=rank) for layout, rank in zip(layouts, spec.ranks, strict=True)]
        return cls(maps, prefix=spec.prefix, joint=spec.joint)

    def structure(self) -> Mapping[str, Any]:
        """Return the layout, the ranks, the patches and the tokens in front."""
        layouts = [linear_map.layout for linear_map in self.linear_maps]
        shape = layouts[-1].shape
        if self.prefix:
            shape = (self.prefix + shape[0], shape[1])
        return {
            "shape": shape,
            "channel_axis": layouts[-1].channel_axis,
            "prefix": self.prefix,
            "patch": layouts[-1].patch,
            "ranks": tuple(linear_map.rank for linear_map in self.linear_maps),
            "joint": 0 if self.joint is None else self.joint.rank,
        }

    def fill_at_random(self, *, seed: int) -> None:
        """Replace all values by random ones, of a size that keeps latents and decoded vectors near unit size."""
        generator = torch.Generator().manual_seed(seed)
        for linear_map in self.linear_maps:
            # Latents of unit size from standardised vectors, and vectors of unit size from those.
            nn.init.normal_(linear_map.encoder, std=linear_map.layout.width**-0.5, generator=generator)
            nn.init.normal_(linear_map.decoder, std=max(1, linear_map.rank) ** -0.5, generator=generator)
        if self.joint is not None:
            nn.init.zeros_(self.joint.mean)
            nn.init.normal_(self.joint.encoder, std=self.joint.mean.numel() ** -0.5, generator=generator)
            nn.init.normal_(self.joint.decoder, std=self.joint.rank**-0.5, generator=generator)

    def encode(self, tensor: torch.Tensor) -> torch.Tensor:
        """Map what crosses to latents N×rank×P, or N×rank×1 with a joint map."""
        parts = [tensor[:, : self.prefix], tensor[:, self.prefix :]] if self.prefix else [tensor]
        latents = lay_out([linear_map.encode(part) for linear_map, part in zip(self.linear_maps, parts, strict=True)])
        return latents if self.joint is None else self.joint.encode(latents)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map latents back to what crosses."""
        if self.joint is not None:
            latents = self.joint.decode(latents)
        if not self.prefix:
            return self.linear_maps[0].decode(latents)
        front, grid = self.linear_maps
        if front.rank:
            rows = latents[:, grid.rank :].flatten(1)[:, : front.rank * front.layout.vectors]
            first = front.decode(rows.unflatten(1, (front.rank, front.layout.vectors)))
        else:
            first = front.means(latents.shape[0])
        rest = grid.decode(latents[:, : grid.rank]) if grid.rank else grid.means(latents.shape[0])
        return torch.cat([first, rest], dim=1)
