"""Activations and gradients at many cuts from one forward and one backward pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import fx

from isplit.design.devices import device_of
from isplit.design.graph import ModelGraph
from isplit.design.graph.ops import is_in_place
from isplit.design.graph.values import memory_bases
from isplit.design.running import autocast, evaluating
from isplit.errors import ModelError
from isplit.records import Cut, Precision

Reduce = Callable[[torch.Tensor, torch.Tensor, Cut], torch.Tensor | None]
Objective = Callable[[torch.Tensor], torch.Tensor]
Arrive = Callable[[int, list[torch.Tensor], torch.Tensor], None]


class GradientPass:
    """Runs a batch once forwards and once backwards, and reduces (activation, gradient) at every cut on the way.

        images ─ no gradient ─> first cut ─> … ─> cut ─> … ─> logits ─> objective
                                    <─ reduce ──── <─ reduce ────────────── backward

    Autograd starts at the first cut, and parameters take no gradient. Each cut is reduced when its gradient arrives,
    and let go, so that memory stays that of a plain backward pass.

    Args:
        graph: The captured model.
        cuts: Cuts with one crossing tensor.

    """

    def __init__(self, graph: ModelGraph, cuts: Sequence[Cut]) -> None:
        self.graph = graph
        self.cuts = tuple(cuts)
        points = [graph.point(cut.name) for cut in cuts]
        self._order = {point.node: number for number, point in enumerate(points)}
        self._first = min(points, key=lambda point: point.depth).node
        self._protected = self._written_later()
        self._observed: _ObservedGraph | None = None

    def _written_later(self) -> frozenset[fx.Node]:
        """In-place operations that would overwrite a cut's values before its gradient comes: they get a copy."""
        flow = self.graph.flow
        base = memory_bases(flow.values)
        first_cut: dict[fx.Node, int] = {}
        for node in self._order:
            first_cut[base[node]] = min(flow.depth[node], first_cut.get(base[node], flow.depth[node]))
        return frozenset(
            node
            for node in flow.data_nodes
            if flow.depth[node] > first_cut.get(base[node], len(base)) and is_in_place(flow.module, node)
        )

    def __call__(
        self, images: torch.Tensor, objective: Objective, reduce: Reduce, *, precision: Precision = "fp32"
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Run one batch.

        Args:
            images: N×C×H×W, normalised; they are moved to where the model is, and all that follows is there.
            objective: Maps logits N×K to the scalar that is differentiated; a sum over images of what belongs to each.
            reduce: Called per cut with its activation, its gradient and the cut; it may return nothing.
            precision: "bf16" runs under autocast.

        Returns:
            The logits in float32 on the CPU, and per cut what `reduce` returned, unless that was nothing.

        Raises:
            ModelError: the objective does not depend on a cut.

        """
        results: list[torch.Tensor | None] = [None] * len(self.cuts)
        arrived: set[int] = set()
        nodes = list(self._order)

        def arrive(number: int, held: list[torch.Tensor], gradient: torch.Tensor) -> None:
            # The hook itself lives as long as the graph; the activation must not.
            activation = held.pop()
            with torch.no_grad():
                images_first = partial(self.graph.flow.images_first, nodes[number])
                results[number] = reduce(images_first(activation), images_first(gradient), self.cuts[number])
            arrived.add(number)

        device = device_of(self.graph.module)
        with evaluating(self.graph.module, frozen=True), torch.enable_grad():
            with autocast(precision, device=device):
                logits = self._forward(images.to(device), arrive)
            if not logits.requires_grad:
                msg = (
                    "no gradient reaches the model's answer: an operation before it has none (argmax, a comparison, a "
                    "cast to whole numbers); give the model without it"
                )
                raise ModelError(msg)
            objective(logits.float()).backward()
        missing = [cut.name for number, cut in enumerate(self.cuts) if number not in arrived]
        if missing:
            msg = f"no gradient reaches {', '.join(missing)}: the decision does not depend on what is computed there"
            raise ModelError(msg)
        return logits.detach().float().cpu(), [result for result in results if result is not None]

    def _forward(self, images: torch.Tensor, arrive: Arrive) -> torch.Tensor:
        """Run a batch forwards, with a hook on every cut's tensor that calls `arrive` when its gradient is there.

        Parameters and images take no gradient, so that autograd records nothing before the first cut.
        """
        module = self.graph.module
        self._arrive = arrive
        # The code names the device where it makes tensors, and changes when the model is placed elsewhere.
        if self._observed is None or self._observed.original != module.code:
            self._observed = self._observe()
        try:
            return self._observed.forward(module, images)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            _Locating(module, graph=self._observed.graph).run(images)
            msg = f"the model cannot be differentiated: {error}"
            raise ModelError(msg) from error
        finally:
            del self._arrive  # the hooks of this batch have it; a pass keeps nothing of a batch

    def _observe(self) -> "_ObservedGraph":
        """Return the graph with the hooks in it, and its code."""

        def observe(tensor: torch.Tensor, number: int, is_first: bool) -> torch.Tensor:
            if is_first:
                tensor = tensor.detach().requires_grad_()
            tensor.register_hook(partial(self._arrive, number, [tensor.detach()]))
            return tensor

        original = self.graph.module.graph
        graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
        graph.output(graph.graph_copy(original, copies))
        graph.set_codegen(original._codegen)
        for node in self._protected:
            copy = copies[node]
            overwritten = copy.all_input_nodes[0]  # by position or by name: self.relu(input=x)
            with graph.inserting_before(copy):
                copy.replace_input_with(overwritten, graph.call_method("clone", (overwritten,)))
        for node, number in self._order.items():
            users = list(copies[node].users)
            with graph.inserting_after(copies[node]):
                observed = graph.call_function(observe, (copies[node], number, node is self._first))
            for user in users:
                user.replace_input_with(copies[node], observed)
        code = graph.python_code("self")
        namespace = dict(code.globals)
        exec(code.src, namespace)
        return _ObservedGraph(self.graph.module.code, graph, namespace["forward"])


@dataclass(frozen=True, eq=False)
class _ObservedGraph:
    """A graph with a hook on every cut's tensor.

    Its code is run as it is, because a pass through an interpreter takes longer than the kernels of a GPU do.

    Attributes:
        original: The code of the graph that it was made from.
        graph: The graph.
        forward: The graph's code, which takes the module that holds the parameters, and the images.

    """

    original: str
    graph: fx.Graph
    forward: Callable[..., torch.Tensor]


class _Locating(fx.Interpreter):
    """Runs a graph that failed once more, and names the operation that fails."""

    def run_node(self, n: fx.Node) -> Any:
        try:
            return super().run_node(n)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            msg = f"the model cannot be differentiated at {n.format_node()}: {error}"
            raise ModelError(msg) from error
