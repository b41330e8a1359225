"""Let tracers pass what they cannot follow and a graph does not need: guards on pixel values, and lengths.

A model may check its images or features in Python, and raise an error or warn:

    assert torch.isfinite(x).all()
    if y.max() > 1e6:
        raise ValueError("the features are not normalised")

A graph leaves such a guard out: wherever the model gives an answer, it gives the same. What has an `else` that computes
something, or whose error the model catches to go on in another way, is no guard. And `len(x)` of a batch is an integer
for Python, which would bind a graph to the number of images in the example.
"""

import ast
import builtins
import functools
import linecache
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

import torch
from torch import fx, nn
from torch._subclasses import FakeTensor

from isplit.design.graph.diagnosis import own_place

GUARDS = "guards"
"""The key under which the `meta` of a traced graph has the lines of the guards that it leaves out."""


@contextmanager
def symbolic_lengths(model: nn.Module) -> Generator[None]:
    """Let `len(tensor)` be the symbol of the tensor's first size in the block.

    Only the files in which the model's classes are defined see it so: torch keeps a list of the built-in functions.
    """
    length = builtins.len

    def traced(value: Any, /) -> Any:
        if type(value) is fx.Proxy and not _gives_several(value.node):
            return value.size(0)
        if isinstance(value, FakeTensor) and value.dim() and isinstance(value.shape[0], torch.SymInt):
            return value.shape[0]
        return length(value)

    names = {kind.__module__ for module in model.modules() for kind in type(module).__mro__}
    files = [vars(sys.modules[name]) for name in names - {"builtins"} if name in sys.modules]
    files = [file for file in files if "len" not in file and not str(file.get("__file__")).startswith(_TORCH)]
    try:
        for file in files:
            file["len"] = traced
        yield
    finally:
        for file in files:
            file.pop("len", None)


def _gives_several(node: fx.Node) -> bool:
    """Return whether a node gives sizes or several tensors, whose number is not the first size of a tensor."""
    return str(getattr(node.target, "__name__", node.target)).strip("_") in _SEVERAL


_SEVERAL = frozenset("size shape stride split chunk unbind tensor_split hsplit vsplit dsplit meshgrid getattr".split())


@contextmanager
def guards_passed() -> Generator[list[str]]:
    """Let guards pass in the block while torch.export traces a model; yield the list of their lines.

    See `guard_value` for torch.fx, which asks its tracer.
    """
    places: list[str] = []
    original = torch.Tensor.__bool__

    def traced(self: torch.Tensor) -> bool:
        value = guard_value(sys._getframe(1), places) if isinstance(self, FakeTensor) else None
        return original(self) if value is None else value

    with patch.object(torch.Tensor, "__bool__", traced):
        yield places


def guard_value(frame: FrameType | None, places: list[str]) -> bool | None:
    """Return the truth value with which the guard that a frame is at passes, and note its line in `places`.

    Whatever is returned, nothing but the guard depends on it. None is returned where the statement is no guard, where
    the model catches what it raises, or where its condition asks for values in both ways (`a.any() and not b.any()`).
    """
    while frame is not None and frame.f_code.co_filename.startswith(_FX):
        frame = frame.f_back
    if frame is None:
        return None
    statement = _statement(_source(frame), frame.f_lineno)
    if statement is None or not _is_guard(statement) or _is_caught(frame, _raised(statement, frame)):
        return None
    values = set(_wanted(statement.test, isinstance(statement, ast.Assert)))
    if len(values) != 1:
        return None
    place = own_place(traceback.extract_stack(frame))
    if place not in places:
        places.append(place)
    return values.pop()


_TORCH = str(torch.__path__[0])
_FX = f"{_TORCH}/fx/"
_HERE = str(Path(__file__).parent)
_TRACERS = frozenset(("trace_with_fx", "trace_with_export", "trace_functional"))
"""The functions that begin a trace: what calls them is none of the model's code."""


def _source(frame: FrameType) -> str:
    path = frame.f_code.co_filename
    linecache.checkcache(path)  # a file may have been edited and loaded again
    return "".join(linecache.getlines(path, frame.f_globals))


