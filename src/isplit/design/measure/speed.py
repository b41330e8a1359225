"""Time a model in torch on this machine, so that the duration of the coming work can be estimated."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from isplit.design.devices import device_of, synchronise
from isplit.design.inputs.models import LoadedModel
from isplit.design.running import evaluating

FEW_IMAGES = 4
_RUNS, _LONG_S = 5, 1.0
"""How often each direction is run, and the seconds after which no further run begins."""


@dataclass(frozen=True, kw_only=True)
class ModelSpeed:
    """Hold the seconds that one image takes: forward through the model, and forward and backward."""

    forward_s: float
    gradient_s: float


def measure_speed(
    model: LoadedModel, *, images: int = FEW_IMAGES, clock: Callable[[], float] = time.perf_counter
) -> ModelSpeed:
    """Time a small batch of black images through a model, forward alone and with the gradient of the logits.

    The shortest of some runs counts, because the first takes up to 2.4 times as long (MobileNetV2). Where that one
    takes a second already, it is the measurement. The clock is read when the model's device has computed everything,
    not when it has taken the operations into its queue.

    Args:
        model: The model, which is left as it was.
        images: Images of the batch. An image of a larger batch takes less time, most of all in small models.
        clock: Returns seconds. Tests give a clock of their own.

    """
    preprocessing = model.preprocessing
    device = device_of(model.module)
    batch = torch.zeros(images, preprocessing.channels, *preprocessing.image_size, device=device)

    def forward() -> None:
        with torch.no_grad():
            model.call.logits(model.module, batch)

    def backward() -> None:
        pixels = batch.clone().requires_grad_()
        with torch.enable_grad():
            logits = model.call.logits(model.module, pixels)
            torch.autograd.grad(logits.amax(1).sum(), pixels, allow_unused=True)

    with evaluating(model.module):
        return ModelSpeed(
            forward_s=_seconds(forward, device, clock=clock) / images,
            gradient_s=_seconds(backward, device, clock=clock) / images,
        )


def _seconds(run: Callable[[], None], device: torch.device, *, clock: Callable[[], float]) -> float:
    """Return the seconds of the shortest run on a device."""
    durations: list[float] = []
    while len(durations) < _RUNS and sum(durations) < _LONG_S:
        synchronise(device)
        start = clock()
        run()
        synchronise(device)
        durations.append(clock() - start)
    return min(durations)
