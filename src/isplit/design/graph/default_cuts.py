"""Choose the default cuts: one per run of operations that belong together.

A run is an operation with what merely finishes it: a convolution with its norm, addition and activation, for example.
It is cut once, behind its last operation. Pools and additions of several tensors are runs of their own; views,
permutes and dropout belong to the run that made their input.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from torch import fx

from isplit.design.graph.flow import CutPoint, Flow
from isplit.design.graph.ops import Kind, kind_of
from isplit.design.graph.values import TensorValue


def default_cuts(flow: Flow, counts: Mapping[fx.Node, int | None]) -> dict[CutPoint, CutPoint | None]:
    """Return the default cuts, each with the cut just before its activation where there is one.

    A default cut has one crossing tensor and can be made, and it has multiplications on both sides: before the first
    and after the last one nothing is split.

    Args:
        flow: The graph's data flow.
        counts: Multiply-accumulates of each node, None where they are not known.

    """
    total = sum(count or 0 for count in counts.values())
    single = [point for point in flow.points if len(point.crossing) == 1]
    points = {point.node: point for point in single if flow.obstacle(point) is None}
    chosen: dict[CutPoint, CutPoint | None] = {}
    for run in _Runs(flow, counts).along([point.node for point in single]):
        head = sum(count or 0 for node, count in counts.items() if flow.reach[node][0] <= flow.depth[run.node])
        if run.node in points and 0 < head < total:
            chosen[points[run.node]] = points.get(run.before_activation) if run.before_activation else None
    return chosen


@dataclass
class _Run:
    """One operation with what finishes it: convolution (+ norm) (+ addition) (+ activation).

    `node` is the place where the run would be cut. `finished` says how far the run has come: 0 computed, 1 normalised
    (or it can no longer be), 2 added to, 3 activated.
    """

    node: fx.Node
    finished: int
    before_activation: fx.Node | None = None

    def extend(self, node: fx.Node, kind: Kind) -> bool:
        """Take a following operation into the run and return True, or return False if it starts a run of its own."""
        if kind in ("compute", "pool"):
            return False
        rank = {"norm": 1, "arithmetic": 2, "activation": 3}[kind]
        if rank > self.finished or (rank == 2 and self.finished == 2):
            self.before_activation = self.node if kind == "activation" else None
            self.node, self.finished = node, rank
        # Otherwise the run absorbs the operation and its cut stays where it is: a norm after the activation, say.
        return True


class _Runs:
    """Groups nodes into runs."""

    def __init__(self, flow: Flow, counts: Mapping[fx.Node, int | None]) -> None:
        self._flow = flow
        self._counts = counts

    def along(self, chain: Sequence[fx.Node]) -> Iterator[_Run]:
        """Yield the runs along the nodes where one tensor crosses."""
        run: _Run | None = None
        previous: fx.Node | None = None
        for node in chain:
            extends = run is not None and self._flow.sources(node) == [previous]
            kind = self._kind(node)
            if kind == "view" and run is not None:
                if self._hands_out(node, run.node):
                    run.node = node
            elif not (extends and run is not None and run.extend(node, kind)):
                if run is not None:
                    yield run
                # Only what a single operation computed can still be normalised as part of it.
                run = _Run(node, finished=0 if kind == "compute" and len(self._flow.sources(node)) == 1 else 1)
            previous = node
        if run is not None:
            yield run

    def _hands_out(self, view: fx.Node, node: fx.Node) -> bool:
        """Return whether the module that computes `node` in its forward returns this view of it (LayerNorm2d)."""
        returned = self._flow.capture.returned_by
        return node not in returned and returned.get(view) == self._flow.capture.enclosing.get(node)

    def _kind(self, node: fx.Node) -> Kind:
        values = self._flow.values
        value, sources = values[node], [values[source] for source in self._flow.sources(node)]
        if not (isinstance(value, TensorValue) and len(sources) == 1 and isinstance(sources[0], TensorValue)):
            # Joining several tensors is a step of its own, whatever the operation, and so is an item of a tuple.
            return "compute"
        kind = kind_of(self._flow.ops[node])
        same_shape = value.shapes == sources[0].shapes
        # Pooling 7×7 to 7×7 (VGG's avgpool at 224 pixels) changes nothing; neither does slicing everything.
        if kind == "pool" and same_shape:
            return "view"
        # A function of the model's own without a multiplication rearranges values or maps them one by one.
        if kind == "compute" and node.op == "call_function" and self._counts.get(node) == 0:
            if same_shape:
                return "activation"
            return "view" if prod(value.shapes[0]) == prod(sources[0].shapes[0]) else kind
        return kind
