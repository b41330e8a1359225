"""Let tracers pass what they cannot follow and a graph does not need: guards on pixel values, and lengths.

A model may check its images or features in Python, and raise an error or warn:

    assert torch.isfinite(x).all()
    if y.max() > 1e6:
        raise ValueError("the features are not normalised")

A graph leaves such a guard out: wherever the model gives an answer, it gives the same. And `len(x)` of a batch is an
integer for Python, which would bind a graph to the number of images in the example.
"""

import ast
import builtins
import functools
import linecache
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

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

    torch.Tensor.__bool__ = traced  # type: ignore[method-assign]
    try:
        yield places
    finally:
        torch.Tensor.__bool__ = original  # type: ignore[method-assign]


def guard_value(frame: FrameType | None, places: list[str]) -> bool | None:
    """Return the truth value with which the guard that a frame is at passes, and note its line in `places`.

    Whatever is returned, nothing but the guard depends on it. None is returned where the statement is no guard, or
    where its condition asks for values in both ways (`a.any() and not b.any()`).
    """
    while frame is not None and frame.f_code.co_filename.startswith(_FX):
        frame = frame.f_back
    if frame is None:
        return None
    statement = _statement(frame.f_code.co_filename, frame.f_lineno)
    if statement is None or (isinstance(statement, ast.If) and not all(map(_only_complains, statement.body))):
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


@functools.lru_cache(maxsize=512)
def _statement(path: str, line: int) -> ast.If | ast.Assert | None:
    """Return the `if` or `assert` whose condition stands on a line of a file, or None."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.If | ast.Assert) and node.test.lineno <= line <= (node.test.end_lineno or line):
            return node
    return None


@functools.lru_cache(maxsize=32)
def _tree(path: str) -> ast.Module:
    try:
        return ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def _only_complains(statement: ast.stmt) -> bool:
    """Return whether a statement raises an error, or calls a function that only prints or warns."""
    if isinstance(statement, ast.Raise | ast.Pass):
        return True
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
