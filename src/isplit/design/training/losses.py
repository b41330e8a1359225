"""The loss of splits and of networks for compressed images: labels, and the whole model's answers."""

from math import cos, pi

import torch
from torch.nn import functional

from isplit.design.settings import FitSettings


def task_losses(
    logits: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor, settings: FitSettings
) -> dict[str, torch.Tensor]:
    """Return the loss and its parts: cross-entropy, and distillation (Hinton, Vinyals and Dean 2015).

    Args:
        logits: The network's, N×K.
        labels: Of the images, N.
        teacher: The whole model's logits of the uncompressed images, N×K.
        settings: Weight and temperature of the distillation.

    """
    soft = settings.temperature
    label_loss = functional.cross_entropy(logits, labels)
    distillation = soft**2 * functional.kl_div(
        (logits / soft).log_softmax(1), (teacher / soft).log_softmax(1), reduction="batchmean", log_target=True
    )
    loss = (1 - settings.distillation) * label_loss + settings.distillation * distillation
    return {"loss": loss, "task": label_loss, "distillation": distillation}


def share_of_rate(done: float, *, warmup: float) -> float:
    """Return the share of the highest learning rate when that share of the steps is done: up, then along a cosine."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    turn = pi * (done - warmup) / max(1e-9, 1 - warmup)
    return 0.5 * (1 + cos(turn))
