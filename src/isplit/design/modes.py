"""Put a model into a state for the length of a block, and back: nothing of it survives success or failure."""

from collections.abc import Generator
from contextlib import contextmanager

from torch import nn


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
        model.eval()
        for parameter, _ in learns:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, required in learns:
            parameter.requires_grad_(required)
