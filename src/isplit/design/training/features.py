"""Compute the features at the cut for the training images: once and keep them, or anew in every epoch.

Features are kept as float16 after division by a power of two that brings their root mean square to about 1. Only the
rounding to 11 bits changes them, by at most 0.05 % of each value. That is far below the quantiser's steps.
"""

import contextlib
import hashlib
import math
import os
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isplit.design.devices import device_of
from isplit.design.graph import split
from isplit.design.inputs.batches import iter_batches
from isplit.design.running import autocast
from isplit.design.settings import FeatureStore
from isplit.design.study import StudyView
from isplit.errors import InputError, StudyError
from isplit.progress import Progress, silent
from isplit.records import Cut, Precision, load_arrays, save_arrays
from isplit.records.files import check_ordinary

CACHE = "cache"
_LARGEST = 65504.0  # the largest number of float16
_PASS = 50

Kept = Literal["memory", "disk", "keep", "recompute"]


@dataclass(frozen=True, eq=False)
class Example:
    """Hold a batch: the inputs (features, or images if the head learns), the whole model's logits, and the labels."""

    inputs: torch.Tensor
    teacher: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureSource:
    """Name the images whose features are wanted, and the form of the features.

    Args:
        view: The study, with the classes of labels and logits.
        cut: The cut at which the features are taken.
        images: Indices into the data set (N).
        flip: Whether each image also has a mirrored copy.
        raw: Whether the inputs are images instead of features, for a head that learns.
        precision: The precision of the model's passes.

    """

    view: StudyView
    cut: Cut
    images: NDArray[np.int64]
    flip: bool = False
    raw: bool = False
    precision: Precision = "fp32"

    @property
    def device(self) -> torch.device:
        """The device of the model, where its passes run and where batches go."""
        return device_of(self.view.graph.module)

    @property
    def rows(self) -> int:
        """The number of images, including mirrored copies."""
        return len(self.images) * (2 if self.flip else 1)


