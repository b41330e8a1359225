"""Price bytes while a split is trained, and make the quantiser and tables whose mean payload fills the budget.

A linear encoder could scale its latents up until rounding no longer matters, so bytes have a price during training.
The cost of a latent is read from the coder's own tables and interpolated linearly between two symbols, which gives it
a slope. The price rises while the mean payload is above the budget and falls to zero below it (dual ascent). So
training ends with a mean payload near the budget.
"""

from dataclasses import dataclass, replace

import torch

from isplit.codec.codec import Codec
from isplit.codec.coders import CoderName
from isplit.codec.frame import HEADER_BYTES
from isplit.codec.quantise import MAX_LEVELS, WIDEST_STEPS, Quantiser, levels_for_peak
from isplit.codec.rans import CODER_BYTES
from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.coding import CodecOwner, LatentQuantiser, symbol_bits
from isplit.design.closed_form.allocation import clipping_ranges, finest_step, widest_step
from isplit.design.closed_form.sorted_latents import scales_for_step
from isplit.errors import InputError
from isplit.records import Budget

# The tables are a running average, in which the newest batch has this weight.
_FORGET = 0.05
# The change of the price in one step, per unit of the relative excess over the budget.
_ASCENT = 0.02
# The mean payload is measured on real payloads of at most this many symbols,
_MOST_SYMBOLS = 2**23
# and of at most this many images where the coder has to code each image to know its length.
_MOST_PAYLOADS = 100
# The budget counts as filled from this share on, because a finer search would take longer than it is worth.
_FILLED = 0.995
# Two bits; with fewer levels, a channel carries almost no information.
_FEWEST_LEVELS = 4


class Price:
    """Estimate the bytes of latents with a gradient, and adapt the price of these bytes to the budget.

    Args:
        quantiser: The steps, with all 256 levels.
        latents: Latents N×channels×positions that the first tables are made from.
        budget_bytes: The mean payload that is allowed, header included.
        price: The price at the start, in units of the loss per budget.

    """

    def __init__(
        self, quantiser: LatentQuantiser, latents: torch.Tensor, *, budget_bytes: float, price: float = 0.0
    ) -> None:
        self.price = price
        self.quantiser = quantiser
        self._budget_bytes = budget_bytes
        self._shares = self._observed(latents)

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the mean bytes of an image, for latents N×channels×positions.

        The value is exact for the rounded latents, because interpolation would be off by a few per cent. The gradient
        is that of the interpolation.
        """
        quantiser = self.quantiser.quantiser
        places = (latents / self.quantiser.steps(latents) - quantiser.lowest).clamp(0, quantiser.levels - 1)
        lower = places.detach().floor().clamp_max(quantiser.levels - 2).long()
        bits = symbol_bits(self._shares).to(latents.device)
        rows = torch.arange(len(bits), device=latents.device)[:, None] * quantiser.levels
        below, above = bits.take(lower + rows), bits.take(lower + rows + 1)
        sloped = (below + (above - below) * (places - lower)).sum()
        rounded = torch.where(places.detach().round() > lower, above, below).sum()
        return (sloped + (rounded - sloped).detach()) / len(latents) / 8 + HEADER_BYTES + CODER_BYTES

    def observe(self, latents: torch.Tensor, payload_bytes: float) -> None:
        """Update the tables with a batch's latents, and the price with the batch's mean payload."""
        self._shares = self._shares * (1 - _FORGET) + self._observed(latents) * _FORGET
        self.price = max(0.0, self.price + _ASCENT * (payload_bytes / self._budget_bytes - 1))

    def _observed(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the share of each symbol in each channel (channels, levels)."""
        counts = torch.from_numpy(self.quantiser.count_symbols(self.quantiser.symbols(latents).cpu())).float()
        return counts / counts.sum(1, keepdim=True).clamp_min(1)


