"""Run and trace a model without leaving a trace in it, and in the way that its graph will compute."""

import io
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import nn


@contextmanager
def preserved(model: nn.Module) -> Generator[None]:
    """Give every module its attributes and buffers back after the block.

    A forward pass may count its calls, keep its last features, or update statistics of what it sees (the observers of
    quantisation-aware training do so in evaluation mode too). Tracing would even leave symbols behind.
    """
    attributes = [(module, dict(module.__dict__)) for module in model.modules()]
    containers = [
        (value, value.copy())
        for _, values in attributes
        for value in values.values()
        if type(value) in (dict, list, set)
    ]
    buffers = [(buffer, buffer.detach().clone(), buffer._version) for buffer in model.buffers()]
    try:
        yield
    finally:
        for module, values in attributes:
            module.__dict__.clear()
            module.__dict__.update(values)
        for container, content in containers:
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)
        with torch.no_grad():
            for buffer, content, version in buffers:
                if buffer._version != version:
                    if buffer.shape != content.shape:  # a buffer with a history refuses to be resized at all
                        buffer.resize_(content.shape)
                    buffer.copy_(content)


@contextmanager
def without_hooks(model: nn.Module) -> Generator[int]:
    """Take the hooks off that users put on a model's forward pass, and put them back after the block.

    torch's own hooks stay: those of pruning and of weight norm compute weights.

    Yields:
        How many hooks are off.

    """
    tables = [table for module in model.modules() for table in (module._forward_hooks, module._forward_pre_hooks)]
    contents = [dict(table) for table in tables]
    number = 0
    try:
        for table, content in zip(tables, contents, strict=True):
            for key, hook in content.items():
                if not _home_of(hook).startswith("torch."):
                    del table[key]
                    number += 1
        yield number
    finally:
        for table, content in zip(tables, contents, strict=True):
            table.clear()
            table.update(content)


def _home_of(hook: Any) -> str:
    """Return the name of the module of Python that a hook comes from."""
    return str(getattr(hook, "__module__", None) or type(hook).__module__)


@contextmanager
def plain_execution(*, with_autocast: bool = True) -> Generator[list[str]]:
    """Let a model compute the way its graph will.

    torch's fused kernel for transformer layers hides what is inside them, so it is switched off.

    Args:
        with_autocast: False leaves out the model's own regions of autocast, which torch.fx cannot follow: the model
            then computes in the precision of its parameters.

    Yields:
        A list to which the dtype of each autocast region is added that the model enters ("bfloat16").

    """
    dtypes: list[str] = []
    autocast = torch.amp.autocast_mode.autocast
    enter, leave = autocast.__enter__, autocast.__exit__

    def noted_enter(self: Any) -> Any:
        if getattr(self, "_enabled", False):
            dtypes.append(str(getattr(self, "fast_dtype", "")).removeprefix("torch."))
        return enter(self) if with_autocast else self

    fastpath = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        autocast.__enter__ = noted_enter  # type: ignore[method-assign]
        if not with_autocast:
            autocast.__exit__ = lambda self, *error: None  # type: ignore[method-assign]
        yield dtypes
    finally:
        autocast.__enter__, autocast.__exit__ = enter, leave  # type: ignore[method-assign]
        torch.backends.mha.set_fastpath_enabled(fastpath)


@contextmanager
def quiet() -> Generator[None]:
    """Silence what torch's tracers log, warn of and print: their failures are reported by us.

    torch.export prints the graph that it had come to when it refuses a model.
    """
    level = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(level)
