"""Scores of how much a tensor matters for a decision, from its values and the gradient of the decision.

Every method is a function (activation, gradient, channel_axis) -> one value per image. Activation and gradient have
the same shape: N×C×H×W or N×C×… (channel_axis 1), or N×…×C (channel_axis -1: tokens, channels-last maps). Values are
at least 0, in units of the logit, computed per image, so that a batch gives what its images give one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from isplit.records import Cut

Score = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


def cam(activation: torch.Tensor, gradient: torch.Tensor, channel_axis: int) -> torch.Tensor:
    """Return Grad-CAM's map L = ReLU(mean_k alpha_k A_k), alpha_k = mean over positions of dy/dA_k.

    Selvaraju et al. (ICCV 2017), equations 1 and 2, with I-SPLIT's mean over the K channels in place of their sum,
    so that layers of different width compare. Not upsampled, not scaled.

    Args:
        activation: N×C×H×W, N×C×…, or N×…×C.
        gradient: The same shape.
        channel_axis: 1 or -1.

    Returns:
        N×P float32, P the number of positions in the order of the tensor's own spatial or token axes.

    """
    if channel_axis == 1 and not activation.is_contiguous(memory_format=torch.contiguous_format):
        # Channels-last memory: seen as N×…×C both products read it once from front to back.
        activation, gradient, channel_axis = activation.movedim(1, -1), gradient.movedim(1, -1), -1
    if channel_axis == 1:
        activation, gradient = activation.flatten(2), gradient.flatten(2)
        positions = 2
    else:
        activation, gradient = activation.flatten(1, -2), gradient.flatten(1, -2)
        positions = 1
    # bfloat16 is summed in float32. A plain sum, and a row vector times the matrix, are several times faster than
    # mean() and the matrix times a column vector.
    alpha = gradient.sum(positions, dtype=torch.float32 if gradient.dtype == torch.bfloat16 else None)
    row = alpha.div_(gradient.shape[positions] * alpha.shape[1]).to(activation.dtype).unsqueeze(1)
    weighted = torch.bmm(row, activation if channel_axis == 1 else activation.transpose(1, 2)).squeeze(1)
    return torch.relu_(weighted.float())


def cui(activation: torch.Tensor, gradient: torch.Tensor, channel_axis: int) -> torch.Tensor:
    """Return the cumulated importance: the mean of `cam` over positions (I-SPLIT, Cunico et al., ICPR 2022)."""
    return cam(activation, gradient, channel_axis).mean(1)


def gradient_activation(activation: torch.Tensor, gradient: torch.Tensor, channel_axis: int) -> torch.Tensor:
    """Return the mean of |activation × gradient| over all elements (Shrikumar et al. 2016, at an inner layer)."""
    return (activation * gradient).abs_().mean(tuple(range(1, activation.dim())), dtype=torch.float32)


def gradient_energy(activation: torch.Tensor, gradient: torch.Tensor, channel_axis: int) -> torch.Tensor:
    """Return the mean of gradient² over all elements: what unit noise on the tensor does to the logit, squared."""
    return gradient.square().mean(tuple(range(1, gradient.dim())), dtype=torch.float32)


@dataclass(frozen=True)
class ImportanceMethod:
    """A score with its name for tables and plots; called, it reduces a cut in a `GradientPass`."""

    score: Score
    title: str

    def __call__(self, activation: torch.Tensor, gradient: torch.Tensor, cut: Cut) -> torch.Tensor:
        """Return one value per image."""
        return self.score(activation, gradient, cut.channel_axis or 1)


METHODS: dict[str, ImportanceMethod] = {
    "cui": ImportanceMethod(cui, "CUI"),
    "gradient-activation": ImportanceMethod(gradient_activation, "|gradient × activation|"),
    "gradient-energy": ImportanceMethod(gradient_energy, "gradient energy"),
}
