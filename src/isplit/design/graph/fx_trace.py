"""Trace a model with torch.fx, which keeps its modules."""

import functools
import inspect
import keyword
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_map

from isplit.design.graph.guards import GUARDS, guard_value, symbolic_lengths
from isplit.design.graph.names import ModuleNames
from isplit.design.graph.opened import CONTAINERS, OPENED, RECURRENT, recurrent_layers
from isplit.design.graph.outputs import ModelCall, image_keyword
from isplit.design.graph.own_functions import kept_by_fx

_TRAINING_ONLY = frozenset(("StochasticDepth", "DropPath", "DropBlock2d", "DropBlock3d"))
_CALL = nn.Module.__call__


def trace_with_fx(model: nn.Module, example: torch.Tensor, call: ModelCall) -> tuple[fx.GraphModule, ModuleNames]:
    """Trace `model` as a graph of one image batch that returns the logits.

    Modules of torch.nn are nodes of the graph and stay trainable; only those that hold layers of their own are traced
    into. Parameters and modules are shared with the model. `example` is not used: torch.fx follows symbols.
    """
    tracer = _Tracer(call)
    with kept_by_fx(tracer), symbolic_lengths(model):
        graph = tracer.trace(model)
    objects: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op in _NAMED:
            value = tracer.object_at(str(node.target))
            node.target = _free_name(graph, node, value)
            objects[node.target] = value
    module = fx.GraphModule(objects, graph, class_name=type(model).__name__)
    module.training = model.training
    module.meta[GUARDS] = tracer.guards
    return module, tracer.names


_NAMED = ("call_module", "get_attr")


def _free_name(graph: fx.Graph, node: fx.Node, value: Any) -> str:
    """Return the name that a module or tensor can have in the graph module; nearly always its own.

    A model may call its submodules `graph` or `code`, which are attributes of the graph module itself, or by a word of
    Python's own (`class`), which a graph's code cannot name. And a plain tensor inside a module that is a node cannot
    be put there again.
    """
    name = ".".join(f"{part}_" if keyword.iskeyword(part) else part for part in str(node.target).split("."))
    first, dot, rest = name.partition(".")
    if first in _RESERVED:
        name = f"{first}_{dot}{rest}"
    if node.op == "get_attr" and not isinstance(value, nn.Parameter):
        modules = {str(other.target) for other in graph.nodes if other.op == "call_module"}
        parts = name.split(".")
        if any(".".join(parts[:count]) in modules for count in range(1, len(parts))):
            return name.replace(".", "__")
    return name


_RESERVED = (set(dir(fx.GraphModule)) - set(dir(nn.Module))) | {"meta"}


