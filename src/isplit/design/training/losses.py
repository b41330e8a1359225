"""Compute the loss of splits and of networks for compressed images, from labels and the whole model's answers."""

from math import cos, pi

import torch
from torch.nn import functional

from isplit.design.settings import FitSettings


def task_losses(
    logits: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor, settings: FitSettings
) -> dict[str, torch.Tensor]:
    """Return the loss and its parts: cross-entropy, and distillation (Hinton, Vinyals and Dean 2015).

    Args:
        logits: The logits of the network that learns (N×K).
        labels: The classes of the images (N).
        teacher: The whole model's logits of the uncompressed images (N×K).
        settings: The weight and the temperature of the distillation.

    """
    soft = settings.temperature
    label_loss = functional.cross_entropy(logits, labels)
    distillation = soft**2 * functional.kl_div(
        (logits / soft).log_softmax(1), (teacher / soft).log_softmax(1), reduction="batchmean", log_target=True
    )
    loss = (1 - settings.distillation) * label_loss + settings.distillation * distillation
    return {"loss": loss, "task": label_loss, "distillation": distillation}


def share_of_rate(done: float, *, warmup: float) -> float:
    """Return the learning rate as a share of its highest value, when the share `done` of the steps is done.

    The rate rises linearly during the share `warmup` of the steps, and then falls along a cosine.
    """
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    turn = pi * (done - warmup) / max(1e-9, 1 - warmup)
    return 0.5 * (1 + cos(turn))
