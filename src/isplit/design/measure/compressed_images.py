"""The alternative to a split: compress the image on the device and run the whole model on the server."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from isplit.codec.image import compress, restore
from isplit.design.devices import device_of
from isplit.design.inputs.batches import normalise
from isplit.design.inputs.data import Dataset
from isplit.design.running import autocast, evaluating
from isplit.design.study import StudyView
from isplit.progress import Progress, silent
from isplit.records import (
    Accuracy,
    Compression,
    Paired,
    PartName,
    PayloadBytes,
    Precision,
    Preprocessing,
    RemoteImage,
    compared_compressions,
)

_BATCH = 50


@dataclass(frozen=True)
class CompressedImages:
    """A data set whose images are as the server sees them after a compression on the device.

    What is compressed is the model's input after resizing and cropping: a device that holds a larger image would send
    no more than the model looks at.
    """

    data: Dataset
    compression: Compression

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of every image."""
        return self.data.labels

    def pixels(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return the pixels H×W×C that the server gets for the image at this index."""
        return there_and_back(self.data.pixels(index, preprocessing), self.compression, preprocessing)[1]


def there_and_back(
    pixels: NDArray[np.uint8], compression: Compression, preprocessing: Preprocessing
) -> tuple[int, NDArray[np.uint8]]:
    """Compress pixels H×W×C; return the length of the file in bytes, and the pixels that the server makes of it."""
    content = compress(pixels, compression)
    return len(content), restore(Image.open(io.BytesIO(content)), preprocessing)


def measure_remote(
    view: StudyView,
    *,
    images: NDArray[np.int64],
    part: PartName,
    compressions: Sequence[Compression] | None = None,
    network: nn.Module | None = None,
    precision: Precision = "fp32",
    progress: Progress = silent,
) -> list[RemoteImage]:
    """Measure a network on images compressed in every setting, in pairs with the whole model on the images themselves.

    Args:
        view: The study, as a set of its classes sees it.
        images: Indices of the images.
        part: The part of the data that they are of.
        compressions: The settings; None takes those that a split is compared with.
        network: What answers, from the model's input to its logits, on the model's device; None takes the whole model.
        precision: That of the network and of the whole model.
        progress: Called after each setting.

    """
    preprocessing, data, model = view.preprocessing, view.data, view.graph.module
    device = device_of(model)
    settings = compared_compressions() if compressions is None else compressions
    labels = view.labels(images)

    def right(module: nn.Module, shown: list[NDArray[np.uint8]]) -> NDArray[np.bool_]:
        answers: list[torch.Tensor] = []
        for start in range(0, len(shown), _BATCH):
            batch = normalise(torch.from_numpy(np.stack(shown[start : start + _BATCH])), preprocessing)
            answers.append(view.classes(module(batch.to(device)).float()).argmax(1).cpu())
        return torch.cat(answers).numpy() == labels

    measured: list[RemoteImage] = []
    with ThreadPoolExecutor(2) as pool, evaluating(model), torch.no_grad(), autocast(precision, device=device):
        pixels = list(pool.map(lambda index: data.pixels(int(index), preprocessing), images))
        whole = right(model, pixels)
        for number, setting in enumerate(settings):
            sent = list(pool.map(lambda image, setting=setting: there_and_back(image, setting, preprocessing), pixels))
            answered = right(network or model, [image for _, image in sent])
            measured.append(
                RemoteImage(
                    group=view.name,
                    format=setting.format,
                    quality=setting.quality,
                    scale=setting.scale,
                    part=part,
                    accuracy=Accuracy.from_counts(int(answered.sum()), len(answered)),
                    against_whole=Paired.from_answers(whole, answered),
                    payload_bytes=PayloadBytes.from_lengths([length for length, _ in sent]),
                )
            )
            progress("compressed images", number + 1, len(settings))
    return measured
