"""Trace a model with torch.export, which follows what torch.fx cannot, but fixes the model in evaluation mode."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import CodeGen
from torch.fx.node import map_arg

from isplit.design.graph.guards import GUARDS, guards_passed, symbolic_lengths
from isplit.design.graph.names import ModuleNames
from isplit.design.graph.outputs import ModelCall
from isplit.design.graph.own_functions import ExportedFunctions

_INNER = "model"


class _OneInput(nn.Module):
    """Wraps a model whose forward has other arguments or results into one with one positional input and one output.

    Args:
        model: The model.
        call: How it is called.

    """

    def __init__(self, model: nn.Module, call: ModelCall) -> None:
        super().__init__()
        self.model = model
        self._call = call

    def forward(self, images: torch.Tensor) -> Any:
        return self._call.pick(self._call(self.model, images))


def trace_with_export(model: nn.Module, example: torch.Tensor, call: ModelCall) -> tuple[fx.GraphModule, ModuleNames]:
    """Trace `model` with a batch of any size as a graph of ATen operations that returns the logits."""
    functions = ExportedFunctions()
    exported, guards = _export(model, example, call, functions)
    return _from_exported(model, exported, functions, guards)


def trace_functional(model: nn.Module, example: torch.Tensor, call: ModelCall) -> tuple[fx.GraphModule, ModuleNames]:
    """Trace `model` with torch.export, and rewrite its in-place operations and its regions of autocast.

    The casts of autocast become operations of the graph.
    """
    functions = ExportedFunctions()
    exported, guards = _export(model, example, call, functions)
    _keep_module_names(exported.graph_module)
    return _from_exported(model, exported.run_decompositions({}), functions, guards)


def _export(
    model: nn.Module, example: torch.Tensor, call: ModelCall, functions: ExportedFunctions
) -> tuple[torch.export.ExportedProgram, list[str]]:
    """Export a model; also return the lines of the guards on pixel values that were left out."""
    dynamic = ({0: torch.export.Dim("batch")},)
    with functions.kept(), symbolic_lengths(model), guards_passed() as guards:
        wrapped = _OneInput(model, call)
        return torch.export.export(wrapped, (example,), dynamic_shapes=dynamic, strict=False), guards


def _keep_module_names(module: fx.GraphModule) -> None:
    """Let the nodes inside regions of autocast keep the names of their modules when the regions are opened.

    torch.export puts a region into a graph of its own and calls it as a whole. Only an interpreter hands on what is
    known of each node.
    """
    for child in module.modules():
        if child is not module and isinstance(child, fx.GraphModule):
            child.forward = fx.Interpreter(child).run


def _open_regions(module: fx.GraphModule) -> None:
    """Put what is computed in a region without autocast, or with another gradient mode, into the graph itself.

    torch.export calls such a region as a whole, which would hide the cuts in it. Where autocast is off outside as well,
    switching it off changes nothing, and the gradient mode is for isplit to choose.
    """
    graph = module.graph
    for node in list(graph.nodes):
        name = getattr(node.target, "__name__", "") if node.op == "call_function" else ""
        if name == "wrap_with_autocast":
            _device, _dtype, enabled, _cache, region, *values = node.args
        elif name == "wrap_with_set_grad_enabled":
            enabled, (_mode, region, *values) = False, node.args
        else:
            continue
        if enabled or not isinstance(region, fx.Node):
            continue
        inner = module.get_submodule(str(region.target))
        assert isinstance(inner, fx.GraphModule)
        _open_regions(inner)
        _replace_by(graph, node, inner.graph, values)
    graph.eliminate_dead_code()


def _replace_by(graph: fx.Graph, call: fx.Node, inner: fx.Graph, values: Sequence[Any]) -> None:
    """Copy a graph to the place where it is called with `values`, and use its results for the items of the call's."""
    copies: dict[fx.Node, Any] = {}
    placeholders = [node for node in inner.nodes if node.op == "placeholder"]
    copies.update(zip(placeholders, values, strict=True))
    results: Any = ()
    for node in inner.nodes:
        if node.op == "output":
            results = map_arg(node.args[0], copies.__getitem__)
        elif node.op != "placeholder":
            with graph.inserting_before(call):
                copies[node] = graph.node_copy(node, copies.__getitem__)
    for item in list(call.users):
        item.replace_all_uses_with(results[item.args[1]])
        graph.erase_node(item)
    graph.erase_node(call)


def _restore_batch_norms(graph: fx.Graph) -> None:
    """Write the batch norms of evaluation mode as one operation again, which returns a tensor and not a tuple."""
    aten = torch.ops.aten
    for node in list(graph.nodes):
        if node.target is not aten._native_batch_norm_legit_no_training.default:
            continue
        images, weight, bias, mean, variance, momentum, epsilon = node.args
        with graph.inserting_before(node):
            args = (images, weight, bias, mean, variance, False, momentum, epsilon, False)
            norm = graph.call_function(aten.batch_norm.default, args)
        norm.meta = dict(node.meta)
        items = list(node.users)
        if all(item.args[1:] == (0,) for item in items):
            for item in items:
                item.replace_all_uses_with(norm)
                graph.erase_node(item)
            graph.erase_node(node)
        else:
            graph.erase_node(norm)


def _from_exported(
    model: nn.Module, exported: torch.export.ExportedProgram, functions: ExportedFunctions, guards: list[str]
) -> tuple[fx.GraphModule, ModuleNames]:
    unlifted = exported.module(check_guards=False)
    assert isinstance(unlifted, fx.GraphModule)
    graph = unlifted.graph
    # The exported graph packs and unpacks trees of arguments and results; ours has one tensor in and one out.
    graph.set_codegen(CodeGen())
    (output,) = (node for node in graph.nodes if node.op == "output")
    (results,) = output.args
    output.args = (results[0] if isinstance(results, tuple | list) else results,)
    _open_regions(unlifted)
    _restore_batch_norms(graph)
    functions.restore(graph)
    names = _names(graph)
    # torch.export's own class refuses train() and eval().
    module = fx.GraphModule(unlifted, graph, class_name=type(model).__name__)
    module.meta[GUARDS] = guards
    return module, names


def _names(graph: fx.Graph) -> ModuleNames:
    """Read module names from the stacks that torch.export keeps with every node.

    The exported graph has no module calls, so what a module returns is rebuilt: it is the last node of a call. A stack
    maps each call ("...relu@1" for the second one) to its module's path and class.
    """
    names = ModuleNames()
    last: dict[str, tuple[int, str, fx.Node]] = {}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        stack: dict[str, tuple[str, str]] = node.meta.get("nn_module_stack", {})
        for level, (call, (path, _)) in enumerate(stack.items()):
            last[call] = level, _plain(path), node
        forwards = [_plain(path) for path, kind in stack.values() if not _is_leaf_class(str(kind))]
        names.enclosing[node] = forwards[-1] if forwards else ""
    for _, path, node in sorted(last.values(), key=lambda call: -call[0]):
        if path:
            names.note_return(node, path)
    return names


def _plain(path: str) -> str:
    """Return a module's path in the model itself."""
    return path.removeprefix(_INNER).removeprefix(".")


def _is_leaf_class(kind: str) -> bool:
    """Return whether torch.fx would keep a module of this class whole (its default rule, by name)."""
    return kind.startswith(("torch.nn.", "torch.ao.nn.")) and not kind.endswith(".Sequential")