class _Tracer(fx.Tracer):
    """Notes for every module call which node it returned, and for every node which module computed it."""

    def __init__(self, call: ModelCall) -> None:
        super().__init__()
        self.names = ModuleNames()
        self.guards: list[str] = []
        self._call = call
        self._stack: list[str] = [""]
        self._added: dict[str, Any] = {}

    def object_at(self, path: str) -> Any:
        """Return the module or tensor that a node's target names."""
        if path in self._added:
            return self._added[path]
        return functools.reduce(getattr, path.split("."), self.root)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Make the image batch the only input, whatever else the forward pass takes."""
        model = self.root
        assert isinstance(model, nn.Module)
        name = image_keyword(model) or _first_parameter(root_fn)
        image = self.create_proxy("placeholder", name, (), {})
        extra = {}
        for key, value in self._call.extra_inputs.items():
            extra[key] = value
            if isinstance(value, torch.Tensor):
                self._added[f"extra_input_{key}"] = value
                extra[key] = self.create_proxy("get_attr", f"extra_input_{key}", (), {})
                if value.dim() > 0 and value.shape[0] == 1:
                    extra[key] = extra[key].expand(image.size(0), *value.shape[1:])

        def forward(root: nn.Module, images: Any) -> Any:
            keyword = image_keyword(root)
            arguments = {keyword: images, **extra} if keyword else extra
            positional = () if keyword else (images,)
            # Hooks of the model itself count as well; fx has replaced __call__ by a function that expects a submodule.
            hooked = root._forward_hooks or root._forward_pre_hooks
            output = _CALL(root, *positional, **arguments) if hooked else root.forward(*positional, **arguments)
            return self._call.pick(output)

        return forward, [model, image]

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        path = self.path_of_module(m)
        if isinstance(m, torch.jit.ScriptModule):  # it has no Python code to follow
            result = self.create_proxy("call_module", path, args, kwargs)
            self.names.note_return(result.node, path)
            return result
        if isinstance(m, RECURRENT) and self.is_leaf_module(m, path):
            return self._call_recurrent(m, forward, args, kwargs)
        opened = OPENED.get(type(m).forward)
        if opened is not None and not (m._forward_hooks or m._forward_pre_hooks):
            forward = functools.partial(opened, m)
        leaf = self.is_leaf_module(m, path)
        if not leaf:
            self._stack.append(path)
        try:
            result = super().call_module(m, forward, args, kwargs)
        finally:
            if not leaf:
                self._stack.pop()
        if isinstance(result, fx.Proxy):
            # Inner calls return before outer ones, so the list runs from the innermost module outwards.
            self.names.note_return(result.node, path)
        else:
            self.names.calls[path] += 1
        return result

    def _call_recurrent(
        self, module: nn.RNNBase, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Call the layers of a recurrent network one by one, and name the sequence that it returns after it."""
        path = self.path_of_module(module)
        initial = len(args) > 1 or kwargs.get("hx") is not None
        if initial or module.num_layers == 1:
            sequence, states = _unpack(super().call_module(module, forward, args, kwargs))
            self.names.note_return(sequence.node, path)
            return sequence, states
        sequence = args[0] if args else kwargs["input"]
        collected: list[Any] = []
        for number, layer in enumerate(recurrent_layers(module)):
            name = f"{path}_layer{number}"
            self._added[name] = layer
            sequence, states = _unpack(self.create_proxy("call_module", name, (sequence,), {}))
            self.names.note_return(sequence.node, f"{path}.layer{number}")
            collected.append(states)
        self.names.note_return(sequence.node, path)
        directions = 2 if module.bidirectional else 1
        if not isinstance(module, nn.LSTM):
            return sequence, _States(collected, directions)
        return sequence, tuple(_States([states[part] for states in collected], directions) for part in (0, 1))

    def create_arg(self, a: Any) -> Any:
        return super().create_arg(a.joined() if isinstance(a, _States) else a)

    def to_bool(self, obj: fx.Proxy) -> bool:
        value = guard_value(sys._getframe(1), self.guards)
        return super().to_bool(obj) if value is None else value

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (*CONTAINERS, nn.Transformer)):
            return False
        if isinstance(m, torch.ao.quantization.FakeQuantizeBase | torch.ao.quantization.ObserverBase):
            return True
        # Traced in evaluation mode these would be gone for good; kept whole they come back when a side is trained.
        return type(m).__name__ in _TRAINING_ONLY or super().is_leaf_module(m, module_qualified_name)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        self.names.enclosing[node] = self._stack[-1]
        return node


def _first_parameter(forward: Any) -> str:
    """Return the name of the first parameter of a forward pass after self, for the placeholder."""
    code = getattr(inspect.unwrap(forward), "__code__", None)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] if code else ()
    return names[1] if len(names) > 1 else "images"


def _unpack(pair: Any) -> tuple[Any, Any]:
    return pair[0], pair[1]


class _States:
    """The last states of the layers of a recurrent network, which its own module gives as one tensor (L·D)×N×H.

    Most models read the last layer's only (`h[-1]`); then no other layer's state has to cross a cut.
    """

    def __init__(self, layers: list[Any], directions: int) -> None:
        self._layers = layers
        self._directions = directions

    def joined(self) -> Any:
        """Return all states as one tensor."""
        return torch.cat(self._layers)

    def __len__(self) -> int:
        return len(self._layers) * self._directions

    def __iter__(self) -> Iterator[Any]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        first, *others = key if isinstance(key, tuple) else (key,)
        if not isinstance(first, int) or not -len(self) <= first < len(self):
            return self.joined()[key]
        layer, direction = divmod(first % len(self), self._directions)
        return self._layers[layer][(direction, *others) if others else direction]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.joined(), name)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(lambda leaf: leaf.joined() if isinstance(leaf, cls) else leaf, (args, kwargs or {}))
        return function(*args, **kwargs)
