"""Find the dimension of a crossing tensor that holds its channels."""

from collections import deque

from torch import fx

from isplit.design.graph.flow import Flow
from isplit.design.graph.values import TensorValue

_FIRST = ("conv", "batchnorm", "batch_norm", "groupnorm", "group_norm", "instance", "pool", "localresponse")
_LAST = ("linear", "layernorm", "layer_norm", "rmsnorm", "rms_norm", "multihead_attention", "shifted_window_attention")


def channel_axis(flow: Flow, node: fx.Node) -> int | None:
    """Return 1 (N×C×…) or -1 (N×…×C: tokens and channels-last maps), or None for a tensor of one dimension.

    The operations that use the tensor decide, or else those that made it: a convolution or a pool wants its channels
    first, a linear layer or a LayerNorm last. The search follows only operations that keep the shape. Where nothing
    decides, maps N×C×H×W are taken for channels first and tokens N×T×D for channels last.
    """
    value = flow.values[node]
    if not isinstance(value, TensorValue) or len(value.shapes[0]) < 2:
        return None
    if len(value.shapes[0]) == 2:
        return 1
    for forwards in (True, False):
        axis = _search(flow, node, value, forwards=forwards)
        if axis is not None:
            return axis
    return -1 if len(value.shapes[0]) == 3 else 1


def _search(flow: Flow, start: fx.Node, value: TensorValue, *, forwards: bool) -> int | None:
    queue, seen = deque([start]), {start}
    while queue:
        node = queue.popleft()
        # Forwards the users of a tensor tell; backwards the operation that made it, itself first.
        steps = list(node.users) if forwards else [node]
        for step in steps:
            name = flow.ops.get(step, "")
            if name.startswith(_FIRST) or "pool" in name:
                return 1
            if name.startswith(_LAST):
                return -1
        for following in steps if forwards else flow.sources(node):
            other = flow.values.get(following)
            if following not in seen and isinstance(other, TensorValue) and other.shapes == value.shapes:
                seen.add(following)
                queue.append(following)
    return None
