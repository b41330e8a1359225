"""Histograms from sorted values are those of rounding every value."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isplit.codec.quantise import levels_for_peak
from isplit.design.bottleneck.coding import symbol_bits
from isplit.design.closed_form.sorted_latents import SortedLatents, scales_for_step


def by_rounding(latents: torch.Tensor, ranges: torch.Tensor, step: float) -> tuple[list[float], list[float], list[int]]:
    """Return bits, saved errors and peaks by rounding and counting every value."""
    images, count, positions = latents.shape
    steps = (step * scales_for_step(ranges, step))[:, None]
    integers = torch.round(latents / steps).clamp(-128, 127)
    saved = (latents.double().square() - (latents - integers * steps).double().square()).sum((0, 2)) / images
    peaks = integers.abs().amax((0, 2)).long()
    levels = levels_for_peak(int(peaks.max()))
    bits: list[float] = []
    for place in range(count):
        symbols = (integers[:, place].flatten().long() + levels // 2).clamp(max=levels - 1)
        histogram = torch.bincount(symbols, minlength=levels).double()
        bits.append(float((histogram * symbol_bits(histogram / (images * positions))).sum() / images))
    return bits, saved.tolist(), peaks.tolist()


@given(
    deviations=st.lists(st.floats(0.01, 100), min_size=1, max_size=5),
    positions=st.integers(1, 6),
    step=st.floats(0.01, 50),
    seed=st.integers(0, 9),
)
def test_costs(deviations: list[float], positions: int, step: float, seed: int) -> None:
    """Bits, saved errors and peaks at any step, where values are clipped too."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(50, len(deviations), positions, generator=generator) * torch.tensor(deviations)[:, None]
    ranges = latents.abs().amax((0, 2)) * 0.8

    costs = SortedLatents(latents, ranges).costs(step)
    bits, saved, peaks = by_rounding(latents, ranges, step)

    assert peaks == costs.peaks.tolist()
    assert bits == pytest.approx(costs.bits.tolist(), rel=1e-3, abs=0.02)
    assert saved == pytest.approx(costs.saved.tolist(), rel=1e-3, abs=1e-3 * max(deviations) ** 2)


def test_no_latents_cost_nothing() -> None:
    """A map without latents has no figures."""
    costs = SortedLatents(torch.zeros(5, 0, 3), torch.zeros(0)).costs(1.0)
    assert [[], [], []] == [costs.bits.tolist(), costs.saved.tolist(), costs.peaks.tolist()]
