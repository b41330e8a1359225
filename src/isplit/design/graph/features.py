"""Compute the crossing tensors of many cuts with one forward pass."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import fx

from isplit.design.devices import device_of
from isplit.design.graph.cuts import ModelGraph
from isplit.design.running import autocast, evaluating, in_float32
from isplit.records import Cut, Precision

Visit = Callable[[Cut, torch.Tensor], None]


class FeaturePass:
    """Runs a batch forwards once and shows every cut's tensor as it is computed; it stores none of them.

    Args:
        graph: The captured model.
        cuts: Cuts with one crossing tensor.

    """

    def __init__(self, graph: ModelGraph, cuts: Sequence[Cut]) -> None:
        self.graph = graph
        self._cuts: dict[fx.Node, Cut] = {graph.point(cut.name).node: cut for cut in cuts}

    def __call__(self, images: torch.Tensor, visit: Visit, *, precision: Precision = "fp32") -> torch.Tensor:
        """Run images N×C×H×W without gradients, call `visit` at every cut, and return the logits N×K in float32.

        A visitor must not change the tensor that it is shown, and must copy what it wants to keep, because a later
        operation may work in place. The tensor is float32, whatever the precision of the model's own passes, and on
        the model's device. Images may be anywhere; the logits are on the CPU.
        """
        return self._run(images, _Run(self, visit), precision).float().cpu()

    def show(self, images: torch.Tensor, visit: Visit, *, precision: Precision = "fp32") -> None:
        """Do the same without the logits: nothing behind the last cut is computed."""
        self._run(images, _Run(self, visit, last=max(self._cuts, key=self._order.__getitem__)), precision)

    @cached_property
    def _order(self) -> dict[fx.Node, int]:
        return {node: number for number, node in enumerate(self.graph.module.graph.nodes)}

    def _run(self, images: torch.Tensor, run: "_Run", precision: Precision) -> Any:
        device = device_of(self.graph.module)
        with evaluating(self.graph.module), torch.no_grad(), autocast(precision, device=device):
            return run.run(images.to(device))


class _Run(fx.Interpreter):
    """One forward pass; where a last node is given, those that follow it have no result."""

    def __init__(self, owner: FeaturePass, visit: Visit, *, last: fx.Node | None = None) -> None:
        super().__init__(owner.graph.module)
        self._cuts = owner._cuts
        self._flow = owner.graph.flow
        self._visit = visit
        self._last = last
        self._ended = False

    def run_node(self, n: fx.Node) -> Any:
        if self._ended:
            return None
        result = super().run_node(n)
        self._ended = n is self._last
        if n in self._cuts:
            with in_float32(result.device):
                self._visit(self._cuts[n], self._flow.images_first(n, result).float())
        return result
