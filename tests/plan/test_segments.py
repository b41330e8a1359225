"""A model in segments under a limit of memory: by hand, and against every division."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from isplit.errors import InputError
from isplit.plan.compute import MachineTimes, ModelShape, machine_times
from isplit.plan.segments import (
    SegmentObjective,
    block_memory,
    least_memory_bytes,
    segment_memory,
    split_into_segments,
)
from isplit.records import DivisibleLayer
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
    value = {"bytes": plan.crossing_bytes, "segments": float(len(plan.segments)), "time": 0.0}[objective]
    assert least == pytest.approx((value, plan.latency_ms))
    assert plan.memory_bytes <= limit


def test_a_layer_that_never_fits_is_named(times: MachineTimes):
    """The step from `last` to the logits holds 30 % of the weights: 12 MB, and that is said."""
    with pytest.raises(InputError, match=r"between (late|last|middle) and .* alone need 12\.5 MB"):
        split_into_segments(times, max_memory_bytes=10e6, runtime_bytes=0)


def with_layers(*depths: int) -> ModelShape:
    """The invented model with layers of 2.9 million weights in steps of 3 million; a step ends at its cut's depth."""
    layers = tuple(
        DivisibleLayer(
            name=f"large{depth}",
            depth=depth,
            before="before",
            after="after",
            channels=1000,
            channel_axis=-1,
            parameters=2_900_000,
            input_bytes=64_000,
            output_bytes=20_000,
        )
        for depth in depths
    )
    return ModelShape.from_graph(make_graph().model_copy(update={"divisible": layers}))


def test_memory_of_a_layer_in_blocks_by_hand():
    """A quarter of 11.6 MB of weights, activations of 500 kB, and the process; then the weights beside the layer."""
    shape = with_layers(4)
    assert 5 + 4 * 2_900_000 / 4 + 500_000 == pytest.approx(block_memory(shape, 3, blocks=4, runtime_bytes=5))
    assert 5 + 4 * 100_000 + 500_000 == pytest.approx(block_memory(shape, 3, blocks=64, runtime_bytes=5))


def test_a_step_that_does_not_fit_gets_the_fewest_blocks_that_fit():
    """The last three steps need 12.5 MB each: under 7 MB, each is a segment whose layer takes two blocks."""
    times = machine_times(rates_profile("board", 10.0), with_layers(3, 4, 5), model_fingerprint=None)
    assert {} == split_into_segments(times, max_memory_bytes=13e6, runtime_bytes=0).blocks
    plan = split_into_segments(times, max_memory_bytes=7e6, runtime_bytes=0)
    assert {"large3": 2, "large4": 2, "large5": 2} == plan.blocks
    assert plan.memory_bytes <= 7e6
    # The cuts `middle`, `late` and `last`, and the input and output of every layer.
    assert 4 * (32_000 + 16_000 + 4_000) + 3 * (64_000 + 20_000) == plan.crossing_bytes


@pytest.mark.parametrize(
    ("before", "after", "counted_bytes"),
    [("middle", "inner", 20_000), ("inner", "late", 64_000), ("middle", "late", 0)],
)
def test_what_crosses_at_the_ends_of_a_step_counts_once(before, after, counted_bytes):
    """A layer that begins or ends where its step does hands over what the neighbouring segments hand over."""
    shape = with_layers(3, 4, 5)
    layer = shape.divisible[2].model_copy(update={"before": before, "after": after})
    shape = replace(shape, divisible={**shape.divisible, 2: layer})
    times = machine_times(rates_profile("board", 10.0), shape, model_fingerprint=None)
    plan = split_into_segments(times, max_memory_bytes=7e6, runtime_bytes=0)
    assert 4 * (32_000 + 16_000 + 4_000) + 2 * (64_000 + 20_000) + counted_bytes == plan.crossing_bytes


def test_the_least_memory_is_named_where_blocks_do_not_help():
    """The message says what the largest step needs, and a plan with that much memory exists."""
    shape = with_layers(4)
    times = machine_times(rates_profile("board", 10.0), shape, model_fingerprint=None)
    least = least_memory_bytes(shape, runtime_bytes=1e6)
    with pytest.raises(InputError, match=r"allow at least 13\.5 MB"):
        split_into_segments(times, max_memory_bytes=least - 1, runtime_bytes=1e6)
    assert split_into_segments(times, max_memory_bytes=least, runtime_bytes=1e6).memory_bytes <= least


def test_weights_count_from_their_first_use():
    """The first step's activations are large while few weights are resident: the sum is not that of both peaks."""
    graph = make_graph()
    first = graph.cuts[0].model_copy(update={"tail_peak_bytes": 500_000, "head_peak_bytes": 9_000_000})
    shape = ModelShape.from_graph(graph.model_copy(update={"cuts": (first, *graph.cuts[1:])}))
    memory = segment_memory(shape, runtime_bytes=0)
    assert 9_000_000 + 4 * 200_000 == pytest.approx(memory[0, 1])
    assert 9_000_000 + 4 * 200_000 == pytest.approx(memory[0, 2])  # 4 MB of weights and 0.5 MB come later
