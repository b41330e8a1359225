"""Find the layers that a small device may compute in blocks of output channels, and write one block as a module.

    what crosses ─┬─> rows 0 to k of the weights ──┐
                  ├─> rows k to 2k ────────────────┼─> concatenated: what the layer gives
                  └─> ... ─────────────────────────┘

Each output channel of a linear layer or a convolution is computed from one row of its weights, so that the blocks give
what the layer gives, to the rounding of another order of additions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from isplit.design.graph.figures import Figures
from isplit.design.graph.flow import Flow
from isplit.design.graph.values import TensorValue
from isplit.records import DivisibleLayer

_MODULES: dict[type[nn.Module], Callable[..., torch.Tensor]] = {
    nn.Linear: functional.linear,
    nn.Conv1d: functional.conv1d,
    nn.Conv2d: functional.conv2d,
    nn.Conv3d: functional.conv3d,
}
_FUNCTIONS = {function.__name__: function for function in _MODULES.values()}
_CONVOLUTION_ARGUMENTS = ("stride", "padding", "dilation", "groups")


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """The weights of a layer, its bias, and the function of input, weights and bias that it computes."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    function: Callable[..., torch.Tensor]
    axis: int


class LayerBlock(nn.Module):
    """Computes some output channels of a linear layer or a convolution."""

    def __init__(self, weights: _Weights, channels: slice) -> None:
        super().__init__()
        self.weight = nn.Parameter(weights.weight[channels].detach().contiguous(), requires_grad=False)
        bias = None if weights.bias is None else weights.bias[channels].detach().clone()
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._function = weights.function

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Map the layer's input to the block's channels of its output."""
        return self._function(values, self.weight, self.bias)


def divisible_layers(flow: Flow, figures: Figures) -> tuple[DivisibleLayer, ...]:
    """Return the layers that can be computed in blocks, in the order of computation.

    Nothing else may cross beside such a layer, so that a device holds its input and its output alone. Layers that
    compute directly on the image are left out, and so are grouped convolutions.

    Args:
        flow: The graph's data flow.
        figures: The figures of its cuts.

    """
    single = {point.depth: point for point in flow.points if len(point.crossing) == 1}
    layers: list[DivisibleLayer] = []
    for node, depth in flow.depth.items():
        sources = flow.sources(node)
        before = single.get(depth - 1)
        if len(sources) != 1 or before is None or before.crossing != (sources[0],):
            continue
        after = single.get(depth)
        if node is not flow.logits and (after is None or after.crossing != (node,)):
            continue
        weights = _weights(flow.module, node, flow.ops[node])
        if not (_has_batch_first(flow, sources[0]) and _has_batch_first(flow, node)):
            continue
        if weights is None or flow.obstacle(before) or (after is not None and flow.obstacle(after)):
            continue
        layers.append(
            DivisibleLayer(
                name=after.name if after is not None else str(node.target if node.op == "call_module" else node.name),
                depth=depth,
                before=before.name,
                after=None if after is None else after.name,
                channels=len(weights.weight),
                channel_axis=weights.axis,
                parameters=weights.weight.numel() + (0 if weights.bias is None else weights.bias.numel()),
                input_bytes=figures.crossing(sources[0]).bytes,
                output_bytes=figures.crossing(node).bytes,
            )
        )
    return tuple(layers)


def layer_blocks(flow: Flow, layer: DivisibleLayer, *, blocks: int) -> list[LayerBlock]:
    """Return a layer as modules of nearly equal numbers of output channels, in the order of the channels.

    Args:
        flow: The data flow of the graph that the layer was found in.
        layer: The layer.
        blocks: Their number, at most that of the channels.

    """
    node = flow.data_nodes[layer.depth]
    weights = _weights(flow.module, node, flow.ops[node])
    assert weights is not None, f"{layer.name} is not divisible"
    assert 1 <= blocks <= layer.channels
    size = -(-layer.channels // blocks)
    return [LayerBlock(weights, slice(start, start + size)) for start in range(0, layer.channels, size)]


def _has_batch_first(flow: Flow, node: fx.Node) -> bool:
    value = flow.values[node]
    return isinstance(value, TensorValue) and value.batch_axis == 0


def _weights(module: fx.GraphModule, node: fx.Node, op: str) -> _Weights | None:
    """Return the weights of a node that is a linear layer or a convolution; None if it is neither."""
    if node.op == "call_module":
        weights = _module_weights(module.get_submodule(str(node.target)))
    elif node.op == "call_function" and op in _FUNCTIONS:
        weights = _function_weights(module, node, _FUNCTIONS[op])
    else:
        return None
    if weights is None or weights.weight.dtype != torch.float32 or len(weights.weight) < 2:
        return None
    return weights


def _module_weights(leaf: nn.Module) -> _Weights | None:
    function = _MODULES.get(type(leaf))  # a subclass may compute something else
    if function is None or leaf._forward_pre_hooks or leaf._forward_hooks:
        return None
    convolution: Any = leaf
    if isinstance(leaf, nn.Linear):
        return _Weights(weight=leaf.weight, bias=leaf.bias, function=function, axis=-1)
    if convolution.groups != 1 or convolution.padding_mode != "zeros":
        return None
    settings = {name: getattr(convolution, name) for name in _CONVOLUTION_ARGUMENTS}
    return _Weights(weight=convolution.weight, bias=convolution.bias, function=partial(function, **settings), axis=1)


def _function_weights(module: fx.GraphModule, node: fx.Node, function: Callable[..., torch.Tensor]) -> _Weights | None:
    names = ("input", "weight", "bias", *(_CONVOLUTION_ARGUMENTS if function is not functional.linear else ()))
    arguments: dict[str, Any] = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    given_bias = arguments.pop("bias", None)
    weight, bias = _parameter(module, arguments.pop("weight", None)), _parameter(module, given_bias)
    arguments.pop("input", None)
    if weight is None or (bias is None and given_bias is not None):
        return None
    if arguments.get("groups", 1) != 1 or not set(arguments) <= set(_CONVOLUTION_ARGUMENTS):
        return None
    if any(isinstance(argument, fx.Node) for argument in arguments.values()):
        return None
    axis = -1 if function is functional.linear else 1
    return _Weights(weight=weight, bias=bias, function=partial(function, **arguments), axis=axis)


def _parameter(module: fx.GraphModule, node: object) -> torch.Tensor | None:
    """Return the tensor of a node that reads a parameter; None for anything else."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    owner, _, name = str(node.target).rpartition(".")
    tensor = getattr(module.get_submodule(owner), name)
    return tensor if isinstance(tensor, torch.Tensor) else None
