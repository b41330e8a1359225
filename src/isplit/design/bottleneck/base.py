"""The contract of every bottleneck: what crosses a cut to a small latent and back, with a quantised latent between.

x  ──encode──> latent  ──symbols──> uint8 ──codec──> payload
x' <──decode── latent' <──values─── uint8 <──codec── payload
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isplit.codec.codec import Codec
from isplit.codec.quantise import Quantiser


class Bottleneck(nn.Module):
    """Encoder (device) and decoder (server) of one cut.

    A design implements `encode` and `decode`. `encoder_macs` and `decoder_macs` count multiply-accumulate operations
    for one image, `encoder_parameters` and `decoder_parameters` the numbers each side needs, buffers included.

    Args:
        latent_shape: Of one image's latent.
        channel_axis: The axis of `latent_shape` along which quantiser steps and entropy tables run.

    """

    encoder_macs: int = 0
    decoder_macs: int = 0
    encoder_parameters: int = 0
    decoder_parameters: int = 0

    def __init__(self, latent_shape: Sequence[int], *, channel_axis: int = 0) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        self.channel_axis = channel_axis
        self.quantiser: Quantiser | None = None

    def encode(self, tensor: torch.Tensor) -> torch.Tensor:
        """Map what crosses, N×…, to latents N×latent_shape."""
        raise NotImplementedError

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Map latents back to what crosses."""
        raise NotImplementedError

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        """Encode, quantise and decode; the gradient passes through the rounding as if it were not there.

        Without a quantiser the latents go through as they are. Beyond the quantiser's range there is no gradient.
        """
        return self.decode(self.rounded(self.encode(tensor)))

    def rounded(self, latents: torch.Tensor) -> torch.Tensor:
        """Quantise latents and undo it, straight through for the gradient; see `forward`."""
        if self.quantiser is None:
            return latents
        low, high = (self._bound(side, latents.device) for side in (0, 1))
        inside = torch.maximum(torch.minimum(latents, high), low)
        return inside + (self.values(self.symbols(latents)) - inside).detach()

    def symbols(self, latents: torch.Tensor) -> torch.Tensor:
        """Quantise latents N×latent_shape to uint8, operation for operation as `Quantiser.quantise` does."""
        quantiser = self._quantiser
        steps, offsets = self._scales(latents)
        integers = torch.round((latents.detach().float() - offsets) / steps)
        highest = quantiser.lowest + quantiser.levels - 1
        return (integers.clamp(quantiser.lowest, highest) - quantiser.lowest).to(torch.uint8)

    def values(self, symbols: torch.Tensor) -> torch.Tensor:
        """Undo `symbols` but for the rounding."""
        steps, offsets = self._scales(symbols)
        return (symbols.float() + self._quantiser.lowest) * steps + offsets

    def codec(self, *, model: str, cut: str, counts: NDArray[np.int64], images: int) -> Codec:
        """Return the codec for this latent, with rans tables from how often each symbol came up.

        Args:
            model: The model's fingerprint.
            cut: The cut's name.
            counts: (channels or 1, levels); see `count_symbols`.
            images: How many images they are from.

        """
        quantiser = self._quantiser
        plain = Codec(
            model=model, cut=cut, shape=self.latent_shape, quantiser=quantiser, channel_axis=self.channel_axis
        )
        return plain.with_rans(counts, images=images)

    def count_symbols(self, symbols: torch.Tensor) -> NDArray[np.int64]:
        """Return how often each symbol comes up in each channel, (channels, levels)."""
        levels = self._quantiser.levels
        channels = self.latent_shape[self.channel_axis]
        rows = symbols.movedim(self.channel_axis + 1, 0).reshape(channels, -1).long()
        entries = rows + torch.arange(channels)[:, None] * levels
        return torch.bincount(entries.flatten(), minlength=channels * levels).reshape(channels, levels).numpy()

    def count_clipped(self, latents: torch.Tensor) -> int:
        """Return how many latents lie more than half a step beyond the quantiser's range."""
        quantiser = self._quantiser
        steps, offsets = self._scales(latents)
        integers = torch.round((latents.detach().float() - offsets) / steps)
        highest = quantiser.lowest + quantiser.levels - 1
        return int(((integers < quantiser.lowest) | (integers > highest)).sum())

    @property
    def _quantiser(self) -> Quantiser:
        assert self.quantiser is not None, "the bottleneck has no quantiser yet"
        return self.quantiser

    def _scales(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return steps and offsets that broadcast over latents N×latent_shape."""
        quantiser = self._quantiser
        shape = [1] * latents.dim()
        if quantiser.channels is not None:
            shape[self.channel_axis + 1] = quantiser.channels
        steps = torch.tensor(quantiser.steps, device=latents.device)
        offsets = torch.tensor(quantiser.offsets, device=latents.device)
        return steps.reshape(shape), offsets.reshape(shape)

    def _bound(self, side: int, device: torch.device) -> torch.Tensor:
        """Return the lowest (0) or highest (1) value that the quantiser has, as it broadcasts over latents."""
        quantiser = self._quantiser
        shape = (1,) * (len(self.latent_shape) + 1)
        return self.values(torch.full(shape, side * (quantiser.levels - 1), dtype=torch.uint8, device=device))
