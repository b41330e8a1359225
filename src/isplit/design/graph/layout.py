"""Lay a model's weights out in memory so that convolutions are fast, where the model allows it."""

import torch
from torch import nn

from isplit.design.graph.isolation import plain_execution, preserved, quiet
from isplit.design.graph.outputs import ModelCall
from isplit.design.graph.trial import is_close
from isplit.design.running import evaluating
from isplit.records import Cut


def use_channels_last(model: nn.Module, input_shape: tuple[int, ...], call: ModelCall) -> tuple[bool, list[str]]:
    """Lay a model's weights out channels-last if it computes the same so, else contiguous.

    Some models depend on the layout of their maps: `x.view(N, -1)` after a convolution fails on channels-last maps, and
    `torch.as_strided` reads other values.

    Args:
        model: Its weights are moved in memory; their values stay.
        input_shape: The image's shape (C, H, W).
        call: How the model is called.

    Returns:
        Whether the weights are channels-last now, and a notice if they are not.

    """
    images = torch.randn(3, *input_shape, generator=torch.Generator().manual_seed(0))
    with evaluating(model), torch.no_grad(), plain_execution(), quiet():
        try:
            with preserved(model):
                expected = call.logits(model, images.clone()).float()
        except Exception:  # noqa: BLE001 - a model that fails in any layout is for the capture to report
            return False, []
        model.to(memory_format=torch.channels_last)
        try:
            with preserved(model):
                answers = call.logits(model, images.clone()).float()
            if is_close(answers, expected, share=0.05):
                return True, []
            reason = "it answers otherwise there"
        except Exception as error:  # noqa: BLE001 - the user's forward may raise anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        model.to(memory_format=torch.contiguous_format)
    return False, [f"the model is computed with channels first in memory, which is slower; channels last: {reason}"]


def lay_out(tensor: torch.Tensor, cut: Cut, *, channels_last: bool) -> torch.Tensor:
    """Give a tensor that was made for a cut the memory layout that the model's own has there.

    Values are the same in any layout, but kernels are chosen by it, and speed with them.

    Args:
        tensor: N×C×H×W or any other shape, which stays as it is.
        cut: Where it crosses.
        channels_last: Whether the model's weights are channels-last.

    """
    if channels_last and tensor.dim() == 4 and cut.channel_axis == 1:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor
