"""Prepare images of a data set for a model: decode them one batch ahead, normalise and stack them."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from isplit.errors import InputError
from isplit.records import Preprocessing

_DECODING_THREADS = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Normalised images N×C×H×W float32, their labels N int64, and their indices in the data set, N int64."""

    images: torch.Tensor
    labels: torch.Tensor
    indices: NDArray[np.int64]


def normalise(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Turn pixels N×H×W×C uint8 into the model's input N×C×H×W float32: (pixels / 255 - mean) / std."""
    images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    mean = torch.tensor(preprocessing.mean).reshape(-1, 1, 1)
    std = torch.tensor(preprocessing.std).reshape(-1, 1, 1)
    return images.sub_(mean).div_(std)


class Pictures(Protocol):
    """A data set as far as batches need it: the pixels H×W×C of each image, and the class of every one."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of every image."""
        ...

    def pixels(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return the pixels of the image at this index."""
        ...


def iter_batches(
    dataset: Pictures, indices: ArrayLike, preprocessing: Preprocessing, *, batch_size: int
) -> Generator[Batch, None, None]:
    """Yield the images at `indices`, in that order; the last batch may be smaller.

    The next batch is decoded in two threads while the caller uses the current one. Closing the iterator stops them.

    Raises:
        DataError: an image is damaged; raised when its batch is due.

    """
    if batch_size < 1:
        msg = f"batch_size must be at least 1, not {batch_size}"
        raise InputError(msg)
    order = np.asarray(indices, dtype=np.int64)
    return _batches(dataset, [order[i : i + batch_size] for i in range(0, len(order), batch_size)], preprocessing)


def _batches(
    dataset: Pictures, chunks: list[NDArray[np.int64]], preprocessing: Preprocessing
) -> Generator[Batch, None, None]:
    def load(index: int) -> NDArray[np.uint8]:
        return dataset.pixels(index, preprocessing)

    pool = ThreadPoolExecutor(_DECODING_THREADS, thread_name_prefix="isplit-decode")
    try:
        coming = pool.map(load, chunks[0].tolist()) if chunks else iter(())
        for position, chunk in enumerate(chunks):
            pixels = np.stack(list(coming))
            if position + 1 < len(chunks):
                coming = pool.map(load, chunks[position + 1].tolist())
            yield Batch(
                images=normalise(torch.from_numpy(pixels), preprocessing),
                labels=torch.from_numpy(dataset.labels[chunk]),
                indices=chunk,
            )
    finally:
        pool.shutdown(cancel_futures=True)
