"""Where the workstation computes: on its processor or on an accelerator that torch knows."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate

from isplit.errors import InputError, ModelError

CPU = torch.device("cpu")
"""The processor, where a model is unless it is placed elsewhere."""


def available_devices() -> list[str]:
    """Return the names of the devices that torch can use here, the processor first."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def resolve_device(setting: str) -> torch.device:
    """Return the device that a setting means.

    Args:
        setting: "cpu", "cuda" (the first one), "cuda:N" or "mps"; "auto" takes an accelerator where there is one.

    Raises:
        InputError: there is no such device here; nothing else is taken in its place.

    Examples:
        >>> resolve_device("cpu")
        device(type='cpu')

    """
    available = available_devices()
    if setting == "auto":
        return torch.device(available[1] if len(available) > 1 else "cpu")
    name = "cuda:0" if setting == "cuda" else setting
    if name not in available:
        msg = f"device is {setting!r}, which torch cannot use here: there is {', '.join(available)}"
        raise InputError(msg)
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """Return a device's name for records and messages, an accelerator's with that of the card.

    Examples:
        >>> describe_device(torch.device("cpu"))
        'cpu'

    """
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's numbers are; the processor for a module without any."""
    for tensors in (module.parameters(), module.buffers()):
        for tensor in tensors:
            return tensor.device
    return CPU


def synchronise(device: torch.device) -> None:
    """Wait until a device has done all that was asked of it, so that a clock can be read.

    An accelerator takes operations into a queue, and returns to the program before it has computed them.

    Args:
        device: Where something was computed. A processor is never behind.

    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def sum_device(device: torch.device) -> torch.device:
    """Return where sums in float64 are kept that are taken of tensors on a device: Apple's GPUs have no float64."""
    return CPU if device.type == "mps" else device


@contextmanager
def placed(*modules: nn.Module, device: torch.device) -> Generator[None]:
    """Hold modules on a device for the block, and bring each back to where it was.

    A graph that was captured on the CPU may name the CPU where it makes tensors. It names the device meanwhile.

    Raises:
        InputError: the device has no memory left.
        ModelError: the model's own code makes tensors on another device.

    """
    homes = [device_of(module) for module in modules]
    graphs = {id(part): part for module in modules for part in module.modules() if isinstance(part, fx.GraphModule)}
    with _explained(device), ExitStack() as stack:
        for module, home in zip(modules, homes, strict=True):
            stack.callback(module.to, home)
            module.to(device)
        if device.type == "cuda":
            stack.enter_context(_full_float32())
        for graph in graphs.values():
            stack.enter_context(_computing_on(graph, device))
        yield


@contextmanager
def _full_float32() -> Generator[None]:
    """Let NVIDIA's cards compute float32 as such; by default torch rounds factors of convolutions to 10 bits (TF32).

    A bottleneck in float32 has to make the same latent here as on the device that it is exported to.
    """
    backends: tuple[Any, ...] = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


@contextmanager
def _explained(device: torch.device) -> Generator[None]:
    """Turn torch's errors about devices into ours."""
    try:
        yield
    except RuntimeError as error:
        if device.type == "cpu":
            raise
        if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error):
            msg = f"{device} has no memory left: choose a smaller `batch_size`, or `device=cpu`"
            raise InputError(msg) from error
        if "same device" not in str(error):
            raise
        msg = (
            f"the model cannot be computed on {device}, because its code makes tensors elsewhere: make them on the "
            f"device of their input, or choose `device=cpu` ({error})"
        )
        raise ModelError(msg) from error


_FACTORIES = frozenset(
    getattr(torch, name)
    for name in "arange empty eye full linspace logspace ones rand randint randn randperm tensor zeros".split()
)
"""Functions of torch that make a tensor on the CPU unless they are told another device."""


@contextmanager
def _computing_on(module: fx.GraphModule, device: torch.device) -> Generator[None]:
    """Let a captured graph make its tensors on a device for the block, where it names the CPU or no device at all."""
    originals: list[tuple[fx.Node, tuple[Any, ...], dict[str, Any]]] = []
    if device.type != "cpu":
        for node in module.graph.nodes:
            args, kwargs = map_aggregate((node.args, node.kwargs), lambda value: _moved(value, device))
            if node.op == "call_function" and node.target in _FACTORIES and kwargs.get("device") is None:
                kwargs = {**kwargs, "device": device}
            elif node.op == "call_method" and node.target == "to":
                args = tuple(str(device) if value == "cpu" else value for value in args)
            if (args, kwargs) != (node.args, node.kwargs):
                originals.append((node, node.args, dict(node.kwargs)))
                node.args, node.kwargs = args, kwargs
        if originals:
            module.recompile()
    try:
        yield
    finally:
        for node, args, kwargs in originals:
            node.args, node.kwargs = args, kwargs
        if originals:
            module.recompile()


def _moved(value: Any, device: torch.device) -> Any:
    """Return a device of a graph's argument as the device where the graph computes; any other argument as it is."""
    return device if isinstance(value, torch.device) and value.type == "cpu" else value
