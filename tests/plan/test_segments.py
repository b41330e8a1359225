"""A model in segments under a limit of memory: by hand, and against every division."""

import itertools

import numpy as np
import pytest

from isplit.errors import InputError
from isplit.plan.compute import MachineTimes, ModelShape, machine_times
from isplit.plan.segments import SegmentObjective, segment_memory, split_into_segments
from tests.plan.conftest import make_graph, rates_profile


@pytest.fixture
def times() -> MachineTimes:
    shape = ModelShape.from_graph(make_graph())
    return machine_times(rates_profile("board", 10.0), shape, model_fingerprint=None)


def test_memory_by_hand(times: MachineTimes):
    """From `middle` to `late`: 30 % of 10 million weights in float32, 500 kB of activations, and the process."""
    memory = segment_memory(times.shape, runtime_bytes=5.0)
    assert 5 + 4 * 3_000_000 + 500_000 == pytest.approx(memory[2, 3])
    assert np.inf == memory[3, 2]


def test_everything_fits_in_one(times: MachineTimes):
    """Without need nothing crosses; the time is that of loading 40 MB at 100 MB/s and computing 1 GMAC at 10 GMAC/s."""
    plan = split_into_segments(times, max_memory_bytes=1e9, runtime_bytes=0)
    assert (1, 0.0) == (len(plan.segments), plan.crossing_bytes)
    assert 400 + 100 == pytest.approx(plan.latency_ms)


@pytest.mark.parametrize("limit_mb", [13, 14, 17, 20, 25, 30, 45])
@pytest.mark.parametrize("objective", ["bytes", "segments", "time"])
def test_no_division_is_better(times: MachineTimes, limit_mb: int, objective: SegmentObjective):
    """All 16 divisions of four cuts are tried; the first objective and then the time are least."""
    limit = limit_mb * 1e6
    shape, memory = times.shape, segment_memory(times.shape, runtime_bytes=0)
    least = (np.inf, np.inf)
    for chosen in itertools.chain.from_iterable(itertools.combinations(range(1, 5), size) for size in range(5)):
        borders = [0, *chosen, 5]
        pairs = list(itertools.pairwise(borders))
        if any(memory[pair] > limit for pair in pairs):
            continue
        crossing = float(sum(shape.tensor_bytes[end] for end in chosen))
        main = {"bytes": crossing, "segments": float(len(pairs)), "time": 0.0}[objective]
        least = min(least, (main, 500.0))
    if least[0] == np.inf:
        with pytest.raises(InputError, match="alone need"):
            split_into_segments(times, max_memory_bytes=limit, objective=objective, runtime_bytes=0)
        return
    plan = split_into_segments(times, max_memory_bytes=limit, objective=objective, runtime_bytes=0)
    found = {"bytes": plan.crossing_bytes, "segments": float(len(plan.segments)), "time": 0.0}[objective]
    assert least == pytest.approx((found, plan.latency_ms))
    assert plan.memory_bytes <= limit


def test_a_layer_that_never_fits_is_named(times: MachineTimes):
    """The step from `last` to the logits holds 30 % of the weights: 12 MB, and that is said."""
    with pytest.raises(InputError, match=r"between (late|last|middle) and .* alone need 12\.5 MB"):
        split_into_segments(times, max_memory_bytes=10e6, runtime_bytes=0)
