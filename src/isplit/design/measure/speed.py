"""How fast this machine runs a model in torch: what estimates of how long work will take are made from."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from isplit.design.devices import device_of
from isplit.design.inputs.models import LoadedModel
from isplit.design.running import evaluating

_BATCH = 4
_LONG_S = 0.25


@dataclass(frozen=True, kw_only=True)
class ModelSpeed:
    """Seconds that one image takes: through the model, and through it and back to the image."""

    forward_s: float
    gradient_s: float


def measure_speed(model: LoadedModel, *, clock: Callable[[], float] = time.perf_counter) -> ModelSpeed:
    """Time a small batch of black images through a model, forward alone and with the gradient of the logits.

    A first run warms up; it is the measurement where it takes long already.

    Args:
        model: The model; it is left as it was.
        clock: Returns seconds; another one is for tests.

    """
    preprocessing = model.preprocessing
    images = torch.zeros(_BATCH, preprocessing.channels, *preprocessing.image_size, device=device_of(model.module))

    def forward() -> None:
        with torch.no_grad():
            model.call.logits(model.module, images)

    def backward() -> None:
        pixels = images.clone().requires_grad_()
        with torch.enable_grad():
            logits = model.call.logits(model.module, pixels)
            torch.autograd.grad(logits.amax(1).sum(), pixels, allow_unused=True)

    with evaluating(model.module):
        return ModelSpeed(
            forward_s=_seconds(forward, clock=clock) / _BATCH, gradient_s=_seconds(backward, clock=clock) / _BATCH
        )


def _seconds(run: Callable[[], None], *, clock: Callable[[], float]) -> float:
    durations: list[float] = []
    for _ in range(3):
        start = clock()
        run()
        durations.append(clock() - start)
        if durations[-1] > _LONG_S:
            break
    return min(durations)
