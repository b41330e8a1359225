"""Rewrite a traced graph so that it means the same on either side of a cut, for any batch, and for the gradient."""

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.fx.node import Argument

from isplit.design.graph.ops import is_in_place, op_name
from isplit.design.graph.outputs import logits_of
from isplit.design.graph.values import TensorValue, Value, ancestors, is_data, memory_bases
from isplit.errors import ModelError


def thread_in_place(module: fx.GraphModule) -> None:
    """Let what comes after an in-place operation use its result.

    `self.relu(y)` with inplace=True changes y though nobody takes the result; without an edge from it the operation
    would belong to neither side of a cut.
    """
    order = {node: number for number, node in enumerate(module.graph.nodes)}
    for node in module.graph.nodes:
        target = node.args[0] if node.args else None
        if isinstance(target, fx.Node) and is_in_place(module, node):
            target.replace_all_uses_with(node, lambda user, after=order[node]: order[user] > after)


def erase_unused(module: fx.GraphModule) -> None:
    """Drop what the logits do not need.

    Assertions and placeholders for defaults go too: they would tie a tail to values that it does not have. So do
    writes into buffers, and into the image after the logits, that no other operation reads: a model may count its
    calls or keep statistics of what it sees.

    Raises:
        ModelError: the logits do not depend on the image.

    """
    graph = module.graph
    output = output_node(module)
    _erase_idle_writes(module)
    if not isinstance(output.args[0], fx.Node):
        msg = "the logits do not depend on the image"
        raise ModelError(msg)
    image = input_node(module)
    for node in reversed(list(graph.nodes)):
        if not node.users and node is not output and node is not image and not is_in_place(module, node):
            graph.erase_node(node)
    graph.lint()
    module.recompile()


def _erase_idle_writes(module: fx.GraphModule) -> None:
    """Drop in-place operations on a buffer, or on the image, whose result nothing reads."""
    output = output_node(module)
    order = {node: number for number, node in enumerate(module.graph.nodes)}
    end = max((order[source] for source in output.all_input_nodes), default=len(order))
    for node in reversed(list(module.graph.nodes)):
        if node.users or not is_in_place(module, node):
            continue
        root = _written(module, node)
        if root.op == "get_attr":
            written = _memory(module, root)
            readers = [other for other in module.graph.nodes if other.users and _memory(module, other) & written]
            idle = readers == [root] and len(root.users) == 1
        else:
            # torch.export writes into the image at the very end what the model has written in between.
            idle = root.op == "placeholder" and order[node] > end
        if idle:
            module.graph.erase_node(node)


