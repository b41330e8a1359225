"""Divide a model that is larger than a device's memory into segments that the device runs one after the other.

Each segment is loaded, run on the output of the segment before it, and freed. The idea is that of LO-SC (VLSID 2025),
which assigns layers to segments with CP-SAT. Here, an exact dynamic programme over the cuts finds the division. Weights
and activations are counted apart, the output of the last segment does not count as crossing, and the time to load each
segment is part of the latency. Where a step between two neighbouring cuts does not fit, and it has a layer that can be
computed in blocks of output channels, the step is a segment of its own with the fewest blocks that fit.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isplit.errors import InputError
from isplit.plan.compute import BYTES_PER_NUMBER, MachineTimes, ModelShape
from isplit.plan.costs import RUNTIME_BYTES
from isplit.plan.units import size_text
from isplit.records import DivisibleLayer

Values = NDArray[np.float64]
SegmentObjective = Literal["bytes", "segments", "time"]

MAX_BLOCKS = 64
"""A layer is divided into at most this many blocks: each is a file that is loaded for every image."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Hold a run of layers from boundary `start` to `end`, with the memory that its process needs and its time.

    `layer` is computed in `blocks` of output channels; None and 1 where the segment is computed at once.
    """

    start: int
    end: int
    memory_bytes: float
    load_ms: float
    compute_ms: float
    layer: DivisibleLayer | None = None
    blocks: int = 1


@dataclass(frozen=True, kw_only=True)
class SegmentPlan:
    """Hold the segments in order. `crossing_bytes` is the sum of the tensors between them, as float32.

    The input and the output of a layer that is computed in blocks count as crossing, each of them once.
    """

    segments: tuple[Segment, ...]
    crossing_bytes: float

    @property
    def latency_ms(self) -> float:
        """The time of one image, loading included."""
        return sum(segment.load_ms + segment.compute_ms for segment in self.segments)

    @property
    def memory_bytes(self) -> float:
        """The largest memory that any segment needs."""
        return max(segment.memory_bytes for segment in self.segments)

    @property
    def blocks(self) -> dict[str, int]:
        """The number of blocks of each layer that is divided, by the layer's name."""
        return {segment.layer.name: segment.blocks for segment in self.segments if segment.layer is not None}


def segment_memory(shape: ModelShape, *, runtime_bytes: float = RUNTIME_BYTES) -> Values:
    """Return the memory of every segment by its boundaries: the process, weights, and live activations.

    Weights are mapped into memory and become resident when they are first used. So the most memory is that of one of
    the steps between neighbouring cuts: the segment's weights up to the step's end, and the step's activations.
    The memory is infinite where the end is not after the start.
    """
    boundaries = np.arange(shape.end + 1)
    step_bytes = np.append(np.nan, np.diagonal(_activation_bytes(shape), offset=1))  # by the boundary where a step ends
    later = boundaries[None, :] > boundaries[:, None]
    resident = np.where(later, _weight_bytes(shape) + step_bytes, -np.inf)
    return np.where(later, runtime_bytes + np.maximum.accumulate(resident, axis=1), np.inf)


def _weight_bytes(shape: ModelShape) -> Values:
    """Return the bytes of the weights between two boundaries, n×n."""
    return BYTES_PER_NUMBER * np.maximum(shape.parameters[None, :] - shape.parameters[:, None], 0.0)


def _activation_bytes(shape: ModelShape) -> Values:
    """Return an upper bound of the activations that live at once between two boundaries, n×n.

    The graph records the peak of activations before and after each cut: the bound is the smaller of the peak before the
    end and of that after the start.
    """
    peak = np.minimum(shape.head_peak_bytes[None, :], shape.tail_peak_bytes[:, None])
    ends = np.maximum(shape.tensor_bytes[None, :], shape.tensor_bytes[:, None])
    return np.maximum(peak, ends)


