"""Run and trace a model without leaving a trace in it, and in the way that its graph will compute."""

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
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
                    buffer.resize_(content.shape).copy_(content)


@contextmanager
def plain_execution() -> Generator[list[str]]:
    """Let a model compute the way its graph will, and collect what is left out for that.

    torch's fused kernel for transformer layers hides what is inside them. A graph cannot hold an autocast region, so
    the model's own are left out: it computes in the precision of its parameters. Yields a list to which the names of
    dtypes are added that the model's autocast regions ask for.
    """
    left_out: list[str] = []
    autocast = torch.amp.autocast_mode.autocast
    enter, leave = autocast.__enter__, autocast.__exit__

    def skip(self: Any) -> Any:
        if getattr(self, "_enabled", False):
            left_out.append(str(getattr(self, "fast_dtype", "")).removeprefix("torch."))
        return self

    fastpath = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        autocast.__enter__, autocast.__exit__ = skip, lambda self, *error: None  # type: ignore[method-assign]
        yield left_out
    finally:
        autocast.__enter__, autocast.__exit__ = enter, leave  # type: ignore[method-assign]
        torch.backends.mha.set_fastpath_enabled(fastpath)


@contextmanager
def quiet() -> Generator[None]:
    """Silence what torch's tracers log and warn of: their failures are reported by us."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(level)
