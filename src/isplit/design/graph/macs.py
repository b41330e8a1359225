"""Multiply-accumulate operations of a node, by our own table over operations.

torch's FlopCounterMode sees kernels, and on a CPU it has no formula for attention's (the fused kernel of
`scaled_dot_product_attention`, the fast path of `MultiheadAttention`): it counts 36 % too little for ViT-B/16. This
table looks at the operation instead. Counted are convolutions, matrix products and attention; additions, norms,
activations and pooling are not, as is usual. One MAC is two FLOP.
"""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_arg
from torch.nn.attention import SDPBackend, sdpa_kernel

from isplit.design.graph.ops import kind_of

Shape = tuple[int, ...]


class Size(tuple[int, ...]):
    """A tensor's shape, told apart from a tuple of numbers that is an argument."""


# An operation's positional arguments with every tensor replaced by its shape, its keyword arguments alike,
# and the shape of its result.
Handle = Callable[[list[Any], dict[str, Any], Shape], int]

# These take several tensors, or a parameter, and multiply nothing.
_FREE = frozenset(
    "where masked_fill masked_scatter index index_put index_select take take_along_dim gather scatter scatter_add "
    "select_scatter slice_scatter roll flip pad stack hstack vstack interpolate upsample grid_sample embedding "
    "maximum minimum max min eq ne lt le gt ge logical_and logical_or logical_not bitwise_and bitwise_or isclose "
    "lerp addcmul addcdiv norm normalize var std softmax log_softmax cosine_similarity cumsum sort topk argmax "
    "full_like zeros_like ones_like new_zeros new_full copy fill fill_diagonal repeat tile repeat_interleave unfold "
    "fold pixel_shuffle pixel_unshuffle channel_shuffle one_hot prelu rsqrt pow atan2 meshgrid split tensor_split "
    "unbind broadcast_to broadcast_tensors expand_as view_as reshape_as roi_align roi_pool ps_roi_align ps_roi_pool "
    "_get_relative_position_bias _patch_merging_pad _native_batch_norm_legit_no_training".split()
)


def _argument(args: list[Any], kwargs: dict[str, Any], position: int, name: str, default: Any = None) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _linear(args: list[Any], kwargs: dict[str, Any], out: Shape) -> int:
    return prod(out) * _argument(args, kwargs, 1, "weight")[-1]


def _matmul(args: list[Any], kwargs: dict[str, Any], out: Shape) -> int:
    return prod(out) * _argument(args, kwargs, 0, "input")[-1]


def _addmm(args: list[Any], kwargs: dict[str, Any], out: Shape) -> int:
    first = "mat1" if "mat1" in kwargs else "batch1"
    return prod(out) * _argument(args, kwargs, 1, first)[-1]


def _convolution(args: list[Any], kwargs: dict[str, Any], out: Shape) -> int:
    # weight: out_channels × in_channels / groups × kernel, so the result's channels are not in the product twice.
    return prod(out) * prod(_argument(args, kwargs, 1, "weight")[1:])


def _transposed_convolution(args: list[Any], kwargs: dict[str, Any], out: Shape) -> int:
    return prod(_argument(args, kwargs, 0, "input")) * prod(_argument(args, kwargs, 1, "weight")[1:])


def _scaled_dot_product(args: list[Any], kwargs: dict[str, Any], out: Shape) -> int:
    query, key, value = (_argument(args, kwargs, i, name) for i, name in enumerate(("query", "key", "value")))
    return prod(query) * key[-2] + prod(query[:-1]) * prod(value[-2:])


def _einsum(args: list[Any], kwargs: dict[str, Any], out: Shape) -> int:
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], list):
        operands = operands[0]
    sizes: dict[str, int] = {}
    for indices, shape in zip(equation.replace(" ", "").split("->")[0].split(","), operands, strict=True):
        before, ellipsis, after = indices.partition("...")
        # Dimensions under "..." are aligned from the right, as broadcasting does.
        hidden = [f"...{number}" for number in range(len(shape) - len(before) - len(after), 0, -1)] if ellipsis else []
        for index, size in zip([*before, *hidden, *after], shape, strict=True):
            sizes[index] = max(size, sizes.get(index, 1))
    return prod(sizes.values())


