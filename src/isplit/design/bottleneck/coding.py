"""Latents as symbols and as payloads: the quantiser in torch, and the codec that a split is tied to."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.codec.codec import Codec
from isplit.codec.coders import CoderName
from isplit.codec.quantise import Quantiser
from isplit.codec.rans import PRECISION, RansTables, count_symbols


@dataclass(frozen=True, eq=False)
class LatentQuantiser:
    """A quantiser applied in torch to latents N×latent_shape, operation for operation as `Quantiser` does in numpy.

    Attributes:
        quantiser: The scales.
        channel_axis: The axis of one image's latent along which they run.

    """

    quantiser: Quantiser
    channel_axis: int = 0

    def symbols(self, latents: torch.Tensor) -> torch.Tensor:
        """Quantise latents to uint8; values beyond the range become its ends."""
        lowest, highest = self.quantiser.lowest, self.quantiser.highest
        return (self._integers(latents).clamp(lowest, highest) - lowest).to(torch.uint8)

    def values(self, symbols: torch.Tensor) -> torch.Tensor:
        """Dequantise symbols."""
        steps, offsets = self._scales(symbols)
        return (symbols.float() + self.quantiser.lowest) * steps + offsets

    def straight_through(self, latents: torch.Tensor) -> torch.Tensor:
        """Quantise and dequantise latents; the gradient passes as if they had not been rounded.

        There is no gradient for latents beyond the quantiser's range.
        """
        low, high = (self._bound(symbol, latents) for symbol in (0, self.quantiser.levels - 1))
        inside = torch.maximum(torch.minimum(latents, high), low)
        return inside + (self.values(self.symbols(latents)) - inside).detach()

    def count_symbols(self, symbols: torch.Tensor) -> NDArray[np.int64]:
        """Return how often each symbol comes up in each channel, (channels, levels)."""
        return count_symbols(symbols.numpy(), channel_axis=self.channel_axis, levels=self.quantiser.levels)

    def count_clipped(self, latents: torch.Tensor) -> int:
        """Return how many latents lie more than half a step beyond the quantiser's range."""
        integers = self._integers(latents)
        return int(((integers < self.quantiser.lowest) | (integers > self.quantiser.highest)).sum())

    def _integers(self, latents: torch.Tensor) -> torch.Tensor:
        steps, offsets = self._scales(latents)
        return torch.round((latents.detach().float() - offsets) / steps)

    def steps(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the steps, in a shape that broadcasts over latents N×latent_shape."""
        return self._scales(latents)[0]

    def _scales(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return steps and offsets that broadcast over latents N×latent_shape."""
        shape = [1] * latents.dim()
        if self.quantiser.channels is not None:
            shape[self.channel_axis + 1] = self.quantiser.channels
        steps = torch.tensor(self.quantiser.steps, device=latents.device)
        offsets = torch.tensor(self.quantiser.offsets, device=latents.device)
        return steps.reshape(shape), offsets.reshape(shape)

    def _bound(self, symbol: int, latents: torch.Tensor) -> torch.Tensor:
        """Return what a symbol stands for, in a shape that broadcasts over latents."""
        return self.values(torch.full((1,) * latents.dim(), symbol, dtype=torch.uint8, device=latents.device))


@dataclass(frozen=True)
class CodecOwner:
    """What a codec is tied to: the model's fingerprint and the cut's name."""

    model: str
    cut: str

    def make_codec(self, quantiser: LatentQuantiser, symbols: torch.Tensor, *, coder: CoderName = "rans") -> Codec:
        """Return the codec for latents of these symbols, N×latent_shape; their histograms become the rans tables."""
        plain = Codec(
            model=self.model,
            cut=self.cut,
            shape=tuple(symbols.shape[1:]),
            quantiser=quantiser.quantiser,
            coder="raw" if coder == "rans" else coder,
            channel_axis=quantiser.channel_axis,
        )
        if coder != "rans":
            return plain
        return plain.with_rans(quantiser.count_symbols(symbols), images=len(symbols))

    def held_out_bytes(
        self, quantiser: LatentQuantiser, symbols: torch.Tensor, fold_of: torch.Tensor
    ) -> NDArray[np.int64]:
        """Return the length of each image's payload (N), coded by rans with tables of the images of other folds.

        Args:
            quantiser: That of the symbols.
            symbols: N×latent_shape uint8.
            fold_of: The fold (N) of each image; a single image is coded with tables of its own.

        """
        plain = self.make_codec(quantiser, symbols[:0], coder="raw")
        folds = fold_of.unique().tolist()
        counts = {fold: quantiser.count_symbols(symbols[fold_of == fold]) for fold in folds}
        total = np.sum(list(counts.values()), axis=0)
        sets: list[RansTables] = []
        for fold in folds:
            others = total - counts[fold] if len(folds) > 1 else total
            images = int((fold_of != fold).sum()) if len(folds) > 1 else len(symbols)
            sets.append(RansTables.from_counts(others, images=images))
        set_of = torch.searchsorted(torch.tensor(folds), fold_of).numpy()
        return plain.rans_payload_bytes(symbols.numpy(), sets, set_of)


def symbol_bits(shares: torch.Tensor) -> torch.Tensor:
    """Return the bits that each symbol costs under rans tables of these shares (…×levels, each row sums to 1).

    As in the coder's own tables, no symbol has less than one part in 65536.
    """
    levels = shares.shape[-1]
    return PRECISION - (shares * (2**PRECISION - levels) + 1).log2()