def _written(module: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Return the node into whose memory a chain of in-place operations writes."""
    while is_in_place(module, node) and node.args and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node


def _memory(module: fx.GraphModule, node: fx.Node) -> set[int]:
    """Return the addresses of the parameters and buffers that a node gives or uses as a module."""
    if node.op == "call_module":
        child = module.get_submodule(str(node.target))
        tensors: list[Any] = [*child.parameters(), *child.buffers()]
    elif node.op == "get_attr":
        tensors = [functools.reduce(getattr, str(node.target).split("."), module)]
    else:
        return set()
    strided = [value for value in tensors if isinstance(value, torch.Tensor) and value.layout == torch.strided]
    return {tensor.untyped_storage().data_ptr() for tensor in strided if tensor.numel()}


def input_node(module: fx.GraphModule) -> fx.Node:
    """Return the node of the image batch."""
    return next(node for node in module.graph.nodes if node.op == "placeholder")


def output_node(module: fx.GraphModule) -> fx.Node:
    """Return the output node."""
    return next(node for node in reversed(module.graph.nodes) if node.op == "output")


def shared_memory(module: fx.GraphModule, values: Mapping[fx.Node, Value]) -> str | None:
    """Name an in-place operation that changes a value which others still read under another name."""
    base = memory_bases(dict(values))
    order = {node: number for number, node in enumerate(module.graph.nodes)}
    for node in module.graph.nodes:
        if node not in base or not is_in_place(module, node):
            continue
        for other, memory in base.items():
            read_later = any(order[user] > order[node] for user in other.users)
            if memory is base[node] and order[other] < order[node] and read_later:
                return f"{node.name} overwrites memory that {other.name} shares"
    return None


def protect_input(module: fx.GraphModule, values: Mapping[fx.Node, Value]) -> bool:
    """Let a model that writes into its input write into a copy; return whether it does."""
    base = memory_bases(dict(values))
    image = input_node(module)
    if not any(base.get(node) is image and is_in_place(module, node) for node in module.graph.nodes):
        return False
    with module.graph.inserting_after(image):
        copied = module.graph.call_method("clone", (image,))
    image.replace_all_uses_with(copied, lambda user: user is not copied)
    return True


def settle_squeezes(module: fx.GraphModule, values: Mapping[fx.Node, Value]) -> bool:
    """Keep the batch dimension where a model squeezes every dimension of size one; return whether one did.

    With one image in a batch, `x.squeeze()` would take the batch away too. What it is meant to take away are the
    dimensions that have size one whatever the batch.
    """
    changed: bool = False
    for node in list(module.graph.nodes):
        if op_name(module, node) != "squeeze" or node.op == "call_module":
            continue
        source = _source(node)
        value = values.get(source) if isinstance(source, fx.Node) else None
        if not isinstance(value, TensorValue) or value.batch_axis is None:
            continue
        given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        rank = len(value.shapes[0])
        wanted = range(rank) if given is None else [given] if isinstance(given, int) else given
        if not all(isinstance(axis, int) for axis in wanted):
            continue
        if given is not None and value.batch_axis not in (axis % rank for axis in wanted):
            continue
        axes = tuple(axis for axis in wanted if axis % rank != value.batch_axis and value.shapes[0][axis] == 1)
        with module.graph.inserting_before(node):
            kept = module.graph.call_function(torch.squeeze, (source, axes)) if axes else source
        node.replace_all_uses_with(kept)
        module.graph.erase_node(node)
        changed = True
    return changed


def _source(node: fx.Node) -> Argument:
    """Return what an operation is applied to, be it given by position or by name."""
    return node.args[0] if node.args else node.kwargs.get("input", node.kwargs.get("self"))


def let_gradients_through(module: fx.GraphModule, values: Mapping[fx.Node, Value]) -> list[str]:
    """Take away the `detach` operations behind which no gradient would reach a tensor that crosses alone.

    A model may detach what a frozen part computes: the gradient is zero there, though the decision depends on it.
    Where a gradient also goes another way (as in a straight-through estimator, `x + (q(x) - x).detach()`), nothing is
    changed.

    Returns:
        The names of the nodes that were taken away.

    """
    data = [node for node in module.graph.nodes if is_data(values[node]) and node.op != "output"]
    last_use = {node: max((_position(data, user) for user in node.users), default=0) for node in data}
    taken: list[str] = []
    while True:
        detached = [node for node in data if _is_detach(node)]
        if not detached:
            return taken
        reaching = ancestors(output_node(module).all_input_nodes, stop=frozenset(detached)).difference(detached)
        blocked = [
            node
            for number, node in enumerate(data)
            if number and node not in reaching and all(last_use[other] <= number for other in data[:number])
        ]
        if not blocked:
            return taken
        at_fault = [node for node in detached if node in reaching or any(user in reaching for user in node.users)]
        for node in at_fault:
            node.replace_all_uses_with(node.args[0])
            taken.append(node.name)
            data.remove(node)
        if not at_fault:
            return taken


def _position(data: list[fx.Node], node: fx.Node) -> int:
    return data.index(node) if node in data else len(data)


def _is_detach(node: fx.Node) -> bool:
    if node.op == "call_function" and node.target is getattr:
        return "data" in node.args
    name = str(getattr(node.target, "__name__", node.target)).split(".")[0].rstrip("_")
    return name in ("detach", "detach_copy") and node.op != "call_module"


_PROBABILITIES = frozenset(("softmax", "log_softmax", "logsoftmax", "sigmoid", "logsigmoid", "log_sigmoid"))
_PASSES = frozenset(
    "flatten reshape view squeeze unsqueeze contiguous clone identity dropout float to type alias detach".split()
)


def finish_with_logits(
    module: fx.GraphModule, values: Mapping[fx.Node, Value], *, gives_probabilities: bool = False
) -> list[str]:
    """Make the graph end in logits N×K, in float32, and say what was changed for that.

    A last softmax or sigmoid is taken away: the importance of a cut is defined by the gradient of a logit, which
    vanishes behind a saturated softmax, and training applies a softmax of its own. Where the answers are probabilities
    for another reason (an average of several softmaxes, a division by the sum), their logarithms are taken. One logit z
    for two classes becomes (0, z), whose softmax is the sigmoid of z.

    Args:
        module: The graph; it is changed.
        values: What each of its nodes computes.
        gives_probabilities: Whether the model answers with probabilities.

    Returns:
        A notice for each change that the user should know about.

    """
    notices: list[str] = []
    output = output_node(module)
    removed = _take_away_probabilities(module, output)
    if removed:
        notices.append(f"the model ends in {removed}: its input is taken for the logits, not the probabilities")
    end = output.args[0]
    assert isinstance(end, fx.Node)
    value = values[end]
    assert isinstance(value, TensorValue)
    shape: tuple[int, ...] = value.shapes[0]
    graph = module.graph
    with graph.inserting_before(output):
        if len(shape) == 1:
            end = graph.call_method("unsqueeze", (end, 1))
        elif len(shape) > 2:
            end = graph.call_method("flatten", (end, 1))
        if value.dtype != torch.float32:
            end = graph.call_method("float", (end,))
        if gives_probabilities and not removed:
            notices.append("the model answers with probabilities: their logarithms are taken for the logits")
            end = graph.call_function(logits_of, (end,))
        if len(shape) == 1 or shape[1:2] == (1,):
            notices.append("the model has one logit z: it is taken as (0, z) for two classes, z for the second")
            zero = graph.call_function(torch.zeros_like, (end,))
            end = graph.call_function(torch.cat, ([zero, end], 1))
    output.args = (end,)
    return notices


def _take_away_probabilities(module: fx.GraphModule, output: fx.Node) -> str | None:
    node = output.args[0]
    while isinstance(node, fx.Node):
        name, source = op_name(module, node).lstrip("_"), _source(node)
        if name in _PROBABILITIES and isinstance(source, fx.Node):
            node.replace_all_uses_with(source)
            return name
        if name not in _PASSES:
            return None
        node = source
    return None