def block_memory(shape: ModelShape, start: int, *, blocks: int, runtime_bytes: float = RUNTIME_BYTES) -> float:
    """Return the memory of the step from boundary `start` to the next with its largest layer in blocks.

    The layer's weights are in memory one block at a time. The outputs of the blocks are held until the last one, and
    are then copied to one tensor. What the step computes before and after the layer are files of their own.

    Args:
        shape: The model; its step has a divisible layer.
        start: The boundary where the step begins.
        blocks: The number of blocks.
        runtime_bytes: The memory of the process before it loads anything.

    """
    layer = shape.divisible[start]
    rows = -(-layer.channels // blocks)
    block_bytes = BYTES_PER_NUMBER * layer.parameters * rows / layer.channels
    others = max(float(_weight_bytes(shape)[start, start + 1]) - BYTES_PER_NUMBER * layer.parameters, 0.0)
    activations = max(
        float(_activation_bytes(shape)[start, start + 1]), float(layer.input_bytes + 2 * layer.output_bytes)
    )
    return runtime_bytes + max(block_bytes, others) + activations


def least_memory_bytes(shape: ModelShape, *, runtime_bytes: float = RUNTIME_BYTES) -> float:
    """Return the least memory in which a divided model can run: that of its largest step between two cuts."""
    memory = segment_memory(shape, runtime_bytes=runtime_bytes)
    steps = [_least_of_step(shape, memory, start, runtime_bytes=runtime_bytes) for start in range(shape.end)]
    return max(steps)


def _least_of_step(shape: ModelShape, memory: Values, start: int, *, runtime_bytes: float) -> float:
    whole = float(memory[start, start + 1])
    if start not in shape.divisible:
        return whole
    blocks = min(MAX_BLOCKS, shape.divisible[start].channels)
    return min(whole, block_memory(shape, start, blocks=blocks, runtime_bytes=runtime_bytes))


def _fewest_blocks(
    shape: ModelShape, memory: Values, *, max_memory_bytes: float, runtime_bytes: float
) -> dict[int, int]:
    """Return the fewest blocks that fit for every step that does not fit whole, by the boundary where it begins."""
    fewest: dict[int, int] = {}
    for start, layer in shape.divisible.items():
        if memory[start, start + 1] <= max_memory_bytes:
            continue
        for blocks in range(2, min(MAX_BLOCKS, layer.channels) + 1):
            if block_memory(shape, start, blocks=blocks, runtime_bytes=runtime_bytes) <= max_memory_bytes:
                fewest[start] = blocks
                break
    return fewest


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
        max_memory_bytes: The largest resident memory of a segment's process.
        objective: The bytes that cross between segments, the number of segments, or the time of an image. Time decides
            between equal divisions.
        runtime_bytes: The memory of the process before it loads anything.

    Raises:
        InputError: one step between two cuts needs more memory, even in blocks; the message names it and how much it
            needs.

    """
    shape = times.shape
    memory = segment_memory(shape, runtime_bytes=runtime_bytes)
    divided = _fewest_blocks(shape, memory, max_memory_bytes=max_memory_bytes, runtime_bytes=runtime_bytes)
    fits = memory <= max_memory_bytes
    rates = times.profile.rates
    count = shape.end + 1
    load_ms = 1e3 * _weight_bytes(shape) / (rates.load_bytes_per_s if rates else 1e8)
    starts, ends = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    compute_ms = times.part_ms(starts, ends)
    ending = np.where(np.arange(count) < count - 1, shape.tensor_bytes, 0.0)
    crossing = np.broadcast_to(ending, (count, count)).copy()
    for start, blocks in divided.items():
        layer, step = shape.divisible[start], (start, start + 1)
        memory[step] = block_memory(shape, start, blocks=blocks, runtime_bytes=runtime_bytes)
        fits[step] = True
        compute_ms[step] += (blocks - 1) * times.call_ms
        # What crosses at the step's own ends counts there already.
        crossing[step] += 0 if layer.before == shape.names[start] else layer.input_bytes
        crossing[step] += 0 if layer.after is not None and layer.after == shape.names[start + 1] else layer.output_bytes
    step_cost = {"bytes": crossing, "segments": np.ones((count, count)), "time": np.zeros((count, count))}[objective]

    bounds = _cheapest_bounds(fits, step_cost, load_ms + compute_ms)
    if not bounds:
        raise InputError(_too_large(shape, memory, max_memory_bytes, runtime_bytes=runtime_bytes))
    return SegmentPlan(
        segments=tuple(
            Segment(
                start=start,
                end=end,
                memory_bytes=float(memory[start, end]),
                load_ms=float(load_ms[start, end]),
                compute_ms=float(compute_ms[start, end]),
                layer=shape.divisible[start] if _is_divided(divided, start, end) else None,
                blocks=divided[start] if _is_divided(divided, start, end) else 1,
            )
            for start, end in bounds
        ),
        crossing_bytes=float(sum(crossing[start, end] for start, end in bounds)),
    )


def _is_divided(divided: dict[int, int], start: int, end: int) -> bool:
    return start in divided and end == start + 1


def _cheapest_bounds(fits: NDArray[np.bool_], step_cost: Values, time_ms: Values) -> list[tuple[int, int]]:
    """Return the boundaries of the segments with the least sum of costs, then of times; none if nothing fits.

    Args:
        fits: Whether the segment from a boundary (row) to a later one (column) may be one, n×n.
        step_cost: The cost of each segment, n×n.
        time_ms: The time of each segment, n×n.

    """
    count = len(fits)
    costs = np.full((count, 2), np.inf)
    costs[0] = 0.0
    before = np.full(count, -1)
    for end in range(1, count):
        starts = np.flatnonzero(fits[:end, end] & np.isfinite(costs[:end, 0]))
        if starts.size:
            main = costs[starts, 0] + step_cost[starts, end]
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


def _too_large(shape: ModelShape, memory: Values, max_memory_bytes: float, *, runtime_bytes: float) -> str:
    """Name the step between neighbouring cuts that needs the most memory, and how much it needs."""
    steps = [_least_of_step(shape, memory, start, runtime_bytes=runtime_bytes) for start in range(shape.end)]
    largest = int(np.argmax(steps))
    begin = shape.names[largest] or "the image"
    end = shape.names[largest + 1] or "the logits"
    divided = f", even with {shape.divisible[largest].name} in blocks" if largest in shape.divisible else ""
    return (
        f"the device may use {size_text(max_memory_bytes)}, but the layers between {begin} and {end} alone need "
        f"{size_text(steps[largest])}{divided} (weights in float32, activations, and {size_text(runtime_bytes)} for "
        f"the process itself): no division into segments at these cuts fits; allow at least {size_text(steps[largest])}"
        ", or use a smaller model"
    )
