"""Capture a model as a graph: torch.fx first, torch.export where fx cannot trace it.

torch.fx keeps the modules, so BatchNorm and dropout stay trainable on both sides of a cut. torch.export follows any
model whose shapes do not depend on pixel values, but fixes it in evaluation mode.
"""

import inspect
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import fx, nn

from isplit.design.graph.ops import is_in_place
from isplit.design.modes import evaluating
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

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        self.names.enclosing[node] = self._stack[-1]
        return node


def capture(model: nn.Module, example: torch.Tensor) -> Capture:
    """Capture `model` in evaluation mode.

    Args:
        model: A classifier of one image batch; its mode and parameters are left as they were.
        example: An input batch N×C×H×W with N >= 2 (torch.export takes a batch of one for a constant).

    Raises:
        ModelError: neither way can follow the model; the message names the operation.

    """
    with evaluating(model), torch.no_grad():
        try:
            return _capture_fx(model)
        except Exception as error:  # noqa: BLE001 - the user's forward may raise anything when it is traced
            fx_error = error
        try:
            return _capture_export(model, example)
        except Exception as error:
            msg = (
                "the model cannot be captured.\n"
                f"  torch.fx stopped {_where(fx_error)}: {_first_line(fx_error)}\n"
                f"  torch.export stopped {_where(error)}: {_first_line(error)}\n"
                "Make the forward pass independent of pixel values (no `if` or `int()` on them)."
            )
            raise ModelError(msg) from error


def _capture_fx(model: nn.Module) -> Capture:
    tracer = _Tracer()
    graph = tracer.trace(model, concrete_args=_defaults(model))
    module = fx.GraphModule(model, graph, class_name=type(model).__name__)
    _keep_logits(module)
    return Capture(module, "torch.fx", tracer.names.returned_by(), tracer.names.enclosing)


def _defaults(model: nn.Module) -> dict[str, Any]:
    """Fix every parameter of forward after the image at its default: only the image is an input."""
    parameters = list(inspect.signature(model.forward).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def _capture_export(model: nn.Module, example: torch.Tensor) -> Capture:
    exported = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)
    unlifted = exported.module(check_guards=False)
    assert isinstance(unlifted, fx.GraphModule)
    names = _export_names(unlifted.graph)
    # torch.export's own class refuses train() and eval().
    module = fx.GraphModule(unlifted, unlifted.graph, class_name=type(model).__name__)
    _keep_logits(module)
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


def _keep_logits(module: fx.GraphModule) -> None:
    """Reduce the output to the logits (the first of several outputs), and drop what only others needed.

    Assertions and placeholders for defaults go too: they would tie a tail to values that it does not have.
    """
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    value: Any = output.args[0]
    while not isinstance(value, fx.Node):
        if isinstance(value, dict):
            value = value.get("logits", value.get("out", next(iter(value.values()))))
        elif isinstance(value, (tuple, list)) and value:
            value = value[0]
        else:
            msg = f"the model returns {type(value).__name__}, not logits"
            raise ModelError(msg)
    output.args = (value,)
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