def _shifted_window_attention(args: list[Any], kwargs: dict[str, Any], out: Shape) -> int:
    """torchvision.models.swin_transformer.shifted_window_attention: padded windows, qkv and projection inside."""
    batch, height, width, channels = args[0]
    rows, columns = _argument(args, kwargs, 4, "window_size")
    tokens = batch * -(-height // rows) * rows * -(-width // columns) * columns
    return tokens * channels * (3 * channels + 2 * rows * columns + channels)


def _pairwise_distances(args: list[Any], kwargs: dict[str, Any], out: Shape) -> int:
    """torch.cdist: one multiplication per pair of vectors and coordinate."""
    return prod(out) * _argument(args, kwargs, 0, "x1")[-1]


def _recurrent(args: list[Any], kwargs: dict[str, Any], out: Shape) -> int:
    """LSTM, GRU and RNN: every step multiplies by every weight matrix of every layer and direction once."""
    steps = prod(args[0][:-1])
    return steps * sum(prod(shape) for shape in args[2] if len(shape) == 2)


def _recurrent_cell(args: list[Any], kwargs: dict[str, Any], out: Shape) -> int:
    """LSTMCell, GRUCell and RNNCell as functions: both weight matrices, once."""
    rows, matrices = prod(args[0][:-1]), [_argument(args, kwargs, 2, "w_ih"), _argument(args, kwargs, 3, "w_hh")]
    return rows * sum(prod(shape) for shape in matrices)


def _deformable_convolution(args: list[Any], kwargs: dict[str, Any], out: Shape) -> int:
    """torchvision.ops.deform_conv2d, whose third argument is the weight, and the operator behind it, the second's."""
    is_operator = len(args) > _DEFORM_CONV_ARGUMENTS
    return prod(out) * prod((args[1] if is_operator else _argument(args, kwargs, 2, "weight"))[1:])


_DEFORM_CONV_ARGUMENTS = 8

_FUNCTIONS: dict[str, Handle] = {
    "lstm_cell": _recurrent_cell,
    "gru_cell": _recurrent_cell,
    "rnn_tanh_cell": _recurrent_cell,
    "rnn_relu_cell": _recurrent_cell,
    "deform_conv2d": _deformable_convolution,
    "flex_attention": _scaled_dot_product,
    "lstm": _recurrent,
    "gru": _recurrent,
    "rnn_tanh": _recurrent,
    "rnn_relu": _recurrent,
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "bmm": _matmul,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "conv_transpose1d": _transposed_convolution,
    "conv_transpose2d": _transposed_convolution,
    "conv_transpose3d": _transposed_convolution,
    "scaled_dot_product_attention": _scaled_dot_product,
    "einsum": _einsum,
    "cdist": _pairwise_distances,
    "shifted_window_attention": _shifted_window_attention,
}


def _attention_module(leaf: nn.MultiheadAttention, query: Shape, key: Shape) -> int:
    batch = query[0] if leaf.batch_first else query[1]
    queries, keys = (shape[1] if leaf.batch_first else shape[0] for shape in (query, key))
    width = leaf.embed_dim
    projections = queries * width + keys * (leaf.kdim or width) + keys * (leaf.vdim or width) + queries * width
    return batch * width * (projections + 2 * queries * keys)


def _scripted(leaf: torch.jit.ScriptModule, args: list[Any], kwargs: dict[str, Any]) -> int | None:
    """Count what TorchScript computes by running it, as there is no graph of it; None where it does not run alone."""
    # It brings triton, where that is installed, which takes longer to import than all of isplit.
    from torch.utils.flop_counter import FlopCounterMode

    images = [torch.zeros(shape) if isinstance(shape, Size) else shape for shape in args]
    named = {name: torch.zeros(shape) if isinstance(shape, Size) else shape for name, shape in kwargs.items()}
    try:
        # torch's counter has formulas for the operations that attention's fused kernels stand for.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            leaf(*images, **named)
    except Exception:  # noqa: BLE001 - the user's code may refuse black images in any way
        return None
    return counter.get_total_flops() // 2


def count_macs(module: fx.GraphModule, node: fx.Node, name: str, shape_of: Callable[[fx.Node], Any]) -> int | None:
    """Count one node's MACs for the batch it was observed with.

    Args:
        module: The graph.
        node: The node.
        name: Its `op_name`.
        shape_of: Gives a node's shape if it is a tensor, else its value.

    Returns:
        The count; None if nothing is known of it: an operation that is not in the table and takes several tensors or
        a parameter, a module that holds matrices, arguments of a form that the table does not expect.

    """
    out: Any = shape_of(node)
    args: Any = map_arg(list(node.args), shape_of)
    kwargs: Any = map_arg(dict(node.kwargs), shape_of)
    try:
        return _count(module, node, name, args, kwargs, out)
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def _count(module: fx.GraphModule, node: fx.Node, name: str, args: Any, kwargs: Any, out: Shape) -> int | None:
    if node.op in ("placeholder", "get_attr", "output"):
        return 0
    if node.op != "call_module":
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](args, kwargs, out)
        tensors = sum(isinstance(leaf, Size) for leaf in _leaves([args, kwargs]))
        return None if tensors > 1 and kind_of(name) == "compute" and name not in _FREE else 0
    leaf = module.get_submodule(str(node.target))
    if isinstance(leaf, torch.jit.ScriptModule):
        return _scripted(leaf, args, kwargs)
    if isinstance(leaf, nn.MultiheadAttention):
        return _attention_module(leaf, _argument(args, kwargs, 0, "query"), _argument(args, kwargs, 1, "key"))
    if isinstance(leaf, nn.RNNBase | nn.RNNCellBase):
        return _recurrent([args[0], None, [Size(parameter.shape) for parameter in leaf.parameters()]], {}, out)
    if isinstance(leaf, nn.Bilinear):
        return prod(out) * leaf.in1_features * (leaf.in2_features + 1)
    if isinstance(leaf, nn.Linear):
        return prod(out) * leaf.in_features
    if isinstance(leaf, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return prod(args[0]) * prod(leaf.weight.shape[1:])
    if isinstance(leaf, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return prod(out) * prod(leaf.weight.shape[1:])
    if _has_matrix(leaf):
        return None
    return 0


def _has_matrix(leaf: nn.Module) -> bool:
    """Whether a module holds weights that it may multiply by; scales and shifts per channel are vectors."""
    norm = isinstance(leaf, nn.LayerNorm | nn.GroupNorm | nn.Embedding | nn.RMSNorm)
    return not norm and any(parameter.dim() > 1 for parameter in leaf.parameters())


def _leaves(tree: Any) -> Iterator[Any]:
    """Yield what a tree of lists, tuples and dictionaries holds; a tensor's shape is one thing."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, list | tuple) and not isinstance(tree, Size):
        for item in tree:
            yield from _leaves(item)
    else:
        yield tree
