"""Bytes: what latents cost while training, and the quantiser and tables that keep a mean payload within its budget.

Nothing but the budget would keep a linear encoder from scaling its latents up until rounding no longer matters. So
bytes have a price. What a latent costs is read from the coder's own tables, in between two symbols by linear
interpolation: that has a slope, which a count of bytes has not. The price goes up while the bytes are above the
budget and down to nothing below it (dual ascent), so that in the end the budget is used, and not exceeded.
"""

from dataclasses import dataclass

import torch

from isplit.codec.codec import Codec
from isplit.codec.coders import CoderName
from isplit.codec.frame import HEADER_BYTES
from isplit.codec.quantise import WIDEST_STEPS, Quantiser, levels_for_peak
from isplit.codec.rans import CODER_BYTES
from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.coding import CodecOwner, LatentQuantiser, symbol_bits
from isplit.errors import InputError
from isplit.records import Budget

# The share of the tables that comes from the newest batch.
_FORGET = 0.05
# How fast the price follows: per step, of the share by which the bytes are off.
_ASCENT = 0.02
# Payloads of this many symbols are coded to tell the mean.
_MOST_SYMBOLS = 2**23
# Payloads that are coded to tell the mean where each has to be coded by itself.
_MOST_PAYLOADS = 100


class Price:
    """The bytes of latents with one common step, with a gradient, and their price.

    Args:
        quantiser: One step for all latents, with all levels.
        latents: N×channels×positions, from which the tables start.
        budget_bytes: Mean payload, header included.
        price: In units of the loss per budget.

    """

    def __init__(
        self, quantiser: LatentQuantiser, latents: torch.Tensor, *, budget_bytes: float, price: float = 0.0
    ) -> None:
        self.price = price
        self.quantiser = quantiser
        self._budget_bytes = budget_bytes
        self._shares = self._observed(latents)

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the bytes of an image, the mean of latents N×channels×positions.

        The value is that of the rounded latents; in between two symbols the straight line would be a few per cent off.
        """
        quantiser = self.quantiser.quantiser
        places = (latents / quantiser.steps[0] - quantiser.lowest).clamp(0, quantiser.levels - 1)
        lower = places.detach().floor().clamp_max(quantiser.levels - 2).long()
        bits = symbol_bits(self._shares).to(latents.device)
        rows = torch.arange(len(bits), device=latents.device)[:, None] * quantiser.levels
        below, above = bits.take(lower + rows), bits.take(lower + rows + 1)
        sloped = (below + (above - below) * (places - lower)).sum()
        rounded = torch.where(places.detach().round() > lower, above, below).sum()
        return (sloped + (rounded - sloped).detach()) / len(latents) / 8 + HEADER_BYTES + CODER_BYTES

    def observe(self, latents: torch.Tensor, payload_bytes: float) -> None:
        """Renew the tables with a batch's latents, and move the price by what the batch cost."""
        self._shares = self._shares * (1 - _FORGET) + self._observed(latents) * _FORGET
        self.price = max(0.0, self.price + _ASCENT * (payload_bytes / self._budget_bytes - 1))

    def _observed(self, latents: torch.Tensor) -> torch.Tensor:
        """Return how often each symbol comes up in each channel (channels, levels), as shares."""
        counts = torch.from_numpy(self.quantiser.count_symbols(self.quantiser.symbols(latents).cpu())).float()
        return counts / counts.sum(1, keepdim=True).clamp_min(1)


def open_price(
    bottleneck: Bottleneck, quantiser: LatentQuantiser, latents: torch.Tensor, budget: Budget, *, price: float
) -> Price | None:
    """Return what bytes cost while training, with a quantiser of all levels; None where no price is needed.

    A design with fixed elements and bits cannot escape: only one with a common step and a budget of bytes can.
    """
    if not bottleneck.common_step or budget.payload_bytes is None:
        return None
    all_levels = LatentQuantiser(Quantiser.common(quantiser.quantiser.steps[0]), quantiser.channel_axis)
    return Price(all_levels, latents, budget_bytes=budget.payload_bytes, price=price)


@dataclass(frozen=True, eq=False)
class CodedLatents:
    """A codec, and the mean payload of the latents that it was made from, header included."""

    codec: Codec
    payload_bytes: float

    @property
    def quantiser(self) -> LatentQuantiser:
        """The codec's quantiser, for latents in torch."""
        return LatentQuantiser(self.codec.quantiser, self.codec.channel_axis)


