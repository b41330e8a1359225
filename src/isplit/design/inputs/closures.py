"""Functions inside a copied model that refer to the model itself: hooks, and forward passes that were put in its place.

`copy.deepcopy` takes a function as it is, so that a hook of the copy would go on to use the original's layers:

    model.layer.register_forward_hook(lambda module, inputs, output: output * model.scale)
"""

import copy
import functools
from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

import torch
from torch import nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def rebind_functions(copied: nn.Module, memo: dict[int, Any]) -> None:
    """Let the hooks and functions in a copied model use the copy wherever they used the original.

    Functions are looked for among the hooks and the attributes of each module. What they refer to is what their
    closures, their default values and global names hold.

    Args:
        copied: The copy of a model; its functions are replaced, never changed.
        memo: The memo of `copy.deepcopy` that the copy was made with: the identity of each original object to its copy.

    """
    rebinding = _Rebinding(memo)
    for module in copied.modules():
        for name in _HOOKS:
            hooks = getattr(module, name, {})
            for key, hook in list(hooks.items()):
                hooks[key] = rebinding.function(hook)
        for name, value in list(vars(module).items()):
            if isinstance(value, FunctionType | functools.partial):
                module.__dict__[name] = rebinding.function(value)


class _Rebinding:
    """Copies functions for which something that they refer to was copied."""

    def __init__(self, memo: dict[int, Any]) -> None:
        self._memo = memo
        self._cells: dict[int, CellType] = {}
        self._originals: list[Any] = []  # kept alive, so that no identity is used twice

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that refers to the copies, or the function itself if it refers to no original."""
        if isinstance(function, functools.partial):
            inner = self.function(function.func)
            return function if inner is function.func else functools.partial(inner, *function.args, **function.keywords)
        if not isinstance(function, FunctionType):
            return function
        if id(function) in self._memo:
            return self._memo[id(function)]
        self._memo[id(function)] = function  # a function may refer to itself
        closure = tuple(self._cell(cell) for cell in function.__closure__ or ())
        defaults = tuple(self._value(value) for value in function.__defaults__ or ()) or None
        names = {name: function.__globals__[name] for name in _global_names(function) if name in function.__globals__}
        replaced = {name: self._value(value) for name, value in names.items() if _may_change(value)}
        changed = {name: value for name, value in replaced.items() if value is not names[name]}
        same_cells = all(new is old for new, old in zip(closure, function.__closure__ or (), strict=True))
        same_defaults = all(new is old for new, old in zip(defaults or (), function.__defaults__ or (), strict=True))
        if same_cells and same_defaults and not changed:
            return function
        scope = {**function.__globals__, **changed} if changed else function.__globals__
        rebound = FunctionType(function.__code__, scope, function.__name__, defaults, closure or None)
        rebound.__kwdefaults__ = function.__kwdefaults__
        functools.update_wrapper(rebound, function, updated=("__dict__",))
        rebound.__dict__.pop("__wrapped__", None)
        self._memo[id(function)] = rebound
        self._originals.append(function)
        return rebound

    def _cell(self, cell: CellType) -> CellType:
        if id(cell) in self._cells:
            return self._cells[id(cell)]
        try:
            content = cell.cell_contents
        except ValueError:  # a variable that has no value yet
            return cell
        value = self._value(content)
        self._cells[id(cell)] = new = cell if value is content else CellType(value)
        self._originals.append(cell)
        return new

    def _value(self, value: Any) -> Any:
        """Return what stands for a value in the copy: the value itself, unless it is or holds a part of the model."""
        if isinstance(value, FunctionType | functools.partial):
            return self.function(value)
        if id(value) in self._memo:
            return self._memo[id(value)]
        if isinstance(value, list | tuple | dict | set) and any(self._is_part(item) for item in _items(value)):
            return copy.deepcopy(value, self._memo)
        owner = getattr(value, "__self__", None)  # a bound method
        if self._is_part(owner) and hasattr(value, "__func__"):
            return copy.deepcopy(value, self._memo)
        return value

    def _is_part(self, value: Any) -> bool:
        return isinstance(value, nn.Module | torch.Tensor) and id(value) in self._memo


def _items(container: Any) -> list[Any]:
    return list(container.values()) if isinstance(container, dict) else list(container)


def _global_names(function: FunctionType) -> tuple[str, ...]:
    return function.__code__.co_names


def _may_change(value: Any) -> bool:
    """Return whether a global name may stand for a part of the model; functions of a module are left alone."""
    return isinstance(value, nn.Module | torch.Tensor | list | tuple | dict)
