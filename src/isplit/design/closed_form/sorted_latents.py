"""The histograms of latents at any step, from values that are sorted once.

A search for the step of a budget asks for the histogram of every latent at dozens of steps. Rounding and counting all
values takes as long each time as sorting them; from sorted values a histogram takes two look-ups for each of its bins.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from isplit.codec.quantise import MAX_LEVELS, WIDEST_STEPS, levels_for_peak
from isplit.design.bottleneck.coding import symbol_bits

_HALF = MAX_LEVELS // 2


@dataclass(frozen=True, eq=False)
class LatentCosts:
    """What each latent (K) would cost and bring at a step.

    Attributes:
        bits: The bits of an image: the cross-entropy of the histogram's table of 16-bit frequencies, each at least 1.
        saved: The squared error of an image that sending the latent saves.
        peaks: The largest integer that the latent is rounded to, without its sign.

    """

    bits: torch.Tensor
    saved: torch.Tensor
    peaks: torch.Tensor


@dataclass(frozen=True, eq=False)
class SortedLatents:
    """Latents N×K×P float32 of one map, and the ranges (K) that they are scaled to.

    Attributes:
        latents: The latents as they were collected.
        ranges: The largest size of each latent that counts (see `clipping_ranges`).

    """

    latents: torch.Tensor
    ranges: torch.Tensor

    @cached_property
    def _ascending(self) -> torch.Tensor:
        """All values of each latent, K×(N·P)."""
        # numpy sorts with vector instructions, several times as fast as torch.
        values = np.ascontiguousarray(self.latents.transpose(0, 1).flatten(1).numpy())
        return torch.from_numpy(np.sort(values, axis=1))

    @cached_property
    def _sums(self) -> torch.Tensor:
        """The sums of the first so many of them, K×(N·P + 1) float64."""
        sums = self._ascending.double().cumsum(1)
        return torch.cat([sums.new_zeros(len(sums), 1), sums], 1)

    def costs(self, step: float) -> LatentCosts:
        """Return bits, saved errors and peaks of all latents at a step."""
        images, count, positions = self.latents.shape
        if count == 0:
            empty = torch.zeros(0)
            return LatentCosts(empty, empty, torch.zeros(0, dtype=torch.long))
        steps = step * scales_for_step(self.ranges, step)
        ends = torch.round(self._ascending[:, [0, -1]] / steps[:, None]).clamp(-_HALF, _HALF - 1)
        peaks = ends.abs().amax(1).long()
        # The table has as many levels as the largest symbol of all needs; this latent pays for the ones it never uses.
        levels = levels_for_peak(int(peaks.max()))
        integers = torch.arange(levels) - levels // 2
        edges = (integers[1:] - 0.5) * steps[:, None]
        total = self._ascending.shape[1]
        below = torch.searchsorted(self._ascending, edges)
        below = torch.cat([below.new_zeros(count, 1), below, below.new_full((count, 1), total)], 1)
        histogram = below.diff(dim=1).double()
        values = integers * steps[:, None].double()
        saved = (values * (2 * self._sums.gather(1, below).diff(dim=1) - values * histogram)).sum(1) / images
        bits = (histogram * symbol_bits(histogram / (images * positions))).sum(1) / images
        return LatentCosts(bits, saved, peaks)


def scales_for_step(ranges: torch.Tensor, step: float) -> torch.Tensor:
    """Return the factor (K) by which each latent's step is coarser than `step`, so that its range fits 256 levels."""
    return (ranges / (WIDEST_STEPS * step)).clamp_min(1)
