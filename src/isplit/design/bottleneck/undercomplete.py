"""The paper's bottleneck: an undercomplete convolutional autoencoder, shape-safe for every map and for tokens.

    Conv3x3 C -> C/8, BN, ReLU, Conv3x3 -> latent, BN, ReLU  |  ConvT3x3 -> C/8, BN, ReLU, ConvT3x3 -> C

As in I-SPLIT's released code each convolution has a stride of 2 and the latent C/4 channels, which sends 1/64 of the
elements. Here a stride is dropped where the map has fewer than four rows or columns, and the latent's width is then
set so that the share of the elements stays what was asked for (at least one channel). What comes in is standardised
per channel, and what goes out is scaled back: trained in raw units, a trunk with activations in the hundreds destroys
the encoder within a few steps. Tokens N×T×D go through the same layers with kernels of one token.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import torch
from torch import nn

from isplit.design.bottleneck.base import Bottleneck, Place, Work
from isplit.design.bottleneck.patches import PatchLayout
from isplit.records import BottleneckSpec, Budget

_SMALLEST_STRIDED = 4


class UndercompleteBottleneck(Bottleneck):
    """Two convolutions down, two up.

    Args:
        layout: Of what crosses, patch 1.
        widths: Channels after the first convolution, and of the latent; see `undercomplete_widths`.

    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, layout: PatchLayout, *, widths: tuple[int, int]) -> None:
        sizes = _sizes(layout.extents)
        super().__init__((widths[1], *sizes[-1]))
        self.layout = layout
        self.widths = widths
        middle, latent = widths
        channels, kernel = layout.channels, _kernel(layout.extents)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        first, second = (1 if before == after else 2 for before, after in pairwise(sizes))
        edge = kernel // 2
        self.down1 = nn.Sequential(
            nn.Conv2d(channels, middle, kernel, stride=first, padding=edge, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
        )
        self.down2 = nn.Sequential(
            nn.Conv2d(middle, latent, kernel, stride=second, padding=edge, bias=False),
            nn.BatchNorm2d(latent),
            nn.ReLU(),
        )
        self.up1 = nn.ConvTranspose2d(latent, middle, kernel, stride=second, padding=edge, bias=False)
        self.norm = nn.Sequential(nn.BatchNorm2d(middle), nn.ReLU())
        self.up2 = nn.ConvTranspose2d(middle, channels, kernel, stride=first, padding=edge)
        self._sizes = sizes
        _, inner, deep = (_positions(size) for size in sizes)
        area = kernel * kernel
        self.work = Work(
            encoder_macs=area * middle * (channels * inner + latent * deep),
            # A transposed convolution multiplies every input position with the whole kernel.
            decoder_macs=area * middle * (latent * deep + channels * inner),
            encoder_parameters=2 * channels + _numbers(self.down1) + _numbers(self.down2),
            decoder_parameters=2 * channels + sum(map(_numbers, (self.up1, self.norm, self.up2))),
        )

    @classmethod
    def start(cls, place: Place) -> Self:
        """Return the bottleneck with random weights, standardising by the place's mean and scale."""
        bottleneck = cls(place.layout, widths=undercomplete_widths(place.layout, elements=place.elements))
        bottleneck.mean.copy_(place.mean)
        bottleneck.scale.copy_(place.scale)
        return bottleneck

    @classmethod
    def rebuild(cls, spec: BottleneckSpec, budget: Budget) -> Self:
        """Return the bottleneck of that spec."""
        middle, latent = spec.widths
        return cls(PatchLayout(spec.shape, spec.channel_axis), widths=(middle, latent))

    def structure(self) -> Mapping[str, Any]:
        """Return the layout and the widths."""
        layout = self.layout
        return {"shape": layout.shape, "channel_axis": layout.channel_axis, "widths": self.widths}

    def encode(self, tensor: torch.Tensor) -> torch.Tensor:
        """Map what crosses to latents N×K×h×w, all at least 0."""
        maps = self._as_maps(tensor.float())
        return self.down2(self.down1((maps - self.mean[:, None, None]) / self.scale[:, None, None]))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map latents back to what crosses."""
        middle = self.norm(self.up1(latents, output_size=self._sizes[1]))
        maps = self.up2(middle, output_size=self._sizes[0])
        maps = maps * self.scale[:, None, None] + self.mean[:, None, None]
        if self.layout.channel_axis == 1 and len(self.layout.extents) == 2:
            return maps
        return maps.movedim(1, -1).reshape(latents.shape[0], *self.layout.shape)

    def _as_maps(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.layout.channel_axis == 1 and len(self.layout.extents) == 2:
            return tensor
        return tensor.reshape(tensor.shape[0], *self._sizes[0], self.layout.channels).movedim(-1, 1)


def undercomplete_widths(layout: PatchLayout, *, elements: int) -> tuple[int, int]:
    """Return the widths with which about so many elements cross; at least one channel."""
    positions = _positions(_sizes(layout.extents)[-1])
    return max(1, layout.channels // 8), max(1, round(elements / positions))


def _numbers(module: nn.Module) -> int:
    """Count parameters and buffers that inference needs."""
    values = [value for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")]
    return sum(value.numel() for value in values)


def _kernel(extents: Sequence[int]) -> int:
    return 3 if len(extents) == 2 else 1


def _sizes(extents: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the map's size before, between and after the two convolutions; tokens are one column."""
    if len(extents) != 2:
        tokens = 1
        for extent in extents:
            tokens *= extent
        return [(tokens, 1)] * 3
    sizes = [(extents[0], extents[1])]
    for _ in range(2):
        rows, columns = sizes[-1]
        small = min(rows, columns) < _SMALLEST_STRIDED
        sizes.append((rows, columns) if small else (-(-rows // 2), -(-columns // 2)))
    return sizes


def _positions(size: tuple[int, int]) -> int:
    return size[0] * size[1]
