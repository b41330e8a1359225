"""Bytes: what latents cost while training, and the quantiser and tables that keep a mean payload within its budget.

Nothing but the budget would keep a linear encoder from scaling its latents up until rounding no longer matters. So
bytes have a price. What a latent costs is read from the coder's own tables, in between two symbols by linear
interpolation: that has a slope, which a count of bytes has not. The price goes up while the bytes are above the
budget and down to nothing below it (dual ascent), so that in the end the budget is used, and not exceeded.
"""

from dataclasses import dataclass

import numpy as np
import torch

from isplit.codec.codec import Codec
from isplit.codec.frame import HEADER_BYTES
from isplit.codec.quantise import MAX_LEVELS, Quantiser
from isplit.codec.rans import CODER_BYTES
from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.linear import LinearBottleneck
from isplit.errors import InputError
from isplit.records import Budget

_HALF = MAX_LEVELS // 2
# The share of the tables that comes from the newest batch.
_FORGET = 0.05
# How fast the price follows: per step, of the share by which the bytes are off.
_ASCENT = 0.02
# Payloads of this many symbols are coded to tell the mean.
_MOST_SYMBOLS = 2**23


@dataclass(frozen=True)
class Tag:
    """What a codec is tied to: the model's fingerprint and the cut's name."""

    model: str
    cut: str


class Price:
    """The bytes of latents with one common step, with a gradient, and their price.

    Args:
        counts: (channels, MAX_LEVELS) of symbols so far; see `Bottleneck.count_symbols`.
        bottleneck: Its quantiser has MAX_LEVELS levels.
        budget_bytes: Mean payload, header included.
        price: In units of the loss per budget.

    """

    def __init__(
        self, counts: torch.Tensor, bottleneck: Bottleneck, *, budget_bytes: float, price: float = 0.0
    ) -> None:
        self.price = price
        self._bottleneck = bottleneck
        self._budget_bytes = budget_bytes
        self._shares = counts / counts.sum(1, keepdim=True).clamp_min(1)

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the bytes of an image, the mean of latents N×channels×positions.

        The value is that of the rounded latents; in between two symbols the straight line would be a few per cent off.
        """
        quantiser = self._bottleneck.quantiser
        assert quantiser is not None
        places = (latents / quantiser.steps[0] - quantiser.lowest).clamp(0, quantiser.levels - 1)
        lower = places.detach().floor().clamp_max(quantiser.levels - 2).long()
        bits = self._bits.to(latents.device)
        rows = torch.arange(len(bits), device=latents.device)[:, None] * quantiser.levels
        below, above = bits.take(lower + rows), bits.take(lower + rows + 1)
        sloped = (below + (above - below) * (places - lower)).sum()
        rounded = torch.where(places.detach().round() > lower, above, below).sum()
        return (sloped + (rounded - sloped).detach()) / len(latents) / 8 + HEADER_BYTES + CODER_BYTES

    @property
    def _bits(self) -> torch.Tensor:
        """What each symbol costs: as in the coder, none has less than one part in 65536."""
        frequencies = self._shares * (65536 - self._shares.shape[1]) + 1
        return 16 - frequencies.log2()

    def observe(self, latents: torch.Tensor, payload_bytes: float) -> None:
        """Renew the tables with a batch's latents, and move the price by what the batch cost."""
        counts = torch.from_numpy(self._bottleneck.count_symbols(self._bottleneck.symbols(latents).cpu()))
        fresh = counts / counts.sum(1, keepdim=True)
        self._shares = self._shares * (1 - _FORGET) + fresh.float() * _FORGET
        self.price = max(0.0, self.price + _ASCENT * (payload_bytes / self._budget_bytes - 1))


def open_price(bottleneck: Bottleneck, latents: torch.Tensor, budget: Budget, *, price: float) -> Price | None:
    """Give the quantiser all its levels for training, and return what bytes cost; None where no price is needed.

    A design with fixed elements and bits cannot escape: only a linear one with a budget of bytes can.
    """
    if not isinstance(bottleneck, LinearBottleneck) or budget.payload_bytes is None:
        return None
    assert bottleneck.quantiser is not None
    bottleneck.quantiser = Quantiser.common(bottleneck.quantiser.steps[0])
    counts = torch.from_numpy(bottleneck.count_symbols(bottleneck.symbols(latents))).float()
    return Price(counts, bottleneck, budget_bytes=budget.payload_bytes, price=price)


