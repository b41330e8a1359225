"""Float32 or bfloat16: what a setting means on this machine, and the context that computes in it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from isplit.records import Precision

SETTINGS = ("auto", "fp32", "bf16")
"""What users may ask for."""


def fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AMX or AVX512-BF16); elsewhere bf16 is emulated and slow."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def chosen_precision(setting: str, *, device: str = "cpu") -> Precision:
    """Return what a setting means: "auto" is bf16 on a CPU that multiplies it in hardware, and on any other device."""
    if setting == "auto":
        return "bf16" if device != "cpu" or fast_bf16() else "fp32"
    return "bf16" if setting == "bf16" else "fp32"


def autocast(precision: Precision, *, device: str = "cpu") -> AbstractContextManager[Any]:
    """Return the context in which torch's matrix products run in that precision."""
    return torch.autocast(device, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def in_float32(device: str = "cpu") -> AbstractContextManager[Any]:
    """Return a context that undoes `autocast` around it.

    Bottlenecks always compute in float32: rounding would see another latent than the encoder on the device makes.
    """
    return torch.autocast(device, enabled=False)
