"""Every place where a graph can be cut, what crosses there, and what lies on either side.

The nodes that carry data (tensors computed from the image) are numbered in the order of computation. A cut follows
one of them; what crosses is every data tensor computed up to there and used later. Left out of the crossing tensors:
tensors that do not depend on the image (parameters and what is made of them: each side has its own), and integers
(the tail gets them from the image size and the batch of what crosses).
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from torch import fx, nn

from isplit.design.graph.capture import Capture, capture
from isplit.design.graph.channels import channel_axis
from isplit.design.graph.macs import Size, count_macs
from isplit.design.graph.ops import Kind, kind_of, op_name
from isplit.design.graph.values import ScalarValue, TensorValue, TupleValue, Value, is_data, memory_bases
from isplit.errors import ModelError
from isplit.records import Crossing, Cut, CutKind, GraphRecord, Unavailable


@dataclass(frozen=True)
class CutPoint:
    """A cut in the graph: the node it follows, its number, and the nodes whose tensors cross."""

    name: str
    node: fx.Node
    depth: int
    crossing: tuple[fx.Node, ...]


class ModelGraph:
    """A captured model with everything that cutting needs to know about its nodes.

    Args:
        model: A classifier of one image batch N×C×H×W.
        input_shape: The image's shape (C, H, W); figures and the tails' integers hold for it.
        channel_axes: Overrides for cuts whose channel axis is guessed wrongly: cut name to 1 or -1.

    Raises:
        ModelError: the model cannot be captured, or fails on an image of that shape.

    """

    def __init__(
        self, model: nn.Module, input_shape: tuple[int, ...], *, channel_axes: Mapping[str, int] | None = None
    ) -> None:
        self.input_shape = input_shape
        self.capture: Capture
        self.values: dict[fx.Node, Value]
        self.capture, self.values = capture(model, input_shape)
        self.module: fx.GraphModule = self.capture.module
        self.nodes: list[fx.Node] = list(self.module.graph.nodes)
        self.ops: dict[fx.Node, str] = {node: op_name(self.module, node) for node in self.nodes}
        self.logits: fx.Node = self.nodes[-1].all_input_nodes[0]
        self._channel_axes = dict(channel_axes or {})
        for name, axis in self._channel_axes.items():
            if axis not in (1, -1) or name not in {point.name for point in self.points}:
                msg = f"channel axis {axis} of {name!r}: name a cut, and give 1 (channels first) or -1 (last)"
                raise ModelError(msg)

    @cached_property
    def data_nodes(self) -> list[fx.Node]:
        """The nodes that carry data, in the order of computation, the input first."""
        return [node for node in self.nodes if node.op != "output" and is_data(self.values[node])]

    @cached_property
    def depth(self) -> dict[fx.Node, int]:
        """The number of each data node: 0 is the input."""
        return {node: number for number, node in enumerate(self.data_nodes)}

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """Return the data nodes that a data node is computed from."""
        return [source for source in node.all_input_nodes if source in self.depth]

    @cached_property
    def last_use(self) -> dict[fx.Node, int]:
        """The number of the last data node that uses each data node; the logits outlive all."""
        last = dict(self.depth)
        for node, number in self.depth.items():
            for source in self.sources(node):
                last[source] = number
        last[self.logits] = len(self.data_nodes)
        return last

    @cached_property
    def reach(self) -> dict[fx.Node, tuple[int, int]]:
        """The first and last data node that needs each node, itself included; unused nodes are absent."""
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
        """Every cut, in order; those after a tuple of tensors are left to its items."""
        names = self._names()
        found: list[CutPoint] = []
        alive: list[fx.Node] = []
        for node, number in self.depth.items():
            alive = [other for other in (*alive, node) if self.last_use[other] > number]
            if number == 0 or node is self.logits or any(isinstance(self.values[n], TupleValue) for n in alive):
                continue
            found.append(CutPoint(names[node], node, number, tuple(alive)))
        return found

    def point(self, name: str) -> CutPoint:
        """Return the cut of that name.

        Raises:
            KeyError: the graph has no such cut.

        """
        for point in self.points:
            if point.name == name:
                return point
        raise KeyError(name)

    def _names(self) -> dict[fx.Node, str]:
        """Name nodes by the module that returns them, else by module, operation and its count there."""
        counts: Counter[tuple[str, str]] = Counter()
        names: dict[fx.Node, str] = {}
        for node in self.data_nodes:
            module = self.capture.enclosing.get(node, "")
            # A module that is called again and again is known by its own last name ("relu"), not by its class.
            op = str(node.target).rsplit(".", 1)[-1] if node.op == "call_module" else self.ops[node]
            counts[module, op] += 1
            names[node] = self.capture.returned_by.get(node) or f"{module}:{op}_{counts[module, op]}"
        return names

    @cached_property
    def read_from(self) -> dict[fx.Node, frozenset[fx.Node]]:
        """The data nodes that each number is read from, directly or through other numbers."""
        found: dict[fx.Node, frozenset[fx.Node]] = {}
        for node in self.nodes:
            if isinstance(self.values[node], ScalarValue):
                parts = (
                    found.get(n, frozenset((n,)) if n in self.depth else frozenset()) for n in node.all_input_nodes
                )
                found[node] = frozenset().union(*parts)
        return found

    def is_known_after(self, node: fx.Node, point: CutPoint) -> bool:
        """Whether a number can be computed from what crosses a cut and comes after it."""
        return all(self.depth[n] > point.depth or n in point.crossing for n in self.read_from[node])

    def obstacle(self, point: CutPoint) -> str | None:
        """Say why a cut cannot be made; None if it can."""
        for node in point.crossing:
            value = self.values[node]
            assert isinstance(value, TensorValue)
            if not value.batch_first:
                return f"{node.name} has no batch as its first dimension (2 images give shape {value.shapes[0]})"
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

    @cached_property
    def default_points(self) -> dict[CutPoint, CutPoint | None]:
        """The default cuts; each with the cut just before its activation, where there is one."""
        macs = self._macs
        total = sum(macs.values())
        points = {
            point.node: point for point in self.points if len(point.crossing) == 1 and self.obstacle(point) is None
        }
        chosen: dict[CutPoint, CutPoint | None] = {}
        for run in self._runs([point.node for point in self.points if len(point.crossing) == 1]):
            head = sum(count for node, count in macs.items() if self.reach[node][0] <= self.depth[run.node])
            # Before the first and after the last multiplication nothing is split.
            if run.node in points and 0 < head < total:
                chosen[points[run.node]] = points.get(run.before_activation) if run.before_activation else None
        return chosen

    def _runs(self, chain: Sequence[fx.Node]) -> "Iterable[_Run]":
        """Group the nodes where one tensor crosses into runs: an operation with what merely finishes it."""
        run: _Run | None = None
        previous: fx.Node | None = None
        for node in chain:
            extends = run is not None and self.sources(node) == [previous]
            kind = self._kind(node)
            if kind == "view" and run is not None:
                if self._hands_out(node, run.node):
                    run.node = node
            elif not (extends and run is not None and run.extend(node, kind)):
                if run is not None:
                    yield run
                # Only what a single operation computed can still be normalised as part of it.
                run = _Run(node, finished=0 if kind == "compute" and len(self.sources(node)) == 1 else 1)
            previous = node
        if run is not None:
            yield run

    def _hands_out(self, view: fx.Node, node: fx.Node) -> bool:
        """Whether the module in whose forward `node` is computed returns this view of it (ConvNeXt's LayerNorm2d)."""
        returned = self.capture.returned_by
        return node not in returned and returned.get(view) == self.capture.enclosing.get(node)

    def _kind(self, node: fx.Node) -> Kind:
        value, sources = self.values[node], [self.values[source] for source in self.sources(node)]
        if not (isinstance(value, TensorValue) and len(sources) == 1 and isinstance(sources[0], TensorValue)):
            # Joining several tensors is a step of its own, whatever the operation; so is an item of a tuple.
            return "compute"
        kind = kind_of(self.ops[node])
        same_shape = value.shapes == sources[0].shapes
        # Pooling 7×7 to 7×7 (VGG's avgpool at 224 pixels) changes nothing; slicing everything neither.
        if kind == "pool" and same_shape:
            return "view"
        # A function of the model's own without a multiplication rearranges values or maps them one by one.
        if kind == "compute" and node.op == "call_function" and self._counts.get(node) == 0:
            if same_shape:
                return "activation"
            return "view" if prod(value.shapes[0]) == prod(sources[0].shapes[0]) else kind
        return kind

    @cached_property
    def _counts(self) -> dict[fx.Node, int | None]:
        """MACs of every node for one image; None where nothing is known."""
        counts: dict[fx.Node, int | None] = {}
        for node in self.reach:
            count = count_macs(self.module, node, self.ops[node], self._shape_or_value)
            # What does not depend on the image is computed once for a batch; the graph was observed with two.
            counts[node] = count // 2 if count is not None and node in self.depth else count
        return counts

    @cached_property
    def _macs(self) -> dict[fx.Node, int]:
        return {node: count or 0 for node, count in self._counts.items()}

    def _shape_or_value(self, node: fx.Node) -> object:
        value = self.values[node]
        if isinstance(value, TensorValue):
            return Size(value.shapes[0])
        return value.values[0] if isinstance(value, ScalarValue) else None

    @cached_property
    def _live_bytes(self) -> list[int]:
        """Bytes of live activations for one image while each data node is computed."""
        base = memory_bases(self.values)
        until: dict[fx.Node, int] = {}
        for node in self.data_nodes:
            until[base[node]] = max(until.get(base[node], 0), self.last_use[node])
        live = [0] * len(self.data_nodes)
        for node in until:
            value = self.values[node]
            assert isinstance(value, TensorValue | TupleValue)
            for number in range(self.depth[node], min(until[node], len(live) - 1) + 1):
                live[number] += value.bytes // 2
        return live

    @cached_property
    def _parameter_spans(self) -> list[tuple[int, int, int]]:
        """For every parameter: how many numbers it holds, and the first and last data node that needs it."""
        spans: dict[int, tuple[int, int, int]] = {}
        for node, (first, last) in self.reach.items():
            if node.op == "call_module":
                parameters = list(self.module.get_submodule(str(node.target)).parameters())
            elif node.op == "get_attr":
                held = _attribute(self.module, str(node.target))
                parameters = [held] if isinstance(held, nn.Parameter) else []
            else:
                continue
            for parameter in parameters:
                _, earliest, latest = spans.get(id(parameter), (0, first, last))
                spans[id(parameter)] = parameter.numel(), min(earliest, first), max(latest, last)
        return list(spans.values())

    def cut(self, point: CutPoint, kind: CutKind) -> Cut:
        """Describe one cut."""
        macs = self._macs
        crossing = tuple(self._crossing(node) for node in point.crossing)
        depth = point.depth
        single = point.crossing[0] if len(crossing) == 1 else None
        axis = self._channel_axes.get(point.name) or (channel_axis(self, single) if single else None)
        return Cut(
            name=point.name,
            depth=depth,
            kind=kind,
            op=self.ops[point.node],
            crossing=crossing,
            bytes=sum(tensor.bytes for tensor in crossing),
            channel_axis=axis,
            head_macs=sum(count for node, count in macs.items() if self.reach[node][0] <= depth),
            tail_macs=sum(count for node, count in macs.items() if self.reach[node][1] > depth),
            head_parameters=sum(size for size, first, _ in self._parameter_spans if first <= depth),
            tail_parameters=sum(size for size, _, last in self._parameter_spans if last > depth),
            head_peak_bytes=max(self._live_bytes[: depth + 1]),
            tail_peak_bytes=max(self._live_bytes[depth + 1 :]),
        )

    def _crossing(self, node: fx.Node) -> Crossing:
        value = self.values[node]
        assert isinstance(value, TensorValue)
        dtype = str(value.dtype).removeprefix("torch.")
        return Crossing(name=node.name, shape=value.shapes[0][1:], dtype=dtype, bytes=value.bytes // 2)

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 over the operations and their arguments, the settings of modules included."""
        digest = hashlib.sha256()
        for node in self.nodes:
            module = repr(self.module.get_submodule(str(node.target))) if node.op == "call_module" else ""
            digest.update(f"{node.name}|{node.op}|{self.ops[node]}|{node.args}|{node.kwargs}|{module}\n".encode())
        return digest.hexdigest()

    def record(self, *, pre_activation: bool = False, all_cuts: bool = False) -> GraphRecord:
        """Return the graph's record with its default cuts.

        Args:
            pre_activation: Add the points just before an activation.
            all_cuts: Add every other cut too, those with several crossing tensors included.

        """
        kinds: dict[CutPoint, CutKind] = dict.fromkeys(self.default_points, "default")
        if pre_activation or all_cuts:
            for before in self.default_points.values():
                if before is not None:
                    kinds.setdefault(before, "pre-activation")
        unavailable: list[Unavailable] = []
        for point in self.points:
            reason = self.obstacle(point) if all_cuts or len(point.crossing) == 1 else None
            if reason is not None:
                unavailable.append(Unavailable(name=point.name, reason=reason))
            elif all_cuts:
                kinds.setdefault(point, "other")
        macs = self._macs
        unknown = tuple(f"{node.target} ({self.ops[node]})" for node, count in self._counts.items() if count is None)
        image, logits = self._crossing(self.data_nodes[0]), self._crossing(self.logits)
        return GraphRecord(
            captured_by=self.capture.captured_by,
            input_shape=image.shape,
            input_bytes=image.bytes,
            output_shape=logits.shape,
            macs=sum(macs.values()),
            parameters=sum(size for size, _, _ in self._parameter_spans),
            uncounted=unknown,
            cuts=tuple(self.cut(point, kinds[point]) for point in sorted(kinds, key=lambda point: point.depth)),
            unavailable=tuple(unavailable),
        )


def follows_batch(value: ScalarValue) -> bool:
    """Whether a number, or every number in a tuple, is constant or a multiple of the batch."""
    first, second = value.values
    if isinstance(first, tuple | list) and isinstance(second, tuple | list):
        return len(first) == len(second) and all(
            follows_batch(ScalarValue(pair, False)) for pair in zip(first, second, strict=True)
        )
    if isinstance(first, int) and isinstance(second, int) and not isinstance(first, bool):
        return first == second or 3 * first == 2 * second
    return bool(first == second)


def _attribute(module: nn.Module, path: str) -> object:
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)


@dataclass
class _Run:
    """One operation with what finishes it: conv (+norm) (+add) (+activation). `node` is where it would be cut.

    `finished` says how far it has come: 0 computed, 1 normalised (or it never will be), 2 added to, 3 activated.
    """

    node: fx.Node
    finished: int
    before_activation: fx.Node | None = None

    def extend(self, node: fx.Node, kind: Kind) -> bool:
        """Take a following operation into the run if it belongs there; False if it starts one of its own."""
        if kind in ("compute", "pool"):
            return False
        rank = {"norm": 1, "arithmetic": 2, "activation": 3}[kind]
        if rank > self.finished or (rank == 2 and self.finished == 2):
            self.before_activation = self.node if kind == "activation" else None
            self.node, self.finished = node, rank
        # Else it is absorbed without moving the cut: a norm after the activation, say.
        return True
