"""The alternative to a split: compress the image on the device and run the whole model on the server."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from isplit.codec.image import compress, restore
from isplit.design.inputs.batches import normalise
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
    RemoteImage,
    compared_compressions,
)


def measure_remote(
    view: StudyView,
    *,
    images: NDArray[np.int64],
    part: PartName,
    batch_size: int = 50,
    precision: Precision = "fp32",
    progress: Progress = silent,
) -> list[RemoteImage]:
    """Measure the whole model on images compressed in every setting.

    What is compressed is the model's input after resizing and cropping: a device that holds a larger image would send
    no more than the model looks at.
    """
    preprocessing, data = view.preprocessing, view.data
    with ThreadPoolExecutor(2) as pool:
        pixels = list(pool.map(lambda index: data.pixels(int(index), preprocessing), images))
        labels = view.labels(images)

        def right(shown: list[NDArray[np.uint8]]) -> NDArray[np.bool_]:
            answers: list[torch.Tensor] = []
            for start in range(0, len(shown), batch_size):
                batch = normalise(torch.from_numpy(np.stack(shown[start : start + batch_size])), preprocessing)
                answers.append(view.classes(view.graph.module(batch).float()).argmax(1))
            return torch.cat(answers).numpy() == labels

        def there_and_back(setting: Compression, image: NDArray[np.uint8]) -> tuple[int, NDArray[np.uint8]]:
            content = compress(image, setting)
            return len(content), restore(Image.open(io.BytesIO(content)), preprocessing)

        measured: list[RemoteImage] = []
        wanted = compared_compressions()
        with evaluating(view.graph.module), torch.no_grad(), autocast(precision):
            whole = right(pixels)
            for number, setting in enumerate(wanted):
                sent = list(pool.map(lambda image, setting=setting: there_and_back(setting, image), pixels))
                answered = right([image for _, image in sent])
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
                progress("compressed images", number + 1, len(wanted))
    return measured
