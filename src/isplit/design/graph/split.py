"""Split a captured model at a cut into a head and a tail."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from isplit.design.graph.cuts import ModelGraph
from isplit.design.graph.flow import CutPoint, Flow
from isplit.design.graph.values import ScalarValue, TensorValue, ancestors
from isplit.errors import ModelError


@dataclass(frozen=True)
class Split:
    """The two sides of a cut. They share the modules, parameters and mode of the model; nothing is copied.

    `head` maps an image batch to the crossing tensor (a tuple where several cross); `tail` takes what crosses, as
    its positional arguments, and returns the logits.
    """

    head: fx.GraphModule
    tail: fx.GraphModule

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Run the head, then the tail."""
        crossing = self.head(images)
        return self.tail(*crossing) if isinstance(crossing, tuple) else self.tail(crossing)


def split(graph: ModelGraph, cut: str) -> Split:
    """Split at the cut of that name.

    Head then tail computes exactly what the model computes: bit for bit in evaluation mode on a CPU, as long as the
    crossing tensors are handed over as they are. Through contiguous bytes a tensor loses its strides, another kernel
    may run, and the last bits may move.

    Raises:
        ModelError: the graph has no such cut, or it cannot be made.

    """
    point = _point(graph, cut)
    return Split(_head(graph.flow, point), _tail(graph.flow, point))


def segment(graph: ModelGraph, start: str | None, end: str | None) -> fx.GraphModule:
    """Return the part of a model between two cuts: what crosses the first to what crosses the second.

    The segments between neighbouring cuts of a list, run one after the other, compute what the model computes.

    Args:
        graph: The captured model.
        start: The cut at which the part begins; None begins with the images.
        end: The cut at which it ends; None ends with the logits.

    Raises:
        ModelError: the graph has no such cut, a cut cannot be made, or `end` does not come after `start`.

    """
    if start is None:
        return graph.module if end is None else split(graph, end).head
    if end is None:
        return split(graph, start).tail
    first, last = _point(graph, start), _point(graph, end)
    if graph.flow.nodes.index(last.crossing[0]) <= graph.flow.nodes.index(first.crossing[0]):
        msg = f"a segment cannot begin at {start!r} and end at {end!r}: give the cuts in the order of computation"
        raise ModelError(msg)
    return _tail(graph.flow, first, ends=last.crossing)


def _point(graph: ModelGraph, cut: str) -> CutPoint:
    try:
        point = graph.point(cut)
    except KeyError:
        close = ", ".join(point.name for point in graph.default_points)
        msg = f"the model has no cut {cut!r}; its default cuts are: {close}"
        raise ModelError(msg) from None
    reason = graph.flow.obstacle(point)
    if reason is not None:
        msg = f"the model cannot be cut at {cut!r}: {reason}"
        raise ModelError(msg)
    return point


def _head(flow: Flow, point: CutPoint) -> fx.GraphModule:
    needed = ancestors(point.crossing)
    copied = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in flow.nodes:
        if node.op == "placeholder" or node in needed:
            copies[node] = copied.node_copy(node, copies.__getitem__)
    results = tuple(images_first(flow, node, copies[node]) for node in point.crossing)
    copied.output(results[0] if len(results) == 1 else results)
    return _module(flow, copied, "Head")


def images_first(flow: Flow, node: fx.Node, copy: fx.Node) -> fx.Node:
    """Move the batch of a crossing tensor to the first dimension, in the graph that holds the copy of its node.

    A model may compute with the batch as second dimension (`batch_first=False`). What crosses a cut belongs to images,
    one after the other.
    """
    axis = flow.batch_axis(node)
    return copy.graph.call_method("movedim", (copy, axis, 0)) if axis else copy


def _tail(flow: Flow, point: CutPoint, *, ends: tuple[fx.Node, ...] = ()) -> fx.GraphModule:
    """Return what follows a cut, up to `ends`, which are the logits where none are given."""
    ends = ends or (flow.logits,)
    crossing = frozenset(point.crossing)
    # Numbers that only the head can read are written as constants and multiples of the batch.
    scalars = frozenset(node for node in flow.read_from if not flow.is_known_after(node, point))
    needed = ancestors(ends, stop=crossing | scalars)
    copied = fx.Graph()
    inputs = {node: copied.placeholder(node.name) for node in point.crossing}
    copies: dict[fx.Node, Any] = dict(inputs)
    for node in point.crossing:
        value, axis = flow.values[node], flow.batch_axis(node)
        assert isinstance(value, TensorValue)
        if value.dtype.is_floating_point and value.dtype != torch.float32:
            # A decoder gives float32; the model goes on in the dtype that crosses.
            copies[node] = copied.call_method("to", (copies[node], value.dtype))
        if axis:
            copies[node] = copied.call_method("movedim", (copies[node], 0, axis))
    batch: fx.Node | None = None
    for node in flow.nodes:
        if node not in needed or node in crossing:
            continue
        value = flow.values[node]
        if isinstance(value, ScalarValue) and node in scalars:
            if batch is None and not _is_constant(value):
                batch = copied.call_method("size", (inputs[point.crossing[0]], 0))
            copies[node] = _rebuild(copied, value.values, batch)
        else:
            copies[node] = copied.node_copy(node, copies.__getitem__)
    results = tuple(images_first(flow, node, copies[node]) for node in ends)
    copied.output(results[0] if len(results) == 1 else results)
    return _module(flow, copied, "Tail")


def _is_constant(value: ScalarValue) -> bool:
    return bool(value.values[0] == value.values[1])


def _rebuild(graph: fx.Graph, values: tuple[Any, Any], batch: fx.Node | None) -> Any:
    """Write a number, or a tuple of them, as constants and multiples of the batch."""
    first, second = values
    if isinstance(first, tuple | list):
        return tuple(_rebuild(graph, pair, batch) for pair in zip(first, second, strict=True))
    if first == second:
        return first
    times = first // 2
    assert batch is not None
    assert (2 * times, 3 * times) == values
    return batch if times == 1 else graph.call_function(_multiply, (batch, times))


def _multiply(batch: int, times: int) -> int:
    return batch * times


def _module(flow: Flow, side: fx.Graph, class_name: str) -> fx.GraphModule:
    side.lint()
    return fx.GraphModule(flow.module, side, class_name=class_name)