@dataclass(frozen=True)
class RateControl:
    """How the quantiser and the codec of a split are made from its latents.

    Attributes:
        owner: The model and the cut that the codec is tied to.
        budget: What may cross.
        coder: The entropy coder.
        channel_axis: The axis of one image's latent along which scales and tables run.
        common_step: Whether all latents share one step, or each channel has its own scale.

    """

    owner: CodecOwner
    budget: Budget
    coder: CoderName = "rans"
    channel_axis: int = 0
    common_step: bool = True

    def __call__(self, latents: torch.Tensor, *, before: LatentQuantiser | None = None) -> CodedLatents:
        """Return the codec for latents N×latent_shape that keeps their mean payload within the budget.

        With a common step that is the smallest that the budget allows, otherwise as many bits per element, up to 8.

        Args:
            latents: Of images that stand for all.
            before: The quantiser so far, near which a common step is looked for first.

        Raises:
            InputError: the budget cannot be met.

        """
        budget_bytes = self.budget.payload_bytes
        if self.common_step:
            if budget_bytes is None:
                return self.coded(latents, _with_step(latents, _finest(latents)))
            return self._fill_budget(latents, budget_bytes, before)
        rows = latents.movedim(self.channel_axis + 1, 0).flatten(1)
        low, high = rows.amin(1).numpy(), rows.amax(1).numpy()
        size = 0.0
        for bits in range(8, 1, -1):
            calibrated = self.coded(latents, Quantiser.per_channel(low=low, high=high, bits=bits))
            size = calibrated.payload_bytes
            if budget_bytes is None or size <= budget_bytes:
                return calibrated
        msg = f"at 2 bits an element this split still takes {size:.0f} bytes, not {budget_bytes}: give more bytes"
        raise InputError(msg)

    def _fill_budget(self, latents: torch.Tensor, budget_bytes: int, before: LatentQuantiser | None) -> CodedLatents:
        """Bisect the step until real payloads fill the budget to within half a per cent, and do not exceed it."""
        finest, coarsest = _finest(latents), 8 * float(latents.abs().max().clamp_min(1e-30))
        start = before.quantiser.steps[0] if before is not None else (finest * coarsest) ** 0.5
        step, factor = min(max(start, finest), coarsest), 1.02
        too_fine, fitting = 0.0, None
        for _ in range(40):
            calibrated = self.coded(latents, _with_step(latents, step))
            if calibrated.payload_bytes <= budget_bytes:
                fitting = step, calibrated
                if calibrated.payload_bytes >= budget_bytes * 0.995 or step <= finest:
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
            msg = f"no step brings this split's payload down to {budget_bytes} bytes: give more bytes"
            raise InputError(msg)
        return fitting[1]

    def coded(self, latents: torch.Tensor, quantiser: Quantiser) -> CodedLatents:
        """Return the codec of that quantiser for latents N×latent_shape, and their mean payload."""
        in_torch = LatentQuantiser(quantiser, self.channel_axis)
        symbols = in_torch.symbols(latents)
        codec = self.owner.make_codec(in_torch, symbols, coder=self.coder)
        sample = symbols[: _MOST_SYMBOLS // max(1, symbols[0].numel())]
        if codec.tables is None or codec.tables.lanes > 1:
            sample = symbols[:_MOST_PAYLOADS]
        size = float(codec.payload_bytes(sample.numpy()).mean())
        if codec.tables is not None:
            # Entropies tell how the images that were coded differ from all.
            entropies = _entropies(codec, symbols)
            size += float(entropies.mean() - entropies[: len(sample)].mean())
        return CodedLatents(codec, size)


def _finest(latents: torch.Tensor) -> float:
    """Return the smallest step that keeps all latents within 256 levels."""
    largest = float(latents.abs().max()) if latents.numel() else 0.0
    return largest / WIDEST_STEPS if largest else 1.0


def _with_step(latents: torch.Tensor, step: float) -> Quantiser:
    """Return the quantiser of that step, with no more levels than the latents need."""
    peak = int(float(latents.abs().max()) / step + 0.5) if latents.numel() else 0
    return Quantiser.common(step, levels=levels_for_peak(peak))


def _entropies(codec: Codec, symbols: torch.Tensor) -> torch.Tensor:
    """Return the bytes (N) that an ideal coder with the codec's tables would take."""
    assert codec.tables is not None
    bits = torch.from_numpy(codec.tables.symbol_bits)
    rows = symbols.movedim(codec.channel_axis + 1, 1).flatten(2).long()
    return bits.take(rows + torch.arange(len(bits))[:, None] * bits.shape[1]).sum((1, 2)) / 8
