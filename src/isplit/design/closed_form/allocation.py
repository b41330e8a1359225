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
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.solve import Solution
from isplit.design.closed_form.sorted_latents import SortedLatents, scales_for_step
from isplit.errors import InputError
from isplit.records import Budget, Cut

# At the uniform quantiser's high-rate slope, dD/dR = -2 ln 2 step²/12, a bit has to lower the error by this many step²
# to be worth it. A latent that does worse is left out.
_WORTH_OF_A_BIT = 0.1155
# The share of images that may have a latent clipped: one that stands out must not make all others coarse.
_CLIPPED_IMAGES = 0.005
_HALF = MAX_LEVELS // 2
_FAINTEST = 16
"""Latents whose variance is the water level over this are never worth a byte, however heavy their tails are."""
_LOWEST_LEVEL = 1e-18
"""The lowest water level as a share of the largest variance: rounding of the eigenvalues is far above it."""


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


class Allocator:
    """Chooses latents and step for any number of byte budgets from the same latents.

    A latent whose range is more than 256 steps is scaled down until it fits: it has a coarser step of its own, instead
    of making all others coarse.

    Args:
        latents: For each map of a bottleneck, N×K×P float32: the first K latents of N images.

    """

    def __init__(self, latents: Sequence[torch.Tensor]) -> None:
        self._parts = [SortedLatents(part, clipping_ranges(part)) for part in latents]
        # Searches for budgets that are near each other try the same steps first.
        self._tried: dict[float, Allocation] = {}

    def allocate(self, budget_bytes: float) -> Allocation:
        """Return the allocation for a mean payload of at most `budget_bytes`, header included.

        Raises:
            InputError: the budget is smaller than any payload.

        """
        if budget_bytes < smallest_payload_bytes():
            least = smallest_payload_bytes()
            msg = f"no payload is smaller than {least} bytes (the header is {HEADER_BYTES}): give at least that"
            raise InputError(msg)
        every = torch.cat([part.ranges for part in self._parts])
        if not bool((every > 0).any()):
            return self._try(1.0)
        low, high = finest_step(every), 1024 * widest_step(every)
        best = self._try(low)
        if best.payload_bytes <= budget_bytes:
            return best
        best = self._try(high)
        while high / low > 1.002:
            middle = (low * high) ** 0.5
            attempt = self._try(middle)
            if attempt.payload_bytes > budget_bytes:
                low = middle
            else:
                best, high = attempt, middle
        return best

    def _try(self, step: float) -> Allocation:
        """Keep what is worth its bits at this step; at least one latent, so that there is a payload at all."""
        if step in self._tried:
            return self._tried[step]
        costs = [part.costs(step) for part in self._parts]
        gains = [of_part.saved - _WORTH_OF_A_BIT * step * step * of_part.bits for of_part in costs]
        kept = [torch.nonzero(gain > 0).flatten() for gain in gains]
        if not any(len(places) for places in kept):
            number = max((n for n, gain in enumerate(gains) if len(gain)), key=lambda n: float(gains[n].max()))
            kept[number] = gains[number].argmax()[None]
        sent = [(of_part.bits[places], of_part.peaks[places]) for places, of_part in zip(kept, costs, strict=True)]
        largest = max(int(peaks.max()) for _, peaks in sent if len(peaks))
        scales = [scales_for_step(part.ranges, step)[places] for part, places in zip(self._parts, kept, strict=True)]
        allocation = Allocation(
            kept=tuple(kept),
            scales=tuple(scales),
            step=step,
            levels=levels_for_peak(largest),
            payload_bytes=HEADER_BYTES + CODER_BYTES + sum(float(bits.sum()) for bits, _ in sent) / 8,
        )
        self._tried[step] = allocation
        return allocation


def allocate_bytes(latents: Sequence[torch.Tensor], budget_bytes: float) -> Allocation:
    """Choose latents and step for one byte budget: see `Allocator`.

    Args:
        latents: For each map of a bottleneck, N×K×P float32: the first K latents of N images.
        budget_bytes: The mean payload, header included.

    Raises:
        InputError: the budget is smaller than any payload.

    """
    return Allocator(latents).allocate(budget_bytes)


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
        max(1, int((solution.eigenvalues > level / _FAINTEST).sum())) if solution.eigenvalues[0] > 0 else 0
        for solution in solutions
    ]


def needed_latents(eigenvalues: torch.Tensor, layout: PatchLayout, cut: Cut, budgets: Sequence[Budget]) -> int:
    """Return how many latents of one map could matter to any of the budgets, if it had all of each to itself.

    Args:
        eigenvalues: The largest of the map's, descending.
        layout: How the map takes vectors from what crosses.
        cut: Where it is.
        budgets: What may cross.

    """
    counts = [
        ceil(prod(cut.shape) / budget.element_ratio / layout.vectors)
        if budget.element_ratio
        else int((eigenvalues > (_level_of([(eigenvalues, layout.vectors)], budget) or 0.0) / _FAINTEST).sum())
        for budget in budgets
    ]
    return max(1, *counts)


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
    values, order = values.sort(descending=True)
    varying = int((values > 0).sum())
    if not varying:
        return None
    values, weights = values[:varying], weights[order[:varying]]
    # The level if the first so many variances, the largest, are above it. They are those that it is indeed below.
    levels = (((weights * values.log2()).cumsum(0) - 2 * bits) / weights.cumsum(0)).exp2()
    level = levels[(values > levels).sum() - 1]
    return max(float(level), _LOWEST_LEVEL * float(values[0]))


def fixed_rank(latents: Sequence[torch.Tensor], ranks: Sequence[int]) -> Allocation:
    """Keep the first so many latents of each map, in eight bits each: the step that loses least.

    Args:
        latents: As for `allocate_bytes`.
        ranks: For each map.

    """
    parts = [part[:, :rank] for part, rank in zip(latents, ranks, strict=True)]
    ranges = [clipping_ranges(part) for part in parts]
    step = widest_step(torch.cat(ranges))
    costs = [SortedLatents(part, of_part).costs(step) for part, of_part in zip(parts, ranges, strict=True)]
    return Allocation(
        kept=tuple(torch.arange(rank) for rank in ranks),
        scales=tuple(torch.ones(rank) for rank in ranks),
        step=step,
        levels=MAX_LEVELS,
        payload_bytes=HEADER_BYTES + CODER_BYTES + sum(float(of_part.bits.sum()) for of_part in costs) / 8,
    )


def rounding_gain(latents: torch.Tensor, step: float) -> torch.Tensor:
    """Return for each latent the factor by which its rounded value comes closest to it, in the mean square.

    Latents crowd around zero, so within a step those below its middle are more than those above.
    """
    rounded = torch.round(latents / step).clamp(-_HALF, _HALF - 1) * step
    power = rounded.square().sum((0, 2))
    return torch.where(power > 0, (latents * rounded).sum((0, 2)) / power.clamp_min(1e-30), torch.ones(()))


def widest_step(ranges: torch.Tensor) -> float:
    """Return the step at which the widest of these ranges (K) just fits 256 levels; 1 where nothing varies."""
    largest = float(ranges.max()) if len(ranges) else 0.0
    return largest / WIDEST_STEPS if largest else 1.0


def finest_step(ranges: torch.Tensor) -> float:
    """Return the step at which the narrowest of these ranges (K) fills 256 levels: below it, nothing changes."""
    varying = ranges[ranges > 0]
    return widest_step(varying.min()[None]) if len(varying) else 1.0
