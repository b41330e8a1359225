"""Pictures of classes that a network can tell apart, and a network that does so: benchmarks then need no data."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from isplit.design.devices import placed
from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.data import Dataset
from isplit.design.inputs.models import LoadedModel

CLASSES = 20


def draw(label: int, number: int, side: int) -> NDArray[np.uint8]:
    """Draw a picture H×W×3 of a class: waves of its direction, length and colour in noise, all somewhat varied."""
    random = np.random.default_rng([label, number])
    angle = np.pi * (label % 5) / 5 + random.normal(0, 0.06)
    waves = 3 + 3 * (label // 5) + random.normal(0, 0.3)
    rows, columns = np.mgrid[0:side, 0:side] / side
    phase = 2 * np.pi * (waves * (np.cos(angle) * columns + np.sin(angle) * rows) + random.random())
    colour = 0.5 + 0.3 * np.cos(2 * np.pi * (label / CLASSES + np.arange(3) / 3)) + random.normal(0, 0.08, 3)
    picture = 0.5 + 0.22 * np.sin(phase)[:, :, None] * colour + random.normal(0, 0.08, (side, side, 3))
    return (255 * picture.clip(0, 1)).astype(np.uint8)


def write_pictures(folder: Path, counts: Mapping[str, int], *, side: int) -> None:
    """Write so many pictures of each part as JPEG files of that side, in PART/CLASS/IMAGE; all are different."""
    numbers = [(part, number) for part, count in counts.items() for number in range(count)]

    def write(place: int) -> None:
        part, number = numbers[place]
        label = number % CLASSES
        path = folder / part / f"class{label:02}" / f"{number:05}.jpg"
        Image.fromarray(draw(label, place, side)).save(path, quality=90)

    for part in counts:
        for label in range(CLASSES):
            (folder / part / f"class{label:02}").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        list(pool.map(write, range(len(numbers))))


def fit_to_pictures(module: nn.Module, data: Dataset, loaded: LoadedModel, *, device: torch.device) -> None:
    """Set a network's BatchNorm statistics, and fit its last layer to the pictures by ridge regression."""
    chosen = data.parts["fit"][:640]
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean over all batches
    features: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    layer = module.get_submodule("fc")
    assert isinstance(layer, nn.Linear)
    hook = layer.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].double().cpu()))

    def run(*, training: bool) -> None:
        module.train(training)
        batches = iter_batches(data, chosen, loaded.preprocessing, batch_size=32, device=device)
        with closing(batches), torch.no_grad():
            for batch in batches:
                module(batch.images)
                if not training:
                    labels.append(batch.labels)

    with placed(module, device=device):
        run(training=True)
        features.clear()
        run(training=False)
    hook.remove()
    values, targets = torch.cat(features), torch.nn.functional.one_hot(torch.cat(labels), CLASSES).double()
    mean = values.mean(0)
    centred = values - mean
    gram = centred.T @ centred
    gram.diagonal().add_(0.1 * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, centred.T @ (targets - targets.mean(0)))
    with torch.no_grad():  # ten times the regression's values, as logits are farther apart than targets of 0 and 1
        layer.weight.copy_(10 * weight.T)
        layer.bias.copy_(10 * (targets.mean(0) - mean @ weight))