def open_price(
    bottleneck: Bottleneck, quantiser: LatentQuantiser, latents: torch.Tensor, budget: Budget, *, price: float
) -> Price | None:
    """Return the price of bytes in an epoch, with a quantiser of all 256 levels, or None where no price is needed.

    Only a design with a common step and a budget of bytes needs a price. With a fixed number of elements and of bits,
    larger latents would not gain anything.
    """
    if not bottleneck.common_step or budget.payload_bytes is None:
        return None
    all_levels = replace(quantiser.quantiser, levels=MAX_LEVELS, lowest=-(MAX_LEVELS // 2))
    with_axis = LatentQuantiser(all_levels, quantiser.channel_axis)
    return Price(with_axis, latents, budget_bytes=budget.payload_bytes, price=price)


@dataclass(frozen=True, eq=False)
class CodedLatents:
    """Hold a codec, and the mean payload of the images that it was judged on.

    Attributes:
        codec: The quantiser and the coder's tables.
        payload_bytes: The mean payload, header included.
        is_finest: Whether there is no finer quantiser, so that all information of the latents is sent already.

    """

    codec: Codec
    payload_bytes: float
    is_finest: bool

    @property
    def quantiser(self) -> LatentQuantiser:
        """The codec's quantiser, for latents in torch."""
        return LatentQuantiser(self.codec.quantiser, self.codec.channel_axis)


@dataclass(frozen=True, eq=False)
class SampleLatents:
    """Hold the latents that a codec is made from.

    Attributes:
        tables: Latents N×latent_shape whose histograms become the coder's tables. The bottleneck should not have been
            solved from the same images, whose latents are atypical.
        judged: Latents M×latent_shape whose mean payload has to fill the budget.

    """

    tables: torch.Tensor
    judged: torch.Tensor


@dataclass(frozen=True)
class RateControl:
    """Make the quantiser and the codec of a split from its latents.

    Attributes:
        owner: The model and the cut that the codec is tied to.
        budget: The budget of a payload.
        coder: The entropy coder.
        channel_axis: The axis of one image's latent that has a scale and a table for each index.
        common_step: Whether all latents share one step, or each channel has its own scale.

    """

    owner: CodecOwner
    budget: Budget
    coder: CoderName = "rans"
    channel_axis: int = 0
    common_step: bool = True

    def __call__(self, latents: SampleLatents, *, before: LatentQuantiser | None = None) -> CodedLatents:
        """Return the codec whose mean payload fills the budget as far as possible and does not exceed it.

        With a common step, the step is the smallest that the budget allows. A latent whose range is more than 256
        steps gets a coarser step, as in the closed form, so that a single wide latent does not make all others coarse.
        Without a common step, all channels have as many levels as the budget allows.

        Args:
            latents: The latents that the tables are made from, and those whose payloads are measured.
            before: The current quantiser. The search for a common step starts from its step.

        Raises:
            InputError: the budget cannot be met.

        """
        budget_bytes = self.budget.payload_bytes
        if not self.common_step:
            return self._fill_with_levels(latents, budget_bytes)
        spread = _Spread.of(self._rows(latents.tables))
        if budget_bytes is None:
            return self.coded(latents, spread.quantiser(widest_step(spread.ranges)), spread=spread)
        return self._fill_with_step(latents, budget_bytes, before, spread)

    def _fill_with_levels(self, latents: SampleLatents, budget_bytes: int | None) -> CodedLatents:
        """Bisect the number of levels of all channels, between 4 and 256."""
        rows = self._rows(latents.tables).movedim(1, 0).flatten(1)
        low, high = rows.amin(1).numpy(), rows.amax(1).numpy()

        def with_levels(levels: int) -> CodedLatents:
            return self.coded(latents, Quantiser.per_channel(low=low, high=high, levels=levels))

        best = with_levels(MAX_LEVELS)
        if budget_bytes is None or best.payload_bytes <= budget_bytes:
            return best
        best, fewest, too_many = with_levels(_FEWEST_LEVELS), _FEWEST_LEVELS, MAX_LEVELS
        if best.payload_bytes > budget_bytes:
            msg = (
                f"at 2 bits an element this split still takes {best.payload_bytes:.0f} bytes, not {budget_bytes}: "
                "give more bytes"
            )
            raise InputError(msg)
        while too_many - fewest > 1:
            middle = (too_many + fewest) // 2
            attempt = with_levels(middle)
            if attempt.payload_bytes <= budget_bytes:
                best, fewest = attempt, middle
            else:
                too_many = middle
        return best

    def _fill_with_step(
        self, latents: SampleLatents, budget_bytes: int, before: LatentQuantiser | None, spread: "_Spread"
    ) -> CodedLatents:
        """Bisect the step until real payloads fill the budget to within half a per cent without exceeding it."""
        finest, coarsest = finest_step(spread.ranges), widest_step(spread.ranges) * 8 * WIDEST_STEPS
        start = min(before.quantiser.steps) if before is not None else (finest * coarsest) ** 0.5
        step, factor = min(max(start, finest), coarsest), 1.02
        too_fine, fitting = 0.0, None
        for _ in range(40):
            attempt = self.coded(latents, spread.quantiser(step), spread=spread)
            if attempt.payload_bytes <= budget_bytes:
                fitting = step, attempt
                if attempt.payload_bytes >= budget_bytes * _FILLED or step <= finest:
                    break
            else:
                too_fine = step
            # The search goes outwards from the start in growing strides, and bisects once the budget is bracketed.
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

    def _rows(self, latents: torch.Tensor) -> torch.Tensor:
        """Return latents N×latent_shape as N×channels×positions."""
        return latents.movedim(self.channel_axis + 1, 1).flatten(2)

    def coded(self, latents: SampleLatents, quantiser: Quantiser, *, spread: "_Spread | None" = None) -> CodedLatents:
        """Return the codec of a quantiser with tables from the latents, and the mean payload of the judged latents.

        `spread` is the spread of the latents for the tables, where it is known already.
        """
        in_torch = LatentQuantiser(quantiser, self.channel_axis)
        codec = self.owner.make_codec(in_torch, in_torch.symbols(latents.tables), coder=self.coder)
        symbols = in_torch.symbols(latents.judged)
        sample = symbols[: max(1, _MOST_SYMBOLS // max(1, symbols[0].numel()))]
        if codec.tables is None or codec.tables.lanes > 1:
            sample = symbols[:_MOST_PAYLOADS]
        size = float(codec.payload_bytes(sample.numpy()).mean())
        if codec.tables is not None:
            # Only some images were coded. Their entropies tell by how much they differ from the others.
            entropies = _entropies(codec, symbols)
            size += float(entropies.mean() - entropies[: len(sample)].mean())
        if self.common_step:
            spread = spread or _Spread.of(self._rows(latents.tables))
            is_finest = min(quantiser.steps) <= 1.0001 * finest_step(spread.ranges)
        else:
            is_finest = quantiser.levels == MAX_LEVELS
        return CodedLatents(codec, size, is_finest)


@dataclass(frozen=True, eq=False)
class _Spread:
    """Hold the range of each channel's latents, measured once for all the steps that are tried.

    Attributes:
        ranges: The result of `clipping_ranges` for each channel (K).
        peaks: The largest absolute value of each channel's latents (K).

    """

    ranges: torch.Tensor
    peaks: torch.Tensor

    @classmethod
    def of(cls, rows: torch.Tensor) -> "_Spread":
        """Measure latents N×K×positions."""
        peaks = rows.abs().amax((0, 2)) if rows.numel() else torch.zeros(rows.shape[1])
        return cls(clipping_ranges(rows), peaks)

    def quantiser(self, step: float) -> Quantiser:
        """Return the quantiser of a step, with no more levels than the latents need."""
        scales = scales_for_step(self.ranges, step)
        peak = float((self.peaks / (step * scales)).max()) if len(self.peaks) else 0.0
        levels = levels_for_peak(min(MAX_LEVELS // 2, int(peak + 0.5)))
        return Quantiser.common(step, levels=levels, scales=scales.numpy())


def _entropies(codec: Codec, symbols: torch.Tensor) -> torch.Tensor:
    """Return for each image (N) the bytes that an ideal coder with the codec's tables would take."""
    assert codec.tables is not None
    bits = torch.from_numpy(codec.tables.symbol_bits)
    rows = symbols.movedim(codec.channel_axis + 1, 1).flatten(2).long()
    return bits.take(rows + torch.arange(len(bits))[:, None] * bits.shape[1]).sum((1, 2)) / 8
