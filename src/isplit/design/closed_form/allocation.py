"""Choose which latents of a closed-form bottleneck to send, and how finely, for a byte budget.

All latents share one quantisation step: the weighting has made their errors worth the same, so equal steps spread the
error as reverse water-filling does (Cover and Thomas, Elements of Information Theory, 10.3.3). A larger step costs
fewer bits and makes fewer latents worth sending; the step is bisected until the real histogram of the symbols, coded
with static tables, fills the budget.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import torch

from isplit.codec.codec import smallest_payload_bytes
from isplit.codec.frame import HEADER_BYTES
from isplit.codec.quantise import MAX_LEVELS, WIDEST_STEPS, levels_for_peak
from isplit.codec.rans import CODER_BYTES
from isplit.design.bottleneck.coding import symbol_bits
from isplit.design.closed_form.solve import Solution
from isplit.errors import InputError
from isplit.records import Budget, Cut

# At the uniform quantiser's high-rate slope, dD/dR = -2 ln 2 step²/12, a bit has to lower the error by this many step²
# to be worth it. A latent that does worse is left out.
_WORTH_OF_A_BIT = 0.1155
# The share of images that may have a latent clipped: one that stands out must not make all others coarse.
_CLIPPED_IMAGES = 0.005
_HALF = MAX_LEVELS // 2


@dataclass(frozen=True, eq=False)
class Allocation:
    """The latents of a cut that are sent, and their step.

    `kept` holds for each map the places of its latents that are sent, `scales` what each is divided by.
    `payload_bytes` is what the histograms predict, header included, as a mean over the images they are from.
    """

    kept: tuple[torch.Tensor, ...]
    scales: tuple[torch.Tensor, ...]
    step: float
    levels: int
    payload_bytes: float


def allocate_bytes(latents: Sequence[torch.Tensor], budget_bytes: float) -> Allocation:
    """Choose latents and step for a mean payload of at most `budget_bytes`, header included.

    Args:
        latents: For each map of a bottleneck, N×K×P float32: the first K latents of N images.
        budget_bytes: The budget.

    A latent whose range is more than 256 steps is scaled down until it fits: it has a coarser step of its own, instead
    of making all others coarse.

    Raises:
        InputError: the budget is smaller than any payload.

    """
    if budget_bytes < smallest_payload_bytes():
        least = smallest_payload_bytes()
        msg = f"no payload is smaller than {least} bytes (the header is {HEADER_BYTES}): give at least that"
        raise InputError(msg)
    ranges = [clipping_ranges(part) for part in latents]
    every = torch.cat(ranges)
    if not bool((every > 0).any()):
        return _try_step(latents, ranges, 1.0)
    low, high = finest_step(every), 1024 * widest_step(every)
    best = _try_step(latents, ranges, low)
    if best.payload_bytes <= budget_bytes:
        return best
    best = _try_step(latents, ranges, high)
    while high / low > 1.002:
        middle = (low * high) ** 0.5
        attempt = _try_step(latents, ranges, middle)
        if attempt.payload_bytes > budget_bytes:
            low = middle
        else:
            best, high = attempt, middle
    return best


def clipping_ranges(latents: torch.Tensor) -> torch.Tensor:
    """Return for each latent (K) of N×K×P the largest size that all but 0.5 % of the images stay within."""
    images, count, _ = latents.shape
    if not count:
        return torch.zeros(0)
    return latents.abs().amax(2).kthvalue(max(1, ceil(images * (1 - _CLIPPED_IMAGES))), dim=0).values


def useful_ranks(solutions: Sequence[Solution], budget: Budget) -> list[int]:
    """Return how many latents of each map a budget of bytes could possibly be spent on, with room to spare.

    Real latents have heavier tails than Gaussian ones: those down to a sixteenth of the water level stay in.
    """
    level = _water_level(solutions, budget)
    if level is None:
        return [min(1, len(solution.eigenvalues)) for solution in solutions]
    return [
        max(1, int((solution.eigenvalues > level / 16).sum())) if solution.eigenvalues[0] > 0 else 0
        for solution in solutions
    ]


def ratio_ranks(solutions: Sequence[Solution], cut: Cut, budget: Budget) -> list[int]:
    """Share the elements that a ratio allows out among the maps, the most important latents first; at least one."""
    assert budget.element_ratio is not None
    elements = prod(cut.shape) / budget.element_ratio
    offers = sorted(
        (
            (-float(value), number)
            for number, solution in enumerate(solutions)
            for value in solution.eigenvalues.tolist()
            if value > 0
        ),
    )
    ranks, used = [0] * len(solutions), 0
    for _, number in offers:
        vectors = solutions[number].layout.vectors
        if used and used + vectors > elements * (1 + 1e-9):
            break
        ranks[number] += 1
        used += vectors
    return ranks if any(ranks) else [1] * len(solutions)


def lost_share(solution: Solution, cut: Cut, budget: Budget) -> float:
    """Return the share of the weighted energy that is lost at a budget when Gaussian latents are coded at best."""
    values = solution.eigenvalues.double()
    if not values.sum() > 0:
        return 0.0
    if budget.element_ratio:
        (rank,) = ratio_ranks([solution], cut, budget)
        return float(values[rank:].sum() / values.sum())
    level = _water_level([solution], budget)
    assert level is not None
    return float(values.clamp_max(level).sum() / values.sum())


def _water_level(solutions: Sequence[Solution], budget: Budget) -> float | None:
    """Return theta of reverse water-filling for a budget of bytes, None where nothing varies.

    At that level Gaussian latents take 1/2 log2(eigenvalue / theta) bits each where they are above it, and lose theta
    or all of their eigenvalue.
    """
    return _level_of([(solution.eigenvalues, solution.layout.vectors) for solution in solutions], budget)


def expected_loss(latents: Sequence[torch.Tensor], budget: Budget) -> float:
    """Return the squared error per image, if these latents N×K×P were Gaussian and coded at best for a byte budget."""
    parts = [(part.square().mean((0, 2)), part.shape[2]) for part in latents]
    level = _level_of(parts, budget)
    return 0.0 if level is None else sum(count * float(values.clamp_max(level).sum()) for values, count in parts)


def _level_of(parts: Sequence[tuple[torch.Tensor, int]], budget: Budget) -> float | None:
    """Return the water level for variances, each weighted by how many latents of an image share it."""
    assert budget.payload_bytes is not None
    bits = 8.0 * max(budget.payload_bytes - HEADER_BYTES, 1)
    values = torch.cat([variances for variances, _ in parts]).double()
    weights = torch.cat(
        [torch.full((len(variances),), float(count), dtype=torch.float64) for variances, count in parts]
    )
    largest = float(values.max()) if len(values) else 0.0
    if largest <= 0:
        return None
    low, high = largest * 1e-18, largest
    for _ in range(80):
        theta = (low * high) ** 0.5
        spent = float((weights * 0.5 * (values / theta).clamp_min(1).log2()).sum())
        low, high = (low, theta) if spent < bits else (theta, high)
    return high


def fixed_rank(latents: Sequence[torch.Tensor], ranks: Sequence[int]) -> Allocation:
    """Keep the first so many latents of each map, in eight bits each: the step that loses least.

    Args:
        latents: As for `allocate_bytes`.
        ranks: For each map.

    """
    parts = [part[:, :rank] for part, rank in zip(latents, ranks, strict=True)]
    ranges = [clipping_ranges(part) for part in parts]
    step = widest_step(torch.cat(ranges))
    figures = [_costs(part, of_part, step) for part, of_part in zip(parts, ranges, strict=True)]
    return Allocation(
        kept=tuple(torch.arange(rank) for rank in ranks),
        scales=tuple(torch.ones(rank) for rank in ranks),
        step=step,
        levels=MAX_LEVELS,
        payload_bytes=HEADER_BYTES + CODER_BYTES + sum(float(bits.sum()) for bits, _, _ in figures) / 8,
    )


def rounding_gain(latents: torch.Tensor, step: float) -> torch.Tensor:
    """Return for each latent the factor by which its rounded value comes closest to it, in the mean square.

    Latents crowd around zero, so within a step those below its middle are more than those above.
    """
    rounded = torch.round(latents / step).clamp(-_HALF, _HALF - 1) * step
    power = rounded.square().sum((0, 2))
    return torch.where(power > 0, (latents * rounded).sum((0, 2)) / power.clamp_min(1e-30), torch.ones(()))


def _try_step(latents: Sequence[torch.Tensor], ranges: Sequence[torch.Tensor], step: float) -> Allocation:
    """Keep what is worth its bits at this step; at least one latent, so that there is a payload at all."""
    figures = [_costs(part, of_part, step) for part, of_part in zip(latents, ranges, strict=True)]
    gains = [saved - _WORTH_OF_A_BIT * step * step * bits for bits, saved, _ in figures]
    kept = [torch.nonzero(gain > 0).flatten() for gain in gains]
    if not any(len(places) for places in kept):
        number = max((n for n, gain in enumerate(gains) if len(gain)), key=lambda n: float(gains[n].max()))
        kept[number] = gains[number].argmax()[None]
    sent = [(bits[places], peaks[places]) for places, (bits, _, peaks) in zip(kept, figures, strict=True)]
    largest = max(int(peaks.max()) for _, peaks in sent if len(peaks))
    return Allocation(
        kept=tuple(kept),
        scales=tuple(scales_for_step(of_part, step)[places] for of_part, places in zip(ranges, kept, strict=True)),
        step=step,
        levels=levels_for_peak(largest),
        payload_bytes=HEADER_BYTES + CODER_BYTES + sum(float(bits.sum()) for bits, _ in sent) / 8,
    )


def widest_step(ranges: torch.Tensor) -> float:
    """Return the step at which the widest of these ranges (K) just fits 256 levels; 1 where nothing varies."""
    largest = float(ranges.max()) if len(ranges) else 0.0
    return largest / WIDEST_STEPS if largest else 1.0


def finest_step(ranges: torch.Tensor) -> float:
    """Return the step at which the narrowest of these ranges (K) fills 256 levels: below it, nothing changes."""
    varying = ranges[ranges > 0]
    return widest_step(varying.min()[None]) if len(varying) else 1.0


def scales_for_step(ranges: torch.Tensor, step: float) -> torch.Tensor:
    """Return the factor (K) by which each latent's step is coarser than `step`, so that its range fits 256 levels."""
    return (ranges / (WIDEST_STEPS * step)).clamp_min(1)


def _costs(latents: torch.Tensor, ranges: torch.Tensor, step: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return for each latent its bits per image, the squared error that sending it saves per image, and its peak.

    Bits are the cross-entropy of the histogram's table of 16-bit frequencies, each at least 1.
    """
    images, count, positions = latents.shape
    if count == 0:
        return torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.long)
    steps = step * scales_for_step(ranges, step)[:, None]
    integers = torch.round(latents / steps).clamp_(-_HALF, _HALF - 1)
    saved = (latents.square() - (latents - integers * steps).square()).sum((0, 2)) / images
    symbols = integers.to(torch.int64).transpose(0, 1).reshape(count, -1)
    peaks = symbols.abs().amax(1)
    # The table has as many levels as the largest symbol of all needs; this latent pays for the ones it never uses.
    levels = levels_for_peak(int(peaks.max()))
    places = (symbols + levels // 2).clamp_(max=levels - 1) + torch.arange(count)[:, None] * levels
    histogram = torch.bincount(places.flatten(), minlength=count * levels).reshape(count, levels).double()
    total = images * positions
    bits = (histogram * symbol_bits(histogram / total)).sum(1) / images
    return bits, saved.double(), peaks