def calibrate(bottleneck: Bottleneck, latents: torch.Tensor, budget: Budget, *, tag: Tag) -> tuple[Codec, float]:
    """Set the quantiser from latents N×latent_shape, and return the codec and the mean payload of these latents.

    The linear design takes the smallest step that the budget allows, the others as many bits per element, up to 8.

    Raises:
        InputError: the budget cannot be met.

    """
    if isinstance(bottleneck, LinearBottleneck):
        if budget.payload_bytes is None:
            _set_step(bottleneck, latents, _finest(latents))
            return coded(bottleneck, latents, tag)
        return _fill_budget(bottleneck, latents, budget.payload_bytes, tag)
    rows = latents.movedim(bottleneck.channel_axis + 1, 0).flatten(1)
    low, high = rows.amin(1).numpy(), rows.amax(1).numpy()
    size = 0.0
    for bits in range(8, 1, -1):
        bottleneck.quantiser = Quantiser.per_channel(low=low, high=high, bits=bits)
        codec, size = coded(bottleneck, latents, tag)
        if budget.payload_bytes is None or size <= budget.payload_bytes:
            return codec, size
    msg = f"at 2 bits an element this split still takes {size:.0f} bytes, not {budget.payload_bytes}: give more bytes"
    raise InputError(msg)


def _fill_budget(bottleneck: LinearBottleneck, latents: torch.Tensor, budget: int, tag: Tag) -> tuple[Codec, float]:
    """Bisect the step until real payloads fill the budget to within half a per cent, and do not exceed it."""
    finest, coarsest = _finest(latents), 8 * float(latents.abs().max().clamp_min(1e-30))
    start = bottleneck.quantiser.steps[0] if bottleneck.quantiser is not None else (finest * coarsest) ** 0.5
    step, factor = min(max(start, finest), coarsest), 1.02
    too_fine, fitting = 0.0, None
    for _ in range(40):
        _set_step(bottleneck, latents, step)
        codec, size = coded(bottleneck, latents, tag)
        if size <= budget:
            fitting = step, codec, size
            if size >= budget * 0.995 or step <= finest:
                break
        else:
            too_fine = step
        # Outwards from where it was before in growing strides, and once that is bracketed, by bisection.
        if fitting is None or not too_fine:
            step = min(step * factor, coarsest) if fitting is None else max(step / factor, finest)
            factor *= factor
        else:
            step = (too_fine * fitting[0]) ** 0.5
        if (fitting and too_fine and fitting[0] / too_fine < 1.001) or too_fine >= coarsest:
            break
    if fitting is None:
        msg = f"no step brings this split's payload down to {budget} bytes: give more bytes"
        raise InputError(msg)
    _, codec, size = fitting
    bottleneck.quantiser = codec.quantiser
    return codec, size


def _finest(latents: torch.Tensor) -> float:
    """Return the smallest step that keeps all latents within 256 levels."""
    largest = float(latents.abs().max()) if latents.numel() else 0.0
    return largest / (_HALF - 0.51) if largest else 1.0


def _set_step(bottleneck: LinearBottleneck, latents: torch.Tensor, step: float) -> None:
    """Take that step, and no more levels than the latents need: each level costs the tables a little."""
    peak = int(float(latents.abs().max()) / step + 0.5) if latents.numel() else 0
    bottleneck.quantiser = Quantiser.common(step, levels=min(2 * peak + 2, MAX_LEVELS))


def coded(bottleneck: Bottleneck, latents: torch.Tensor, tag: Tag) -> tuple[Codec, float]:
    """Return the codec with tables from latents N×latent_shape, and their mean payload, header included."""
    symbols = bottleneck.symbols(latents)
    counts = bottleneck.count_symbols(symbols)
    codec = bottleneck.codec(model=tag.model, cut=tag.cut, counts=counts, images=len(latents))
    sample = symbols[: _MOST_SYMBOLS // max(1, symbols[0].numel())]
    if codec.tables is not None and codec.tables.lanes > 1:
        sample = symbols[:100]  # several lanes are coded one image at a time
    size = float(codec.payload_bytes(sample.numpy()).mean())
    # Entropies tell how the images that were coded differ from all.
    entropies = _entropies(bottleneck, codec, symbols)
    return codec, size + float(entropies.mean() - entropies[: len(sample)].mean())


def _entropies(bottleneck: Bottleneck, codec: Codec, symbols: torch.Tensor) -> torch.Tensor:
    """Return the bytes (N) that an ideal coder with the codec's tables would take."""
    assert codec.tables is not None
    bits = 16 - torch.from_numpy(codec.tables.frequencies.astype(np.float64)).log2()
    rows = symbols.movedim(bottleneck.channel_axis + 1, 1).flatten(2).long()
    return bits.take(rows + torch.arange(len(bits))[:, None] * bits.shape[1]).sum((1, 2)) / 8
