"""Where the workstation computes: on its processor or on an accelerator that torch knows."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn

from isplit.errors import InputError


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
    return torch.device("cpu")


def sum_device(device: torch.device) -> torch.device:
    """Return where sums in float64 are kept that are taken of tensors on a device: Apple's GPUs have no float64."""
    return torch.device("cpu") if device.type == "mps" else device


@contextmanager
def placed(module: nn.Module, device: torch.device) -> Generator[None]:
    """Hold a module on a device for the block, and bring it back to where it was."""
    before = device_of(module)
    if before == device:
        yield
        return
    module.to(device)
    try:
        yield
    finally:
        module.to(before)
