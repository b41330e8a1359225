"""Observe what every node of a captured graph computes: shapes, sizes, and values that follow the batch size.

The graph is run twice, with batches of 2 and of 3. A tensor that grows with the batch is data. An integer that does
not change is a constant of the image size. An integer that is k times the batch size is written in this form in the
tail of a cut.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from isplit.design.running import evaluating
from isplit.errors import ModelError

BATCHES = (2, 3)


@dataclass(frozen=True)
class TensorValue:
    """A tensor: its shapes at batches of 2 and of 3, and the node whose memory it shares (None: its own)."""

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtype: torch.dtype
    bytes: int
    alias_of: fx.Node | None
    data: bool

    @property
    def batch_axis(self) -> int | None:
        """The dimension that is the batch, or None if the batch is no dimension of its own."""
        first, second = self.shapes
        changed = [axis for axis, sizes in enumerate(zip(first, second, strict=False)) if sizes[0] != sizes[1]]
        if len(first) != len(second) or len(changed) != 1:
            return None
        (axis,) = changed
        return axis if (first[axis], second[axis]) == BATCHES else None

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of what belongs to one image: that of the tensor without its batch, or else without its first."""
        axis = self.batch_axis or 0
        return self.shapes[0][:axis] + self.shapes[0][axis + 1 :]


@dataclass(frozen=True)
class TupleValue:
    """A tuple that holds tensors (chunk, MultiheadAttention): read only through its items."""

    bytes: int
    alias_of: fx.Node | None
    data: bool


@dataclass(frozen=True)
class ScalarValue:
    """A value that is not a tensor. `pixel_dependent` is true if it was read from pixel values and not from shapes."""

    values: tuple[Any, Any]
    pixel_dependent: bool


Value = TensorValue | TupleValue | ScalarValue

# These read a tensor's description and not its values.
_DESCRIBES = frozenset(
    ("size", "dim", "numel", "nelement", "stride", "is_floating_point", "element_size", "sym_size", "sym_numel", "len")
)


@dataclass(frozen=True)
class _Seen:
    """A tensor of one run; `shape` is None for a tuple that holds tensors."""

    shape: tuple[int, ...] | None
    dtype: torch.dtype
    bytes: int
    alias_of: fx.Node | None


class _Recorder(fx.Interpreter):
    """Runs the graph and notes every value as it comes up."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.seen: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        try:
            result = super().run_node(n)
        except Exception as error:
            what = n.target if isinstance(n.target, str) else getattr(n.target, "__name__", n.target)
            msg = f"the model fails at {what}: {error}"
            raise ModelError(msg) from error
        self.seen[n] = self._describe(n, result)
        return result

    def _describe(self, node: fx.Node, result: Any) -> Any:
        if isinstance(result, torch.Tensor):
            return _Seen(tuple(result.shape), result.dtype, result.nbytes, self._shared_with(node, result))
        tensors = (
            [item for item in result if isinstance(item, torch.Tensor)] if isinstance(result, tuple | list) else []
        )
        if tensors:
            size = sum(tensor.nbytes for tensor in tensors)
            return _Seen(None, tensors[0].dtype, size, self._shared_with(node, tensors[0]))
        return result

    def _shared_with(self, node: fx.Node, result: torch.Tensor) -> fx.Node | None:
        memory = result.untyped_storage().data_ptr()
        for source in node.all_input_nodes:
            value = self.env[source]
            items = value if isinstance(value, tuple | list) else (value,)
            if any(isinstance(item, torch.Tensor) and item.untyped_storage().data_ptr() == memory for item in items):
                return source
        return None


def observe(module: fx.GraphModule, images: torch.Tensor) -> tuple[dict[fx.Node, Value], torch.Tensor]:
    """Run `module` on two and on all three of `images`; return what each node computes, and the last result.

    Args:
        module: A captured graph with one input; it is run in evaluation mode.
        images: 3×C×H×W.

    Raises:
        ModelError: a node fails; the message names it.

    """
    runs: list[dict[fx.Node, Any]] = []
    result = None
    for batch in BATCHES:
        recorder = _Recorder(module)
        with evaluating(module), torch.no_grad():
            # In-place operations on the input must not change what the next run sees.
            result = recorder.run(images[:batch].clone())
        runs.append(recorder.seen)
    values: dict[fx.Node, Value] = {}
    for node in module.graph.nodes:
        values[node] = _merge(node, runs[0][node], runs[1][node], values)
    assert isinstance(result, torch.Tensor)
    return values, result


def memory_bases(values: dict[fx.Node, Value]) -> dict[fx.Node, fx.Node]:
    """Return for every data node the first node whose memory it shares."""
    base: dict[fx.Node, fx.Node] = {}
    for node, value in values.items():
        if isinstance(value, TensorValue | TupleValue) and value.data and node.op != "output":
            base[node] = base.get(value.alias_of, node) if value.alias_of is not None else node
    return base


def _merge(node: fx.Node, first: Any, second: Any, values: dict[fx.Node, Value]) -> Value:
    data = node.op == "placeholder" or any(is_data(values[source]) for source in node.all_input_nodes)
    if not isinstance(first, _Seen):
        return ScalarValue((first, second), data and not _describes_shape(node))
    if first.shape is None:
        return TupleValue(first.bytes, first.alias_of, data)
    return TensorValue((first.shape, second.shape), first.dtype, first.bytes, first.alias_of, data)


def _describes_shape(node: fx.Node) -> bool:
    if node.op == "call_function" and node.target is getattr:
        return True
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.split(".")[0] in _DESCRIBES


def is_data(value: Value) -> bool:
    """Return whether the value is, or holds, a tensor that is computed from the image."""
    return isinstance(value, TensorValue | TupleValue) and value.data


def ancestors(ends: Iterable[fx.Node], *, stop: frozenset[fx.Node] = frozenset()) -> set[fx.Node]:
    """Return `ends` and everything that they are computed from, no further back than `stop`."""
    reached: set[fx.Node] = set()
    waiting = list(ends)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            if node not in stop:
                waiting.extend(node.all_input_nodes)
    return reached
