"""Divide a model that is larger than a device's memory into segments that the device runs one after the other.

Each segment is loaded, run on what crosses from the one before, and freed. After LO-SC (VLSID 2025), which assigns
layers to segments with CP-SAT. Here an exact dynamic programme over the cuts does it; weights and activations are
counted apart, the last segment's output does not count as crossing, and the time to load each segment is part of the
latency.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isplit.errors import InputError
from isplit.plan.compute import BYTES_PER_NUMBER, MachineTimes, ModelShape
from isplit.plan.costs import RUNTIME_BYTES
from isplit.plan.units import size_text

Values = NDArray[np.float64]
SegmentObjective = Literal["bytes", "segments", "time"]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of layers from boundary `start` to `end`, with the memory its process needs and the time it takes."""

    start: int
    end: int
    memory_bytes: float
    load_ms: float
    compute_ms: float


@dataclass(frozen=True, kw_only=True)
class SegmentPlan:
    """Segments in order; `crossing_bytes` is the sum of what crosses between them, as float32."""

    segments: tuple[Segment, ...]
    crossing_bytes: float

    @property
    def latency_ms(self) -> float:
        """The time of one image, loading included."""
        return sum(segment.load_ms + segment.compute_ms for segment in self.segments)

    @property
    def memory_bytes(self) -> float:
        """The most memory that any of the segments needs."""
        return max(segment.memory_bytes for segment in self.segments)


def segment_memory(shape: ModelShape, *, runtime_bytes: float = RUNTIME_BYTES) -> Values:
    """Return the memory of every segment by its boundaries: the process, weights, and live activations.

    The graph records the peak of activations before and after each cut; of a segment, the smaller of the peak before
    its end and after its start is an upper bound. Infinite where the end is not after the start.
    """
    count = shape.end + 1
    weights = BYTES_PER_NUMBER * np.maximum(shape.parameters[None, :] - shape.parameters[:, None], 0.0)
    peak = np.minimum(shape.head_peak_bytes[None, :], shape.tail_peak_bytes[:, None])
    ends = np.maximum(shape.tensor_bytes[None, :], shape.tensor_bytes[:, None])
    later = np.arange(count)[None, :] > np.arange(count)[:, None]
    return np.where(later, runtime_bytes + weights + np.maximum(peak, ends), np.inf)


def least_memory_bytes(shape: ModelShape, *, runtime_bytes: float = RUNTIME_BYTES) -> float:
    """Return the least memory with which any division of a model runs: that of its largest step between two cuts."""
    memory = segment_memory(shape, runtime_bytes=runtime_bytes)
    return float(np.max(memory[np.arange(shape.end), np.arange(1, shape.end + 1)]))


def split_into_segments(
    times: MachineTimes,
    *,
    max_memory_bytes: float,
    objective: SegmentObjective = "bytes",
    runtime_bytes: float = RUNTIME_BYTES,
) -> SegmentPlan:
    """Return the division of a model into segments of limited memory with the least objective.

    Args:
        times: The machine and the model.
        max_memory_bytes: The resident memory that a segment's process may take.
        objective: Bytes that cross between segments, their number, or the time of an image; what is equal is settled
            by time.
        runtime_bytes: What the process takes before it loads anything.

    Raises:
        InputError: one step between two cuts alone needs more memory; the message names it and how much it needs.

    """
    shape = times.shape
    memory = segment_memory(shape, runtime_bytes=runtime_bytes)
    rates = times.profile.rates
    load_rate = rates.load_bytes_per_s if rates else 1e8
    count = shape.end + 1
    weights = BYTES_PER_NUMBER * np.maximum(shape.parameters[None, :] - shape.parameters[:, None], 0.0)
    load_ms = 1e3 * weights / load_rate
    starts, ends = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    compute_ms = times.part_ms(starts, ends)
    crossing = np.where(np.arange(count) < count - 1, shape.tensor_bytes, 0.0)
    step = {"bytes": crossing, "segments": np.ones(count), "time": np.zeros(count)}[objective]

    bounds = _cheapest_bounds(memory <= max_memory_bytes, step, load_ms + compute_ms)
    if not bounds:
        raise InputError(_too_large(shape, memory, max_memory_bytes))
    return SegmentPlan(
        segments=tuple(
            Segment(
                start=start,
                end=end,
                memory_bytes=float(memory[start, end]),
                load_ms=float(load_ms[start, end]),
                compute_ms=float(compute_ms[start, end]),
            )
            for start, end in bounds
        ),
        crossing_bytes=float(sum(crossing[end] for _, end in bounds)),
    )


def _cheapest_bounds(fits: NDArray[np.bool_], step: Values, time_ms: Values) -> list[tuple[int, int]]:
    """Return the boundaries of the segments with the least sum of steps, then of times; none if nothing fits.

    Args:
        fits: Whether the segment from a boundary (row) to a later one (column) may be one, n×n.
        step: The cost of ending a segment at each boundary, n.
        time_ms: The time of each segment, n×n.

    """
    count = len(step)
    costs = np.full((count, 2), np.inf)
    costs[0] = 0.0
    before = np.full(count, -1)
    for end in range(1, count):
        starts = np.flatnonzero(fits[:end, end] & np.isfinite(costs[:end, 0]))
        if starts.size:
            main = costs[starts, 0] + step[end]
            second = costs[starts, 1] + time_ms[starts, end]
            choice = int(np.lexsort((second, main))[0])
            costs[end] = main[choice], second[choice]
            before[end] = starts[choice]
    if not np.isfinite(costs[-1, 0]):
        return []
    bounds: list[tuple[int, int]] = []
    end = count - 1
    while end > 0:
        bounds.append((int(before[end]), end))
        end = int(before[end])
    return bounds[::-1]


def _too_large(shape: ModelShape, memory: Values, max_memory_bytes: float) -> str:
    """Name the step between neighbouring cuts that needs the most memory."""
    steps = memory[np.arange(shape.end), np.arange(1, shape.end + 1)]
    largest = int(np.argmax(steps))
    begin = shape.names[largest] or "the image"
    end = shape.names[largest + 1] or "the logits"
    return (
        f"the device may use {size_text(max_memory_bytes)}, but the layers between {begin} and {end} alone need "
        f"{size_text(float(steps[largest]))} (weights in float32, activations, and the process itself): no division "
        "into segments at these cuts fits; allow more, or use a smaller or quantised model"
    )
