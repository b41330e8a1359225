"""Prepare images of a data set for a model: decode them ahead of their use, stack them and normalise them.

threads decode ─> pixels of a batch, uint8 (page-locked memory for a GPU) ─> the model's device ─> normalised float32
"""

import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from isplit.design.devices import CPU
from isplit.errors import InputError
from isplit.records import Preprocessing

_DECODING_THREADS = 2
"""Threads beside a model that computes on the CPU, which has most of the cores to itself."""
_MOST_DECODING_THREADS = 16
"""Threads at most beside a model on an accelerator, which waits for images rather than for cores."""
_BATCHES_AHEAD = 3
"""Batches that are decoded ahead of an accelerator."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Normalised images N×C×H×W float32, their labels N int64 on the CPU, and their indices N in the data set."""

    images: torch.Tensor
    labels: torch.Tensor
    indices: NDArray[np.int64]


def normalise(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Turn pixels N×H×W×C uint8 into the model's input N×C×H×W float32 on their device: (pixels / 255 - mean) / std."""
    images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    mean = torch.tensor(preprocessing.mean, device=images.device).reshape(-1, 1, 1)
    std = torch.tensor(preprocessing.std, device=images.device).reshape(-1, 1, 1)
    return images.sub_(mean).div_(std)


def decoding_threads(device: torch.device) -> int:
    """Return the number of threads that prepare images beside a model on a device."""
    return _DECODING_THREADS if device.type == "cpu" else min(_MOST_DECODING_THREADS, os.cpu_count() or 1)


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
    dataset: Pictures,
    indices: ArrayLike,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    device: torch.device = CPU,
) -> Generator[Batch, None, None]:
    """Yield the images at `indices`, in that order; the last batch may be smaller.

    Beside a model on the CPU, the next batch is decoded in two threads while the caller uses the current one. For an
    accelerator, more threads decode three batches ahead; the pixels cross as bytes, from page-locked memory where the
    device is a GPU of NVIDIA's, and are normalised there. Closing the iterator stops the threads.

    Args:
        dataset: The images.
        indices: Which of them, N.
        preprocessing: What the model takes.
        batch_size: Images of a batch.
        device: Where the images go; labels stay on the CPU.

    Raises:
        DataError: an image is damaged; raised when its batch is due.

    """
    if batch_size < 1:
        msg = f"batch_size must be at least 1, not {batch_size}"
        raise InputError(msg)
    order = np.asarray(indices, dtype=np.int64)
    chunks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return _batches(_Decoder(dataset, preprocessing, device), chunks)


def _batches(decoder: "_Decoder", chunks: list[NDArray[np.int64]]) -> Generator[Batch, None, None]:
    on_cpu = decoder.device.type == "cpu"
    pool = ThreadPoolExecutor(decoding_threads(decoder.device), thread_name_prefix="isplit-decode")
    left, coming = iter(chunks), deque[_Pixels]()

    def decode_next(count: int) -> None:
        coming.extend(decoder.start(pool, chunk) for chunk in islice(left, count))

    try:
        decode_next(1 if on_cpu else _BATCHES_AHEAD)
        while coming:
            chunk = coming[0].indices
            pixels = coming.popleft().wait()
            decode_next(1)
            yield Batch(
                images=normalise(pixels.to(decoder.device, non_blocking=True), decoder.preprocessing),
                labels=torch.from_numpy(decoder.dataset.labels[chunk]),
                indices=chunk,
            )
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, eq=False)
class _Pixels:
    """A batch's pixels N×H×W×C while threads decode them, into `memory` where there is one."""

    indices: NDArray[np.int64]
    futures: list[Future[NDArray[np.uint8]]]
    memory: torch.Tensor | None

    def wait(self) -> torch.Tensor:
        """Return the pixels when all are there."""
        pixels = [future.result() for future in self.futures]
        return torch.from_numpy(np.stack(pixels)) if self.memory is None else self.memory


@dataclass(frozen=True, eq=False)
class _Decoder:
    """Decodes images of a data set for a model on some device."""

    dataset: Pictures
    preprocessing: Preprocessing
    device: torch.device

    def start(self, pool: ThreadPoolExecutor, indices: NDArray[np.int64]) -> _Pixels:
        """Let the threads of a pool decode a batch."""
        if self.device.type == "cpu":
            futures = [pool.submit(self.dataset.pixels, index, self.preprocessing) for index in indices.tolist()]
            return _Pixels(indices, futures, None)
        # A copy from page-locked memory does not hold up the host; torch reuses that memory once the copy is done.
        shape = (len(indices), *self.preprocessing.image_size, self.preprocessing.channels)
        memory = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        rows = memory.numpy()
        futures = [pool.submit(self._fill, row, index) for row, index in zip(rows, indices.tolist(), strict=True)]
        return _Pixels(indices, futures, memory)

    def _fill(self, row: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """Decode an image into its row H×W×C."""
        row[:] = self.dataset.pixels(index, self.preprocessing)
        return row
