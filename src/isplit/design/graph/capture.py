"""Capture a model as a graph: torch.fx first, torch.export where fx cannot trace it.

torch.fx keeps the modules, so BatchNorm and dropout stay trainable on both sides of a cut. torch.export follows any
model whose shapes do not depend on pixel values, but fixes it in evaluation mode.
"""

import copy
import inspect
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.fx.graph import CodeGen
from torch.utils._pytree import tree_leaves

from isplit.design.graph.ops import is_in_place
from isplit.design.graph.values import Value, memory_bases, observe
from isplit.design.running import evaluating, find_logits
from isplit.errors import ModelError

CapturedBy = Literal["torch.fx", "torch.export"]


@dataclass(frozen=True)
class Capture:
    """A captured model: one input, one output (the logits), and the qualified module names of its nodes.

    `returned_by` names, per node, the innermost module that is called exactly once and returns that node's value.
    `enclosing` gives the innermost module (not a leaf) in whose forward the node is computed, "" for the model itself.
    """

    module: fx.GraphModule
    captured_by: CapturedBy
    returned_by: dict[fx.Node, str]
    enclosing: dict[fx.Node, str]


@dataclass
class _ModuleNames:
    """What is learnt about modules while a graph is made."""

    calls: Counter[str] = field(default_factory=Counter)
    returns: dict[fx.Node, list[str]] = field(default_factory=dict)
    enclosing: dict[fx.Node, str] = field(default_factory=dict)

    def returned_by(self) -> dict[fx.Node, str]:
        named: dict[fx.Node, str] = {}
        for node, paths in self.returns.items():
            once = [path for path in paths if self.calls[path] == 1]
            if once:
                named[node] = once[0]
        return named


_TRAINING_ONLY = frozenset(("StochasticDepth", "DropPath", "DropBlock2d", "DropBlock3d"))


class _Tracer(fx.Tracer):
    """Notes for every module call which node it returned, and for every node which module computed it."""

    def __init__(self) -> None:
        super().__init__()
        self.names = _ModuleNames()
        self._stack: list[str] = [""]

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = self.path_of_module(m)
        leaf = self.is_leaf_module(m, path)
        if not leaf:
            self._stack.append(path)
        try:
            result = super().call_module(m, forward, args, kwargs)
        finally:
            if not leaf:
                self._stack.pop()
        self.names.calls[path] += 1
        if isinstance(result, fx.Proxy):
            # Inner calls return before outer ones, so the list runs from the innermost module outwards.
            self.names.returns.setdefault(result.node, []).append(path)
        return result

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Traced in evaluation mode these would be gone for good; kept whole they come back when a side is trained.
        return type(m).__name__ in _TRAINING_ONLY or super().is_leaf_module(m, module_qualified_name)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        self.names.enclosing[node] = self._stack[-1]
        return node


