"""Run a model: in evaluation mode, in a chosen precision, and with the logits picked out of its output."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.amp.autocast_mode import is_autocast_available

from isplit.design.devices import CPU
from isplit.errors import InputError
from isplit.records import Precision


@contextmanager
def evaluating(model: nn.Module, *, frozen: bool = False) -> Generator[None]:
    """Hold the model in evaluation mode for the block, and give every module its own mode back.

    Args:
        model: Any module.
        frozen: Also switch off gradients of all parameters, so that backward computes only those of activations.

    """
    modes = [(module, module.training) for module in model.modules()]
    learns = [(parameter, parameter.requires_grad) for parameter in model.parameters()] if frozen else []
    try:
        if any(training for _, training in modes):  # walking a large model takes as long as a GPU's forward pass
            model.eval()
        for parameter, required in learns:
            if required:
                parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            if module.training != mode:
                module.training = mode
        for parameter, required in learns:
            if parameter.requires_grad != required:
                parameter.requires_grad_(required)


def fast_bf16(device: torch.device = CPU) -> bool:
    """Return whether a device multiplies bfloat16 in hardware; elsewhere it is emulated and slow, or not there.

    Processors do with AMX or AVX512-BF16, NVIDIA's cards from Ampere on. Of others torch does not say, so they do not.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def chosen_precision(setting: str, *, device: torch.device = CPU) -> Precision:
    """Return what a setting means on a device: "auto" is bf16 where `fast_bf16`, and float32 elsewhere.

    Raises:
        InputError: bf16 is asked of an accelerator that has none.

    """
    if setting == "auto":
        return "bf16" if fast_bf16(device) else "fp32"
    if setting == "bf16" and device.type != "cpu" and not fast_bf16(device):
        msg = f"precision is 'bf16', which {device} does not have in hardware: choose `precision=fp32`"
        raise InputError(msg)
    return "bf16" if setting == "bf16" else "fp32"


def autocast(precision: Precision, *, device: torch.device = CPU) -> AbstractContextManager[Any]:
    """Return the context in which torch's matrix products run on a device in that precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def in_float32(device: torch.device = CPU) -> AbstractContextManager[Any]:
    """Return a context that undoes `autocast` around it.

    Bottlenecks always compute in float32: rounding would see another latent than the encoder on the device makes.
    """
    return torch.autocast(device.type, enabled=False) if is_autocast_available(device.type) else nullcontext()


def find_logits(output: Any) -> torch.Tensor | None:
    """Return the logits N×K in a model's output, or None.

    The output is a tensor, or tuples, lists and mappings of them. Under the key "logits" or "out" of a mapping, else
    the first N×K tensor in order.
    """
    if isinstance(output, torch.Tensor):
        return output if output.ndim == 2 else None
    if isinstance(output, Mapping):
        named = [output[key] for key in ("logits", "out") if key in output]
        values = [*named, *output.values()]
    else:
        values = list(output) if isinstance(output, tuple | list) else []
    return next((logits for value in values if (logits := find_logits(value)) is not None), None)
