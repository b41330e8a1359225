"""Keep calls of a model's own autograd functions whole while it is traced, so that they keep their own gradient.

A `torch.autograd.Function` may define a backward pass that is not the derivative of its forward pass: a
straight-through estimator, a gradient reversal. A tracer that follows the forward pass would lose it without a word.
"""

import itertools
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch.utils import checkpoint
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

Apply = Callable[..., Any]
"""The call of an autograd function: it takes the class and the arguments."""

_NAMESPACE = "isplit_own_functions"
_numbers = itertools.count()


@contextmanager
def intercepted(replacement: Callable[[Any, Apply, tuple[Any, ...], dict[str, Any]], Any]) -> Generator[None]:
    """Call `replacement(cls, apply, args, kwargs)` instead of every `cls.apply(*args, **kwargs)` in the block.

    `apply` is the original, bound to the class. A reentrant activation checkpoint is an autograd function too; it only
    saves memory in training, so its function is called directly.
    """
    function = torch.autograd.Function
    own_apply = vars(function).get("apply")
    apply: Any = next(vars(kind)["apply"] for kind in function.__mro__ if "apply" in vars(kind))

    def traced(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if cls is checkpoint.CheckpointFunction:
            checkpointed, _preserve_random_state, *inputs = args
            return checkpointed(*inputs)
        return replacement(cls, apply.__get__(None, cls), args, kwargs)

    function.apply = classmethod(traced)  # type: ignore[method-assign]
    try:
        yield
    finally:
        if own_apply is None:
            del function.apply
        else:
            function.apply = own_apply


@contextmanager
def kept_by_fx(tracer: fx.Tracer) -> Generator[None]:
    """Let torch.fx record each call as a node of its own."""

    def record(cls: Any, apply: Apply, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not any(isinstance(leaf, fx.Proxy) for leaf in tree_leaves((args, kwargs))):
            return apply(*args, **kwargs)
        return tracer.create_proxy("call_function", _named_call(cls), args, kwargs)

    with intercepted(record):
        yield


def _named_call(cls: Any) -> Callable[..., Any]:
    """Return the call of an autograd function as a function with a name, which a graph's code can show."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return cls.apply(*args, **kwargs)

    call.__name__ = cls.__name__
    call.__module__ = cls.__module__
    return call


class ExportedFunctions:
    """Operators that stand for calls of autograd functions while torch.export traces a model.

        cls.apply(x, 2.0) ─ during export ─> operator([x], []) ─ restore ─> call([x], []) = cls.apply(x, 2.0)

    An operator is opaque to torch.export: it is a node of the exported graph. `restore` then puts the call of the
    function itself in its place. Arguments that are no tensors and no sizes are kept as they are.
    """

    def __init__(self) -> None:
        self._library = torch.library.Library(_NAMESPACE, "FRAGMENT")
        self._calls: dict[Any, Callable[..., Any]] = {}

    @contextmanager
    def kept(self) -> Generator[None]:
        """Replace calls by operators in the block."""
        with intercepted(self._call_operator):
            yield

    def _call_operator(self, cls: Any, apply: Apply, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves, spec = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        sizes = [leaf for leaf in leaves if isinstance(leaf, torch.SymInt)]
        if not tensors:
            return apply(*args, **kwargs)
        pattern = _pattern(leaves)
        structure: list[TreeSpec] = []

        def run(tensors: Sequence[torch.Tensor], sizes: Sequence[Any]) -> list[torch.Tensor]:
            args, kwargs = _filled(pattern, spec, tensors, sizes)
            results, result_spec = tree_flatten(apply(*args, **kwargs))
            structure.append(result_spec)
            # An operator may not return its own input, which many of these functions do.
            return [result.clone() for result in results]

        operator = self._define(cls.__name__, run)
        self._calls[operator] = _flat_call(cls, pattern, spec)
        results = operator(tensors, sizes)
        return tree_unflatten(results, structure[-1])

    def _define(self, name: str, run: Callable[..., Any]) -> Any:
        unique_name = f"{name.lower()}_{next(_numbers)}"
        self._library.define(f"{unique_name}(Tensor[] tensors, SymInt[] sizes) -> Tensor[]")
        self._library.impl(unique_name, run, "CompositeExplicitAutograd")
        torch.library.register_fake(f"{_NAMESPACE}::{unique_name}", run, lib=self._library)
        return getattr(getattr(torch.ops, _NAMESPACE), unique_name).default

    def restore(self, graph: fx.Graph) -> None:
        """Put the calls of the functions in the place of their operators."""
        for node in list(graph.nodes):
            call = self._calls.get(node.target)
            if call is None:
                continue
            node.target = call
            items = list(node.users)
            for item in items:
                # What a single result goes through is the list that operators return.
                if len(items) == 1 and item.args == (node, 0):
                    node.target = _first_of(call)
                    item.replace_all_uses_with(node)
                    graph.erase_node(item)


_TENSOR, _SIZE = object(), object()
"""What stands for a tensor or a size in the pattern of a call's arguments."""


def _pattern(leaves: Sequence[Any]) -> list[Any]:
    return [
        _TENSOR if isinstance(leaf, torch.Tensor) else _SIZE if isinstance(leaf, torch.SymInt) else leaf
        for leaf in leaves
    ]


def _filled(
    pattern: Sequence[Any], spec: TreeSpec, tensors: Sequence[torch.Tensor], sizes: Sequence[Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call with tensors and sizes in their places."""
    next_tensor, next_size = iter(tensors), iter(sizes)
    leaves = [next(next_tensor) if leaf is _TENSOR else next(next_size) if leaf is _SIZE else leaf for leaf in pattern]
    return tree_unflatten(leaves, spec)


def _flat_call(cls: Any, pattern: Sequence[Any], spec: TreeSpec) -> Callable[..., tuple[Any, ...]]:
    """Return the call of an autograd function as a function of its tensors and sizes, which returns a tuple."""

    def call(tensors: Sequence[torch.Tensor], sizes: Sequence[int]) -> tuple[Any, ...]:
        args, kwargs = _filled(pattern, spec, tensors, sizes)
        return tuple(tree_leaves(cls.apply(*args, **kwargs)))

    call.__name__ = cls.__name__
    call.__module__ = cls.__module__
    return call


def _first_of(call: Callable[..., tuple[Any, ...]]) -> Callable[..., Any]:
    def first(tensors: Sequence[torch.Tensor], sizes: Sequence[int]) -> Any:
        return call(tensors, sizes)[0]

    first.__name__ = call.__name__
    first.__module__ = call.__module__
    return first
