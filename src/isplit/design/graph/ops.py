"""Name and classify the operations of a graph, in whichever way it was captured.

`op_name` reduces a module (`nn.Conv2d`), a function (`F.relu`), a method (`"flatten"`) and an ATen operator
(`aten.relu_.default`) to one lower-case name without in-place marks, so that one table serves all of them.
"""

from typing import Literal

import torch
from torch import fx, nn

Kind = Literal["compute", "pool", "norm", "activation", "arithmetic", "view"]

_MODULE_NAMES: dict[type[nn.Module], str] = {nn.MultiheadAttention: "multihead_attention"}

_NORMS = (
    "batchnorm batch_norm groupnorm group_norm instancenorm instance_norm layernorm layer_norm localresponsenorm "
    "local_response_norm rmsnorm rms_norm syncbatchnorm frozenbatchnorm"
).split()
_POOLS = "avg_pool avgpool max_pool maxpool lp_pool lppool".split()
_WORDS: dict[Kind, str] = {
    "activation": "celu elu gelu glu hardshrink hardsigmoid hardswish hardtanh leaky_relu leakyrelu logsigmoid mish "
    "prelu relu relu6 rrelu selu sigmoid silu softmax softplus softshrink softsign tanh tanhshrink threshold clamp",
    "arithmetic": "add sub mul div truediv neg pow cat concat rsub square sqrt exp",
    "view": "alias bfloat16 chunk circularpad2d clone constant_pad_nd constantpad2d contiguous detach double "
    "dropblock2d dropblock3d dropout dropout1d dropout2d dropout3d droppath expand fakequantize feature_dropout "
    "flatten float getattr half identity lift_fresh_copy movedim pad pad_same permute ravel reflectionpad2d "
    "replicationpad2d reshape squeeze stochasticdepth stochastic_depth swapaxes t to transpose type type_as unflatten "
    "unsqueeze view zeropad2d",
    "pool": "mean amax amin sum getitem select slice narrow index_select",
}
_IN_PLACE_OPERATORS = frozenset("iadd iand ifloordiv imatmul imod imul ior ipow isub itruediv ixor setitem".split())
_KINDS: dict[str, Kind] = {word: kind for kind, words in _WORDS.items() for word in words.split()}


def op_name(module: fx.GraphModule, node: fx.Node) -> str:
    """Return the plain name of a node's operation, for example "conv2d", "relu", "add"."""
    if node.op == "call_module":
        leaf = module.get_submodule(str(node.target))
        return _MODULE_NAMES.get(type(leaf), type(leaf).__name__.lower())
    if isinstance(node.target, torch._ops.OpOverload):
        name = str(node.target.overloadpacket).split(".")[-1]
    elif node.op == "call_function":
        name = str(getattr(node.target, "__name__", node.target))
    else:
        name = str(node.target)
    name = name.rstrip("_")
    return name[1:] if name in _IN_PLACE_OPERATORS else name


def is_in_place(module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether the operation overwrites its first argument."""
    if node.op == "call_module":
        return getattr(module.get_submodule(str(node.target)), "inplace", False) is True
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target).split(".")[1].endswith("_")
    if node.op == "call_function":
        name = getattr(node.target, "__name__", "")
        return name in _IN_PLACE_OPERATORS or name.endswith("_") or node.kwargs.get("inplace") is True
    return node.op == "call_method" and str(node.target).endswith("_")


def kind_of(name: str) -> Kind:
    """Return the kind of an operation; an unknown one counts as computation, so that it gets a cut of its own."""
    if name.startswith(tuple(_NORMS)):
        return "norm"
    if any(pool in name for pool in _POOLS):
        return "pool"
    return _KINDS.get(name, "compute")