class Features:
    """Hold the inputs, the whole model's answers and the labels of the images of a `FeatureSource`.

    Row i is image i, and row N + i its mirrored copy. Use the object as a context manager: on exit it deletes the files
    that it put on the disk.

    Args:
        source: The images, and the form of their features.
        store: The place where features may be kept.
        memory_bytes: The largest number of bytes of features that are kept in memory.
        progress: Called as images are done.
        label: The name of the work, which `progress` is called with.

    Raises:
        InputError: the features do not fit where they have to be kept.

    """

    def __init__(
        self,
        source: FeatureSource,
        *,
        store: FeatureStore = "auto",
        memory_bytes: float = 2**32,
        progress: Progress = silent,
        label: str = "features",
    ) -> None:
        self.source = source
        sides = split(source.view.graph, source.cut.name)
        self._head, self._tail = sides.head, sides.tail
        self.kept = _choose(source, store, memory_bytes)
        labels = source.view.labels(source.images)
        self.labels = torch.from_numpy(np.tile(labels, source.rows // len(source.images)))
        self.teacher = torch.zeros(source.rows, len(source.view.classes.outputs))
        self._file: Path | None = None
        self._exponent = 0
        self._held: torch.Tensor | None = None
        if self.kept == "keep" and self._reuse():
            return
        try:
            self._held = self._allocate()
            self._fill(progress, label)
            if self.kept == "keep":
                self._publish()
        except BaseException:
            self.close(failed=True)
            raise

    def __enter__(self) -> "Features":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.source.rows

    @property
    def head(self) -> nn.Module:
        """The model's own head."""
        return self._head

    def close(self, *, failed: bool = False) -> None:
        """Delete the files on the disk, unless they are complete and are to be kept."""
        self._held = None
        if self._file is not None and (failed or self.kept != "keep"):
            with contextlib.suppress(OSError):
                self._file.unlink()

    def batches(self, rows: NDArray[np.int64], *, batch_size: int) -> contextlib.closing[Generator[Example]]:
        """Return batches of the rows in the given order. The last batch may be smaller.

        Use the result in a `with` statement, so that no thread goes on decoding images when the loop ends early.
        """
        return contextlib.closing(self._batches(rows, batch_size))

    def _batches(self, rows: NDArray[np.int64], batch_size: int) -> Generator[Example]:
        if self._held is None:
            yield from self._computed(rows, batch_size)
            return
        for start in range(0, len(rows), batch_size):
            chosen = torch.from_numpy(rows[start : start + batch_size])
            inputs = self._held[chosen].float() * 2.0**self._exponent
            yield self._example(self.source.view.graph.lay_out(inputs, self.source.cut), chosen)

    def _example(self, inputs: torch.Tensor, rows: torch.Tensor) -> Example:
        device = self.source.device
        return Example(inputs.to(device), self.teacher[rows].to(device), self.labels[rows].to(device))

    def _computed(self, rows: NDArray[np.int64], batch_size: int) -> Generator[Example]:
        done = 0
        with contextlib.closing(self._images(rows, batch_size)) as coming:
            for images in coming:
                chosen = torch.from_numpy(rows[done : done + len(images)])
                done += len(images)
                with torch.no_grad(), self._autocast():
                    inputs = images if self.source.raw else self._head(images).float()
                yield self._example(inputs, chosen)

    def _images(self, rows: NDArray[np.int64], batch_size: int) -> Generator[torch.Tensor]:
        """Yield the images of the rows, mirrored where a row is a mirrored copy."""
        source, view, done = self.source, self.source.view, 0
        count = len(source.images)
        indices = source.images[rows % count]
        coming = iter_batches(view.data, indices, view.preprocessing, batch_size=batch_size, device=source.device)
        with contextlib.closing(coming) as batches:
            for batch in batches:
                mirrored = torch.from_numpy(rows[done : done + len(batch.images)] >= count)
                done += len(batch.images)
                images = batch.images
                if mirrored.any():
                    chosen = mirrored.to(images.device)
                    images[chosen] = images[chosen].flip(-1)
                yield images

    def _fill(self, progress: Progress, label: str) -> None:
        """Compute the features and the whole model's answers in one pass."""
        done = 0
        rows = np.arange(self.source.rows)
        with torch.no_grad(), contextlib.closing(self._images(rows, _PASS)) as coming:
            for images in coming:
                with self._autocast():
                    crossing = self._head(images)
                    answers = self._tail(crossing)
                if self._held is not None:
                    if done == 0:
                        self._exponent = _exponent(crossing)
                    scaled = crossing.float() * 2.0**-self._exponent
                    self._held[done : done + len(images)] = scaled.clamp(-_LARGEST, _LARGEST).to(torch.float16).cpu()
                self.teacher[done : done + len(images)] = self.source.view.classes(answers.float()).cpu()
                done += len(images)
                progress(label, done, len(rows))

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return autocast(self.source.precision, device=self.source.device)

    def _allocate(self) -> torch.Tensor | None:
        shape = (self.source.rows, *self.source.cut.shape)
        if self.kept == "memory":
            return torch.empty(shape, dtype=torch.float16)
        if self.kept == "recompute":
            return None
        directory = self._directory
        try:
            directory.mkdir(exist_ok=True)
            self._file = directory / f"features-{os.getpid()}-{id(self):x}.f16"
            _reserve(self._file, 2 * math.prod(shape))
            return torch.from_numpy(np.memmap(self._file, np.float16, "r+", shape=shape))
        except OSError as error:
            msg = f"cannot keep features in {directory}: {error.strerror or error}; choose features=recompute"
            raise InputError(msg) from error

    def _publish(self) -> None:
        """Rename the complete file so that other runs find it. The answers, written last, tell that it is complete."""
        assert self._file is not None
        self._file = self._file.replace(self._directory / f"{self._name}.f16")
        answers = {"teacher": self.teacher.numpy(), "exponent": np.array(self._exponent)}
        save_arrays(self._directory / f"{self._name}.npz", answers)

    def _reuse(self) -> bool:
        """Reuse what an earlier run kept. Its answers were written last, so features that have them are complete."""
        file, answers = (self._directory / f"{self._name}{suffix}" for suffix in (".f16", ".npz"))
        try:
            kept = load_arrays(answers)
            teacher, exponent = kept["teacher"], kept["exponent"]
            if teacher.shape != self.teacher.shape or teacher.dtype != np.float32 or exponent.shape != ():
                return False
            shape = (self.source.rows, *self.source.cut.shape)
            check_ordinary(file)
            # Copy on write: torch needs writable memory, and the file must not change.
            self._held = torch.from_numpy(np.memmap(file, np.float16, "c", shape=shape))
            self.teacher, self._exponent = torch.from_numpy(teacher), int(exponent)
        except (StudyError, OSError, KeyError, ValueError):
            return False
        return True

    @property
    def _directory(self) -> Path:
        return self.source.view.directory / CACHE

    @property
    def _name(self) -> str:
        """Return a file name that differs for every other model, set of images, class subset and cut."""
        source = self.source
        record = source.view.study.record
        described = (
            record.model.fingerprint,
            record.data.sha256,
            record.preprocessing.model_dump_json(),
            source.cut.name,
        )
        digest = hashlib.sha256(repr((described, source.view.classes.outputs, source.flip, source.precision)).encode())
        digest.update(np.ascontiguousarray(source.images).tobytes())
        return f"features-{digest.hexdigest()[:24]}"


def _reserve(file: Path, size_bytes: int) -> None:
    """Make a file of that size with its space on the disk reserved, because a full disk would kill the process."""
    with file.open("wb") as opened:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(opened.fileno(), 0, size_bytes)
        else:
            opened.truncate(size_bytes)


def _exponent(tensor: torch.Tensor) -> int:
    """Return the power of two nearest below the root mean square."""
    size = float(tensor.float().square().mean().sqrt())
    return int(np.floor(np.log2(size))) if 0 < size < float("inf") else 0


def _choose(source: FeatureSource, store: FeatureStore, memory_bytes: float) -> Kept:
    if source.raw:
        return "recompute"
    if store != "auto":
        return store
    needed = 2.0 * source.rows * np.prod(source.cut.shape, dtype=np.float64)
    if needed <= memory_bytes:
        return "memory"
    # Half of the free space stays free, because other processes write there too.
    return "disk" if 2 * needed <= shutil.disk_usage(source.view.directory).free else "recompute"


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Name some rows of features.

    Attributes:
        features: The features that the rows belong to.
        rows: The numbers of the rows (N).

    """

    features: Features
    rows: NDArray[np.int64]
