"""Follow the image through a captured graph: which nodes carry data, and what crosses wherever it can be cut.

A node carries data if its tensor is computed from the image. Data nodes are numbered in the order of computation, and
a cut follows one of them. Every data tensor that was computed up to there and is used later crosses the cut. Two kinds
of values never cross: tensors that do not depend on the image (parameters and what is computed from them), because
each side computes them itself, and integers, because the tail derives them from the image size and the batch size.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import fx

from isplit.design.graph.capture import Capture
from isplit.design.graph.ops import op_name
from isplit.design.graph.values import ScalarValue, TensorValue, TupleValue, Value, is_data


@dataclass(frozen=True)
class CutPoint:
    """A cut in the graph: its name, the node it follows, that node's number, and the nodes whose tensors cross."""

    name: str
    node: fx.Node
    depth: int
    crossing: tuple[fx.Node, ...]


class Flow:
    """Follows the data through a captured graph.

    Args:
        capture: The captured model.
        values: What each of its nodes computes, from `observe`.

    """

    def __init__(self, capture: Capture, values: dict[fx.Node, Value]) -> None:
        self.capture = capture
        self.module = capture.module
        self.values = values
        self.nodes: list[fx.Node] = list(self.module.graph.nodes)
        self.ops: dict[fx.Node, str] = {node: op_name(self.module, node) for node in self.nodes}
        self.logits: fx.Node = self.nodes[-1].all_input_nodes[0]

    @cached_property
    def data_nodes(self) -> list[fx.Node]:
        """The nodes that carry data in the order of computation; the input is the first."""
        return [node for node in self.nodes if node.op != "output" and is_data(self.values[node])]

    @cached_property
    def depth(self) -> dict[fx.Node, int]:
        """The number of each data node; the input has number 0."""
        return {node: number for number, node in enumerate(self.data_nodes)}

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """Return the data nodes that a data node is computed from."""
        return [source for source in node.all_input_nodes if source in self.depth]

    @cached_property
    def last_use(self) -> dict[fx.Node, int]:
        """The number of the last data node that uses each data node. The logits outlive all."""
        last = dict(self.depth)
        for node, number in self.depth.items():
            for source in self.sources(node):
                last[source] = number
        last[self.logits] = len(self.data_nodes)
        return last

    @cached_property
    def reach(self) -> dict[fx.Node, tuple[int, int]]:
        """The numbers of the first and the last data node that need each node, itself included.

        Nodes that nothing needs are absent.
        """
        reach = {node: (number, number) for node, number in self.depth.items()}
        for node in reversed(self.nodes):
            if node in self.depth or node.op == "output":
                continue
            spans = [reach[user] for user in node.users if user in reach]
            if spans:
                reach[node] = min(first for first, _ in spans), max(last for _, last in spans)
        return reach

    @cached_property
    def points(self) -> list[CutPoint]:
        """Every cut, in order. A tuple of tensors does not cross; only its items do."""
        names = self._names()
        points: list[CutPoint] = []
        alive: list[fx.Node] = []
        for node, number in self.depth.items():
            alive = [other for other in (*alive, node) if self.last_use[other] > number]
            if number == 0 or node is self.logits or any(isinstance(self.values[n], TupleValue) for n in alive):
                continue
            points.append(CutPoint(names[node], node, number, tuple(alive)))
        return points

    def _names(self) -> dict[fx.Node, str]:
        """Name each data node after the module that returns it, or else by module, operation and running count."""
        counts: Counter[tuple[str, str]] = Counter()
        names: dict[fx.Node, str] = {}
        for node in self.data_nodes:
            module = self.capture.enclosing.get(node, "")
            # A module that is called several times is known by its own last name ("relu"), not by its class.
            op = str(node.target).rsplit(".", 1)[-1] if node.op == "call_module" else self.ops[node]
            counts[module, op] += 1
            names[node] = self.capture.returned_by.get(node) or f"{module}:{op}_{counts[module, op]}"
        return names

    @cached_property
    def read_from(self) -> dict[fx.Node, frozenset[fx.Node]]:
        """The data nodes that each number is read from, directly or through other numbers."""
        origins: dict[fx.Node, frozenset[fx.Node]] = {}
        for node in self.nodes:
            if isinstance(self.values[node], ScalarValue):
                parts = (
                    origins.get(n, frozenset((n,)) if n in self.depth else frozenset()) for n in node.all_input_nodes
                )
                origins[node] = frozenset().union(*parts)
        return origins

    def is_known_after(self, node: fx.Node, point: CutPoint) -> bool:
        """Return whether a number can be computed from what crosses a cut and what comes after it."""
        return all(self.depth[n] > point.depth or n in point.crossing for n in self.read_from[node])

    def batch_axis(self, node: fx.Node) -> int:
        """Return the dimension of a crossing tensor that is the batch."""
        value = self.values[node]
        assert isinstance(value, TensorValue)
        assert value.batch_axis is not None
        return value.batch_axis

    def images_first(self, node: fx.Node, tensor: torch.Tensor) -> torch.Tensor:
        """Return a view of a crossing tensor whose first dimension is the batch, whichever it is in the model."""
        axis = self.batch_axis(node)
        return tensor.movedim(axis, 0) if axis else tensor

    def obstacle(self, point: CutPoint) -> str | None:
        """Say why a cut cannot be made, or return None if it can."""
        for node in point.crossing:
            value = self.values[node]
            assert isinstance(value, TensorValue)
            if value.batch_axis is None:
                return f"no dimension of {node.name} is the batch (2 images give shape {value.shapes[0]})"
            if value.dtype.is_complex:
                return f"{node.name} is a complex tensor, which no bottleneck can make smaller"
            if len(point.crossing) == 1 and not value.dtype.is_floating_point:
                kind = str(value.dtype).removeprefix("torch.")
                return f"{node.name} holds {kind} values, which a bottleneck cannot approximate"
        for node, value in self.values.items():
            if not isinstance(value, ScalarValue) or self.reach.get(node, (0, 0))[1] <= point.depth:
                continue
            if self.is_known_after(node, point):
                continue
            if value.pixel_dependent:
                return f"{node.name} is a number computed from pixel values, and the tail needs it"
            if not follows_batch(value):
                return f"{node.name} is no constant and no multiple of the batch, so the tail cannot know it"
        return None


def follows_batch(value: ScalarValue) -> bool:
    """Return whether a number, or every number in a tuple, is constant or a multiple of the batch size."""
    first, second = value.values
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return len(first) == len(second) and all(
            follows_batch(ScalarValue(pair, False)) for pair in zip(first, second, strict=True)
        )
    if isinstance(first, int) and isinstance(second, int) and not isinstance(first, bool):
        return first == second or 3 * first == 2 * second
    return bool(first == second)