def capture(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[Capture, dict[fx.Node, Value]]:
    """Capture `model` in evaluation mode, and make sure that what was captured is the model.

    Tried in turn: torch.fx; torch.export; torch.export with in-place operations rewritten. Each is run beside the
    model; one that computes something else (fx follows `isinstance(x, Tensor)` into the wrong branch without a word),
    or overwrites memory that another value still shares, is passed over.

    Args:
        model: A classifier of one image batch; its mode and parameters are left as they were.
        input_shape: The image's shape (C, H, W).

    Returns:
        The capture, and what each of its nodes computes.

    Raises:
        ModelError: the model fails, has no logits, mixes the images of a batch, or no way can follow it; the message
            names the operation.

    """
    images = torch.randn(3, *input_shape, generator=torch.Generator().manual_seed(0))
    failures: list[str] = []
    with evaluating(model), torch.no_grad():
        logits, position = _run_whole(model, images)
        for way in (_trace_fx, _trace_export, _trace_functional):
            try:
                captured = way(model, images[:2], position)
                values, found = observe(captured.module, images)
                problem = _shared_memory(captured.module, values)
                if problem is None and not _is_close(found, logits):
                    problem = "it follows another computation than the model's own"
            except Exception as error:  # noqa: BLE001 - the user's forward may raise anything when it is traced
                problem = f"stopped {_where(error)}: {_first_line(error)}"
            else:
                if problem is None:
                    return captured, values
            failures.append(f"  {_WAYS[way.__name__]}: {problem}")
    advice = "Make the forward pass independent of pixel values (no `if` or `int()` on them) and of in-place tricks."
    raise ModelError("\n".join(["the model cannot be captured.", *failures, advice]))


_WAYS = {
    "_trace_fx": "torch.fx",
    "_trace_export": "torch.export",
    "_trace_functional": "torch.export, functional",
}


def _run_whole(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Return the model's logits and their position among the leaves of its output."""
    try:
        output, fewer = model(images), model(images[:2])
    except Exception as error:
        msg = f"the model fails on images of shape {tuple(images.shape[1:])}, {_where(error)}: {_first_line(error)}"
        raise ModelError(msg) from error
    logits, alone = find_logits(output), find_logits(fewer)
    if logits is None or alone is None or (len(logits), len(alone)) != (3, 2):
        msg = "the model's output holds no logits N×K"
        raise ModelError(msg)
    if not _is_close(alone, logits) and not _keeps_images_apart(model, images):
        msg = (
            "the answer to an image depends on the others in its batch, also in evaluation mode (BatchNorm without "
            "running statistics does that): such a model cannot be analysed image by image"
        )
        raise ModelError(msg)
    position = next(number for number, leaf in enumerate(tree_leaves(output)) if leaf is logits)
    return logits, position


def _keeps_images_apart(model: nn.Module, images: torch.Tensor) -> bool:
    """Repeat the comparison of two batches in float64, where rounding cannot be the reason for a difference.

    Kernels differ with the size of the batch, and a deep network without training may magnify rounding without bound.
    """
    exact = copy.deepcopy(model).double()
    images = images.double()
    logits, alone = find_logits(exact(images)), find_logits(exact(images[:2]))
    return logits is not None and alone is not None and _is_close(alone, logits)


def _is_close(found: torch.Tensor, logits: torch.Tensor) -> bool:
    """Whether `found` is the beginning of `logits` but for rounding.

    What counts is the difference as a share of that between images: another computation changes as much as another
    image would.
    """
    spread = float((logits - logits.mean(0)).abs().max())
    tolerance = 0.02 * spread + 1e-4 * float(logits.abs().max())
    expected = logits[: len(found)]
    same = found.shape == expected.shape and torch.allclose(found, expected, rtol=0, atol=tolerance, equal_nan=True)
    # A model that overflows to NaN or infinity is a matter for the importance, which says where.
    return same or not torch.isfinite(logits).all()


def _trace_fx(model: nn.Module, example: torch.Tensor, position: int) -> Capture:
    tracer = _Tracer()
    graph = tracer.trace(model, concrete_args=_defaults(model))
    module = fx.GraphModule(model, graph, class_name=type(model).__name__)
    _thread_in_place(module)
    _keep_output(module, position)
    return Capture(module, "torch.fx", tracer.names.returned_by(), tracer.names.enclosing)


def _defaults(model: nn.Module) -> dict[str, Any]:
    """Fix every parameter of forward after the image at its default: only the image is an input."""
    parameters = list(inspect.signature(model.forward).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _trace_export(model: nn.Module, example: torch.Tensor, position: int) -> Capture:
    return _from_exported(model, _export(model, example), position)


def _trace_functional(model: nn.Module, example: torch.Tensor, position: int) -> Capture:
    return _from_exported(model, _export(model, example).run_decompositions({}), position)


def _export(model: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    return torch.export.export(model, (example,), dynamic_shapes=({0: batch},), strict=False)


def _from_exported(model: nn.Module, exported: torch.export.ExportedProgram, position: int) -> Capture:
    unlifted = exported.module(check_guards=False)
    assert isinstance(unlifted, fx.GraphModule)
    graph = unlifted.graph
    # The exported graph packs and unpacks trees of arguments and results; ours has one tensor in and one out.
    graph.set_codegen(CodeGen())
    names = _export_names(graph)
    # torch.export's own class refuses train() and eval().
    module = fx.GraphModule(unlifted, graph, class_name=type(model).__name__)
    _thread_in_place(module)
    _keep_output(module, position)
    return Capture(module, "torch.export", names.returned_by(), names.enclosing)


def _export_names(graph: fx.Graph) -> _ModuleNames:
    """Read module names from the stacks that torch.export keeps with every node.

    The exported graph has no module calls, so "returns" is rebuilt: the last node of a call is what it returns.
    A stack maps each call ("...relu@1" for the second one) to its module's path and class.
    """
    names = _ModuleNames()
    last: dict[str, tuple[int, str, fx.Node]] = {}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        stack: dict[str, tuple[str, str]] = node.meta.get("nn_module_stack", {})
        for level, (call, (path, _)) in enumerate(stack.items()):
            last[call] = level, path, node
        forwards = [path for path, kind in stack.values() if not _is_leaf_class(str(kind))]
        names.enclosing[node] = forwards[-1] if forwards else ""
    for _, path, node in sorted(last.values(), key=lambda call: -call[0]):
        if path:
            names.calls[path] += 1
            names.returns.setdefault(node, []).append(path)
    return names


def _is_leaf_class(kind: str) -> bool:
    """Whether torch.fx would keep a module of this class whole (its default rule, by name)."""
    return kind.startswith(("torch.nn.", "torch.ao.nn.")) and not kind.endswith(".Sequential")


def _thread_in_place(module: fx.GraphModule) -> None:
    """Let what comes after an in-place operation use its result.

    `self.relu(y)` with inplace=True changes y though nobody takes the result; without an edge from it the operation
    would belong to neither side of a cut.
    """
    order = {node: number for number, node in enumerate(module.graph.nodes)}
    for node in module.graph.nodes:
        target = node.args[0] if node.args else None
        if isinstance(target, fx.Node) and is_in_place(module, node):
            target.replace_all_uses_with(node, lambda user, after=order[node]: order[user] > after)


def _shared_memory(module: fx.GraphModule, values: dict[fx.Node, Value]) -> str | None:
    """Name an in-place operation that changes a value which others still read under another name."""
    base = memory_bases(values)
    order = {node: number for number, node in enumerate(module.graph.nodes)}
    for node in module.graph.nodes:
        if node not in base or not is_in_place(module, node):
            continue
        for other, memory in base.items():
            read_later = any(order[user] > order[node] for user in other.users)
            if memory is base[node] and order[other] < order[node] and read_later:
                return f"{node.name} overwrites memory that {other.name} shares"
    return None


def _keep_output(module: fx.GraphModule, position: int) -> None:
    """Reduce the output to its leaf at `position`, the logits, and drop what only others needed.

    Assertions and placeholders for defaults go too: they would tie a tail to values that it does not have.
    """
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    logits = tree_leaves(output.args[0])[position]
    if not isinstance(logits, fx.Node):
        msg = "the logits do not depend on the image"
        raise ModelError(msg)
    output.args = (logits,)
    _erase_unused(module)
    module.recompile()


def _erase_unused(module: fx.GraphModule) -> None:
    graph = module.graph
    image = next(node for node in graph.nodes if node.op == "placeholder")
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op != "output" and node is not image and not is_in_place(module, node):
            graph.erase_node(node)
    graph.lint()


def _where(error: BaseException) -> str:
    """Say in which line of the model's own code the tracing stopped."""
    frames = traceback.extract_tb(error.__traceback__)
    torch_code = str(torch.__path__[0])
    own = [f for f in frames if not f.filename.startswith((torch_code, "<")) and f.filename != __file__]
    if not own:
        return "inside torch"
    return f"at {own[-1].filename}:{own[-1].lineno}: {own[-1].line}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
