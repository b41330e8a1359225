"""Export a model once with every cut as an output, and take heads and the whole model out of that file.

    image ─> ... cut 1 ─> ... cut 2 ─> ... ─> logits

It also says to which segment between two cuts each operator belongs that onnxruntime runs after its optimisations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx.utils import Extractor
from torch import fx, nn

from isplit.design.graph.cuts import ModelGraph
from isplit.design.graph.split import images_first
from isplit.design.onnx.files import save_onnx, to_onnx
from isplit.design.onnx.modules import normalised_pixels
from isplit.errors import ModelError
from isplit.records import Preprocessing

_IMAGE, _LOGITS = "image", "logits"

_LAYOUT_SUFFIX = "_nchwc"
"""What onnxruntime appends to a tensor's name to name the operator that computes it in its blocked layout."""


@dataclass(frozen=True, kw_only=True)
class StagedModel:
    """A model in one ONNX file whose outputs are its cuts, in the order of computation, and the logits.

    `cuts` are the names of the cuts; `tensors` are the file's names of the image, the cuts and the logits.
    """

    cuts: tuple[str, ...]
    tensors: tuple[str, ...]
    model: onnx.ModelProto

    def save_head(self, cut: str | None, path: Path) -> None:
        """Write the part from the image to a cut (None: to the logits) as a file of its own, weights included.

        Raises:
            ModelError: the part cannot be run by itself.

        """
        end = self.tensors[-1] if cut is None else self.tensors[1 + self.cuts.index(cut)]
        try:
            part = Extractor(self.model).extract_model([self.tensors[0]], [end])
            onnx.checker.check_model(part)
        except Exception as error:  # the errors of the checker and the extractor share no base class but this one
            first = " ".join(str(error).split())[:200]
            msg = f"the model cannot be run by itself up to {cut or 'the logits'}: {first}"
            raise ModelError(msg) from error
        save_onnx(part, path)

    def segments_of_operators(self, optimised: onnx.ModelProto) -> dict[str, int]:
        """Return the number of the segment that each operator of the optimised whole model belongs to.

        Segment 0 ends at the first cut, and the last one at the logits. onnxruntime fuses operators and converts
        layouts. A fused operator keeps the name of the last tensor that it computes, or is named after it; a
        conversion of the layout belongs to the operator that reads its result.

        Args:
            optimised: The model as onnxruntime wrote it after its optimisations; its weights are not needed.

        """
        segments = self._segments_of_tensors()
        operators = list(optimised.graph.node)
        known = {node.name: segment for node in operators if (segment := _segment(node, segments)) is not None}
        last = len(self.tensors) - 2
        readers: dict[str, int] = {tensor.name: last for tensor in optimised.graph.output}
        for node in reversed(operators):
            if node.name not in known:
                known[node.name] = min((readers[tensor] for tensor in node.output if tensor in readers), default=last)
            for tensor in node.input:
                readers[tensor] = min(readers.get(tensor, last), known[node.name])
        return known

    def _segments_of_tensors(self) -> dict[str, int]:
        """Return, for each tensor of the file, the number of the segment in which it is computed."""
        producers = {tensor: node for node in self.model.graph.node for tensor in node.output}
        segments: dict[str, int] = {}
        for number, end in enumerate(self.tensors[1:]):
            waiting = [end]
            while waiting:
                node = producers.get(waiting.pop())
                if node is not None and node.output[0] not in segments:
                    segments |= dict.fromkeys(node.output, number)
                    waiting.extend(node.input)
        return segments


def export_stages(graph: ModelGraph, cuts: Sequence[str], preprocessing: Preprocessing) -> StagedModel:
    """Export a model with its cuts as outputs, for one image at a time.

    Args:
        graph: The captured model.
        cuts: Names of cuts with one crossing tensor, in the order of computation.
        preprocessing: The model's own; the file takes pixels uint8 1×H×W×C.

    Raises:
        ModelError: the exporter has no ONNX for something that the model does.

    """
    height, width = preprocessing.image_size
    images = torch.zeros((1, height, width, preprocessing.channels), dtype=torch.uint8)
    model = to_onnx(
        _Stages(_with_outputs(graph, cuts), preprocessing),
        images,
        source=_IMAGE,
        target=_LOGITS,
        earlier_targets=[f"cut{number}" for number in range(len(cuts))],
        any_batch=False,
    )
    return StagedModel(
        cuts=tuple(cuts),
        tensors=(model.graph.input[0].name, *(output.name for output in model.graph.output)),
        model=model,
    )


class _Stages(nn.Module):
    """Maps pixels N×H×W×C uint8 to the crossing tensors of all cuts, and the logits."""

    def __init__(self, body: fx.GraphModule, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.pixels = normalised_pixels(preprocessing)
        self.body = body

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.body(self.pixels(image))


def _with_outputs(graph: ModelGraph, cuts: Sequence[str]) -> fx.GraphModule:
    """Return the model's graph with the crossing tensors of cuts as outputs before the logits."""
    flow = graph.flow
    ends = [*(graph.point(name).crossing[0] for name in cuts), flow.logits]
    copied = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in (node for node in flow.nodes if node.op != "output"):
        copies[node] = copied.node_copy(node, copies.__getitem__)
    copied.output(tuple(images_first(flow, node, copies[node]) for node in ends))
    copied.lint()
    return fx.GraphModule(flow.module, copied, class_name="Stages")


def _segment(operator: onnx.NodeProto, segments: Mapping[str, int]) -> int | None:
    """Return the segment of an operator that computes a tensor of the file, or is named after one; None if neither."""
    names = [*operator.output, operator.name.partition(_LAYOUT_SUFFIX)[0]]
    return max((segments[name] for name in names if name in segments), default=None)