@functools.lru_cache(maxsize=32)
def _tree(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def _statement(source: str, line: int) -> ast.If | ast.Assert | None:
    """Return the `if` or `assert` whose condition stands on a line of a source, or None."""
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.If | ast.Assert) and node.test.lineno <= line <= (node.test.end_lineno or line):
            return node
    return None


def _is_guard(statement: ast.If | ast.Assert) -> bool:
    """Return whether a statement does nothing but complain; an `else` may follow if the `if` always raises."""
    if isinstance(statement, ast.Assert):
        return True
    raises = any(isinstance(step, ast.Raise) for step in statement.body)
    return all(map(_only_complains, statement.body if raises else [*statement.body, *statement.orelse]))


def _raised(statement: ast.If | ast.Assert, frame: FrameType) -> tuple[type[BaseException], ...] | None:
    """Return the classes of the errors that a guard may raise, or None if they cannot be told."""
    if isinstance(statement, ast.Assert):
        return (AssertionError,)
    errors = [step.exc for step in ast.walk(statement) if isinstance(step, ast.Raise)]
    kinds = [_class_of(error.func if isinstance(error, ast.Call) else error, frame) for error in errors]
    return tuple(kind for kind in kinds if kind is not None) if kinds and all(kinds) else None


def _class_of(expression: ast.expr | None, frame: FrameType) -> type[BaseException] | None:
    """Return the class of errors that a name stands for at a frame, or None where it is not such a name."""
    names = ast.unparse(expression).split(".") if isinstance(expression, ast.Name | ast.Attribute) else [""]
    first = next(
        (scope[names[0]] for scope in (frame.f_locals, frame.f_globals, vars(builtins)) if names[0] in scope), None
    )
    value = functools.reduce(lambda owner, name: getattr(owner, name, None), names[1:], first)
    return value if isinstance(value, type) and issubclass(value, BaseException) else None


def _is_caught(frame: FrameType | None, raised: tuple[type[BaseException], ...] | None) -> bool:
    """Return whether an error at a frame may be caught in the model's own code, which then goes on.

    Args:
        frame: Where the error would be raised.
        raised: The classes of the error, or None if it may be of any.

    """
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_HERE) and frame.f_code.co_name in _TRACERS:
            return False
        if not path.startswith((_HERE, _TORCH)) and _catches(frame, raised):
            return True
        frame = frame.f_back
    return False


def _catches(frame: FrameType, raised: tuple[type[BaseException], ...] | None) -> bool:
    """Return whether a frame is in a `suppress`, or in a `try` that handles such errors and goes on."""
    line = frame.f_lineno
    for node in ast.walk(_tree(_source(frame))):
        if isinstance(node, ast.Try | ast.TryStar):
            catches = any(
                not isinstance(handler.body[-1], ast.Raise) and _may_handle(handler.type, raised, frame)
                for handler in node.handlers
            )
        elif isinstance(node, ast.With):
            catches = any("suppress" in ast.unparse(item.context_expr) for item in node.items)
        else:
            continue
        if catches and node.body[0].lineno <= line <= (node.body[-1].end_lineno or line):
            return True
    return False


def _may_handle(caught: ast.expr | None, raised: tuple[type[BaseException], ...] | None, frame: FrameType) -> bool:
    """Return whether `except caught` may catch one of the errors; what cannot be told may."""
    if caught is None or raised is None:
        return True
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    kinds = [_class_of(name, frame) for name in names]
    return any(kind is None or issubclass(error, kind) for kind in kinds for error in raised)


def _only_complains(statement: ast.stmt) -> bool:
    """Return whether a statement raises an error, calls a function that only prints or warns, or chooses among them."""
    if isinstance(statement, ast.Raise | ast.Pass):
        return True
    if isinstance(statement, ast.If):
        return all(map(_only_complains, [*statement.body, *statement.orelse]))
    if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)):
        return False
    function = statement.value.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("print", "warn", "warning", "warn_once")


def _wanted(test: ast.expr, value: bool) -> Generator[bool]:
    """Yield the truth values that the parts of a condition should have so that all of it has `value`."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield from _wanted(test.operand, not value)
    elif isinstance(test, ast.BoolOp):
        for part in test.values:
            yield from _wanted(part, value)
    else:
        yield value
