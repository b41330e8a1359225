"""Compute the figures of a graph and of its cuts: multiply-accumulates, parameters, bytes and peak memory.

All figures are for one image, although the graph was observed with batches of two and three.
"""

from collections import Counter
from functools import cached_property

from torch import fx, nn

from isplit.design.graph.flow import CutPoint, Flow
from isplit.design.graph.macs import Size, count_macs
from isplit.design.graph.values import ScalarValue, TensorValue, TupleValue, memory_bases
from isplit.records import Crossing, Cut, CutKind


class Figures:
    """The figures of a graph.

    Args:
        flow: The graph's data flow.

    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    @cached_property
    def counts(self) -> dict[fx.Node, int | None]:
        """Multiply-accumulates of every node, None where nothing is known."""
        flow = self._flow
        counts: dict[fx.Node, int | None] = {}
        for node in flow.reach:
            count = count_macs(flow.module, node, flow.ops[node], self._shape_or_value)
            # What does not depend on the image is computed once for a batch; the graph was observed with two.
            counts[node] = count // 2 if count is not None and node in flow.depth else count
        return counts

    def _shape_or_value(self, node: fx.Node) -> object:
        value = self._flow.values[node]
        if isinstance(value, TensorValue):
            return Size(value.shapes[0])
        return value.values[0] if isinstance(value, ScalarValue) else None

    @cached_property
    def macs(self) -> dict[fx.Node, int]:
        """Multiply-accumulates of every node, with 0 where nothing is known."""
        return {node: count or 0 for node, count in self.counts.items()}

    @property
    def parameters(self) -> int:
        """The number of parameters that the graph uses."""
        return sum(size for size, _, _ in self._parameter_spans)

    @property
    def uncounted(self) -> tuple[str, ...]:
        """The modules and operations whose multiply-accumulates are not known, each with how often it occurs."""
        flow = self._flow
        occurrences: Counter[str] = Counter()
        for node, count in self.counts.items():
            if count is None:
                place = f"{node.target} ({flow.ops[node]})" if node.op == "call_module" else flow.ops[node]
                occurrences[place] += 1
        return tuple(name if times == 1 else f"{name} × {times}" for name, times in occurrences.items())

    @cached_property
    def _live_bytes(self) -> list[int]:
        """Bytes of live activations while each data node is computed."""
        flow = self._flow
        base = memory_bases(flow.values)
        until: dict[fx.Node, int] = {}
        for node in flow.data_nodes:
            until[base[node]] = max(until.get(base[node], 0), flow.last_use[node])
        live = [0] * len(flow.data_nodes)
        for node in until:
            value = flow.values[node]
            assert isinstance(value, TensorValue | TupleValue)
            for number in range(flow.depth[node], min(until[node], len(live) - 1) + 1):
                live[number] += value.bytes // 2
        return live

    @cached_property
    def _parameter_spans(self) -> list[tuple[int, int, int]]:
        """The size of every parameter, and the numbers of the first and the last data node that need it."""
        module = self._flow.module
        spans: dict[int, tuple[int, int, int]] = {}
        for node, (first, last) in self._flow.reach.items():
            if node.op == "call_module":
                parameters = list(module.get_submodule(str(node.target)).parameters())
            elif node.op == "get_attr":
                attribute = _attribute(module, str(node.target))
                parameters = [attribute] if isinstance(attribute, nn.Parameter) else []
            else:
                continue
            for parameter in parameters:
                _, earliest, latest = spans.get(id(parameter), (0, first, last))
                spans[id(parameter)] = parameter.numel(), min(earliest, first), max(latest, last)
        return list(spans.values())

    def cut(self, point: CutPoint, kind: CutKind, *, channel_axis: int | None) -> Cut:
        """Describe one cut."""
        reach, depth = self._flow.reach, point.depth
        crossing = tuple(self.crossing(node) for node in point.crossing)
        return Cut(
            name=point.name,
            depth=depth,
            kind=kind,
            op=self._flow.ops[point.node],
            crossing=crossing,
            bytes=sum(tensor.bytes for tensor in crossing),
            channel_axis=channel_axis,
            head_macs=sum(count for node, count in self.macs.items() if reach[node][0] <= depth),
            tail_macs=sum(count for node, count in self.macs.items() if reach[node][1] > depth),
            head_parameters=sum(size for size, first, _ in self._parameter_spans if first <= depth),
            tail_parameters=sum(size for size, _, last in self._parameter_spans if last > depth),
            head_peak_bytes=max(self._live_bytes[: depth + 1]),
            tail_peak_bytes=max(self._live_bytes[depth + 1 :]),
        )

    def crossing(self, node: fx.Node) -> Crossing:
        """Describe the tensor of a data node."""
        value = self._flow.values[node]
        assert isinstance(value, TensorValue)
        dtype = str(value.dtype).removeprefix("torch.")
        return Crossing(name=node.name, shape=value.image_shape, dtype=dtype, bytes=value.bytes // 2)


def _attribute(module: nn.Module, path: str) -> object:
    owner, _, name = path.rpartition(".")
    return getattr(module.get_submodule(owner), name)
