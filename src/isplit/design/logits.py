"""Which of a model's outputs are the logits."""

from collections.abc import Mapping
from typing import Any

import torch


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
    return next((found for value in values if (found := find_logits(value)) is not None), None)
