"""Enumerate every place where a captured model can be cut."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import fx, nn

from isplit.design.graph.capture import capture
from isplit.design.graph.channels import channel_axis
from isplit.design.graph.default_cuts import default_cuts
from isplit.design.graph.figures import Figures
from isplit.design.graph.flow import CutPoint, Flow
from isplit.design.graph.large_layers import divisible_layers
from isplit.design.graph.layout import lay_out
from isplit.design.graph.outputs import ModelCall
from isplit.errors import ModelError
from isplit.records import Cut, CutKind, GraphRecord, Unavailable
from isplit.records.tables import named


class ModelGraph:
    """A captured model, its data flow, and its cuts.

    Args:
        model: A classifier of one image batch N×C×H×W.
        input_shape: The image's shape (C, H, W). Figures and the integers in a tail hold for it.
        channel_axes: The channel axis of cuts where it is guessed wrongly: cut name to 1 or -1.
        call: How the model is called and which of its outputs is the logits; None to find out.
        channels_last: Whether the model's own maps lie channels-last in memory; see `lay_out`.
        notices: What else the user should know about the model as it is analysed.

    Raises:
        ModelError: the model cannot be captured, or fails on an image of that shape.

    """

    def __init__(
        self,
        model: nn.Module,
        input_shape: tuple[int, ...],
        *,
        channel_axes: Mapping[str, int] | None = None,
        call: ModelCall | None = None,
        channels_last: bool = False,
        notices: Sequence[str] = (),
    ) -> None:
        self.input_shape = input_shape
        self.channels_last = channels_last
        captured, values = capture(model, input_shape, call=call)
        self.flow = Flow(captured, values)
        self.notices = (*notices, *captured.notices)
        self.figures = Figures(self.flow)
        self.module: fx.GraphModule = captured.module
        self._channel_axes = dict(channel_axes or {})
        for name, axis in self._channel_axes.items():
            if axis not in (1, -1) or name not in {point.name for point in self.flow.points}:
                msg = f"channel axis {axis} of {name!r}: name a cut, and give 1 (channels first) or -1 (last)"
                raise ModelError(msg)

    def point(self, name: str) -> CutPoint:
        """Return the cut of that name.

        Raises:
            KeyError: the graph has no such cut.

        """
        return named(self.flow.points, name)

    def lay_out(self, tensor: torch.Tensor, cut: Cut) -> torch.Tensor:
        """Give a tensor that was made for a cut the memory layout that the model's own has there."""
        return lay_out(tensor, cut, channels_last=self.channels_last)

    @cached_property
    def default_points(self) -> dict[CutPoint, CutPoint | None]:
        """The default cuts, each with the cut just before its activation where there is one."""
        return default_cuts(self.flow, self.figures.counts)

    def _channel_axis(self, point: CutPoint) -> int | None:
        known = self._channel_axes.get(point.name)
        if known is not None or len(point.crossing) != 1:
            return known
        (crossing,) = point.crossing
        return channel_axis(self.flow, crossing)

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 over the operations and their arguments, the settings of modules included."""
        digest = hashlib.sha256()
        for node in self.flow.nodes:
            module = repr(self.module.get_submodule(str(node.target))) if node.op == "call_module" else ""
            digest.update(f"{node.name}|{node.op}|{self.flow.ops[node]}|{node.args}|{node.kwargs}|{module}\n".encode())
        return digest.hexdigest()

    def record(self, *, pre_activation: bool = False, all_cuts: bool = False) -> GraphRecord:
        """Return the graph's record with its default cuts.

        Args:
            pre_activation: Add the points just before an activation.
            all_cuts: Add every other cut too, those with several crossing tensors included.

        """
        flow, figures = self.flow, self.figures
        kinds: dict[CutPoint, CutKind] = dict.fromkeys(self.default_points, "default")
        if pre_activation or all_cuts:
            for before in self.default_points.values():
                if before is not None:
                    kinds.setdefault(before, "pre-activation")
        unavailable: list[Unavailable] = []
        for point in flow.points:
            reason = flow.obstacle(point) if all_cuts or len(point.crossing) == 1 else None
            if reason is not None:
                unavailable.append(Unavailable(name=point.name, reason=reason))
            elif all_cuts:
                kinds.setdefault(point, "other")
        image, logits = figures.crossing(flow.data_nodes[0]), figures.crossing(flow.logits)
        points = sorted(kinds, key=lambda point: point.depth)
        return GraphRecord(
            captured_by=flow.capture.captured_by,
            input_shape=image.shape,
            input_bytes=image.bytes,
            output_shape=logits.shape,
            macs=sum(figures.macs.values()),
            parameters=figures.parameters,
            uncounted=figures.uncounted,
            cuts=tuple(figures.cut(point, kinds[point], channel_axis=self._channel_axis(point)) for point in points),
            unavailable=tuple(unavailable),
            notices=self.notices,
            divisible=divisible_layers(flow, figures),
        )
