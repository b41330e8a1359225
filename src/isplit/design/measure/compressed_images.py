"""Measure the alternative to a split: the device compresses the image, and the server runs the whole model."""

import io
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from isplit.codec.image import compress, restore
from isplit.design.devices import device_of
from isplit.design.inputs.batches import Pictures, decoding_threads, normalise
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

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_BATCH = 25
"""The number of images in one pass. It is small because a processor's caches hold the maps of few images: on an idle
machine, VGG16 at 64 pixels took 32 ms for an image in batches of 25 and 41 ms in batches of 50."""


@dataclass(frozen=True)
class CompressedImages:
    """Present a data set's images as the server sees them after a compression on the device.

    The image is compressed after it was resized and cropped for the model. A device that holds a larger image would
    not send more than the model looks at.
    """

    data: Pictures
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
    """Measure a network on images compressed in every setting, paired with the whole model on the original images.

    Args:
        view: The study, as a set of its classes sees it.
        images: Indices of the images.
        part: The part of the data that the images belong to.
        compressions: The compression settings. None takes those that a split is compared with.
        network: The network that answers, from the model's input to its logits, on the model's device. None takes the
            whole model.
        precision: The precision in which the network and the whole model compute.
        progress: Called after each setting.

    """
    trial = CompressedImageTrial(view, images=images, part=part, precision=precision, network=network)
    settings = compared_compressions() if compressions is None else compressions
    measured: list[RemoteImage] = []
    for number, setting in enumerate(settings):
        trial.right(setting, trial.images)
        measured.append(trial.row(setting, trial.images))
        progress("compressed images", number + 1, len(settings))
    return measured


class CompressedImageTrial:
    """Show compressed images to a network, in the settings and in the number that a caller asks for.

    Each image is decoded once, compressed once in each setting, and shown to the network at most once in each setting.

    Args:
        view: The study, as a set of its classes sees it.
        images: Indices of the images.
        part: The part of the data that the images belong to.
        precision: The precision in which the network and the whole model compute.
        network: The network that answers. None takes the whole model.
        whole: For each image whether the whole model is right about the original, where the caller knows; None computes
            it.

    """

    def __init__(
        self,
        view: StudyView,
        *,
        images: NDArray[np.int64],
        part: PartName,
        precision: Precision = "fp32",
        network: nn.Module | None = None,
        whole: NDArray[np.bool_] | None = None,
    ) -> None:
        self._view = view
        self._part: PartName = part
        self._precision: Precision = precision
        self._network = network or view.graph.module
        self._labels = view.labels(images)
        self._pixels = self._in_threads(lambda index: view.data.pixels(int(index), view.preprocessing), images)
        self._files: dict[Compression, list[bytes]] = {}
        self._right: dict[Compression, NDArray[np.bool_]] = {}
        self._whole = self._answers(view.graph.module, self._pixels, self._labels) if whole is None else whole

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self._pixels)

    def mean_bytes(self, setting: Compression) -> float:
        """Return the mean length in bytes of the compressed files of a setting."""
        return float(np.mean([len(content) for content in self._compressed(setting)]))

    def right(self, setting: Compression, count: int) -> NDArray[np.bool_]:
        """Say for each of the first `count` images whether the network is right when the image is compressed so."""
        known = self._right.get(setting, np.zeros(0, bool))
        if len(known) < count:
            files = self._compressed(setting)[len(known) : count]
            shown = self._in_threads(self._restored, files)
            more = self._answers(self._network, shown, self._labels[len(known) : count])
            known = self._right[setting] = np.concatenate([known, more])
        return known[:count]

    def resume(self, setting: Compression, right: NDArray[np.bool_]) -> None:
        """Adopt the answers that `right` returned in an earlier run."""
        self._right[setting] = right

    def row(self, setting: Compression, count: int) -> RemoteImage:
        """Return the record of a setting on the first `count` images, paired with the whole model on the originals."""
        right = self.right(setting, count)
        return RemoteImage(
            group=self._view.name,
            format=setting.format,
            quality=setting.quality,
            scale=setting.scale,
            part=self._part,
            accuracy=Accuracy.from_counts(int(right.sum()), count),
            against_whole=Paired.from_answers(self._whole[:count], right),
            payload_bytes=PayloadBytes.from_lengths([len(content) for content in self._compressed(setting)[:count]]),
        )

    def _compressed(self, setting: Compression) -> list[bytes]:
        if setting not in self._files:
            self._files[setting] = self._in_threads(lambda image: compress(image, setting), self._pixels)
        return self._files[setting]

    def _restored(self, content: bytes) -> NDArray[np.uint8]:
        return restore(Image.open(io.BytesIO(content)), self._view.preprocessing)

    def _answers(
        self, module: nn.Module, shown: Sequence[NDArray[np.uint8]], labels: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Say for each image whether a module's answer is right."""
        view, device = self._view, device_of(self._view.graph.module)
        answers: list[torch.Tensor] = []
        with evaluating(view.graph.module), torch.no_grad(), autocast(self._precision, device=device):
            for start in range(0, len(shown), _BATCH):
                pixels = torch.from_numpy(np.stack(shown[start : start + _BATCH])).to(device)
                answers.append(view.classes(module(normalise(pixels, view.preprocessing)).float()).argmax(1).cpu())
        return torch.cat(answers).numpy() == labels

    def _in_threads(self, run: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Run a function on every item, in as many threads as prepare images for the model's device."""
        with ThreadPoolExecutor(decoding_threads(device_of(self._view.graph.module))) as pool:
            return list(pool.map(run, items))
