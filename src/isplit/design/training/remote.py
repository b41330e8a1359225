"""Train the model on compressed images, so that a trained split has a trained opponent.

compressed images ─> copy of the model ─> logits ─┐
images themselves ─> the model ─────────> logits ─┴─> distillation, and the labels
"""

import math
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, closing
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from isplit.design.devices import device_of
from isplit.design.graph import split
from isplit.design.inputs.batches import Batch, Pictures, iter_batches
from isplit.design.measure.compressed_images import CompressedImages
from isplit.design.running import autocast, chosen_precision
from isplit.design.settings import FitSettings
from isplit.design.study import StudyView
from isplit.design.training.checkpoint import (
    Checkpoint,
    RunState,
    load_module,
    load_optimiser,
    module_tensors,
    optimiser_tensors,
)
from isplit.design.training.losses import share_of_rate, task_losses
from isplit.errors import NonFiniteError
from isplit.progress import Progress
from isplit.records import Compression, Cut, Precision, Preprocessing, RemoteEpoch, TrainingEpoch

_EVALUATION_BATCH = 64


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """Hold the network of the best epoch, and the history of its training. Epoch 0 is the network before training."""

    network: nn.Module
    curve: tuple[RemoteEpoch, ...]
    best_epoch: int


@dataclass(frozen=True)
class WithMirrored:
    """Append to a data set a mirrored copy of each of its images. Images are mirrored before they are compressed."""

    data: Pictures

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of every image and of every copy."""
        return np.concatenate([self.data.labels, self.data.labels])

    def mirrored(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices of the mirrored copies of images."""
        return images + len(self.data.labels)

    def pixels(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Return the pixels H×W×C of the image or copy at this index."""
        count = len(self.data.labels)
        pixels = self.data.pixels(index % count, preprocessing)
        return np.ascontiguousarray(pixels[:, ::-1]) if index >= count else pixels


class RemoteNetwork(nn.Module):
    """Copy the model so that all layers learn, or those after a cut. It stays in evaluation mode, as a split does.

    Args:
        view: The study. Its model is not changed.
        after: The cut after which the layers learn. None lets all layers learn.

    """

    def __init__(self, view: StudyView, after: Cut | None) -> None:
        super().__init__()
        self.head: nn.Module | None = None
        if after is None:
            self.tail: nn.Module = deepcopy(view.graph.module)
        else:
            sides = split(view.graph, after.name)
            self.head, self.tail = deepcopy(sides.head).requires_grad_(False), deepcopy(sides.tail)
        self.tail.requires_grad_(True)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of normalised images N×C×H×W."""
        if self.head is None:
            return self.tail(images)
        with torch.no_grad():
            crossing = self.head(images)
        return self.tail(crossing)


class RemoteTraining:
    """Train a `RemoteNetwork` as `fit` trains a split: with the same losses, rates, epochs and patience.

    Args:
        view: The study, as a set of its classes sees it.
        compression: The compression of images on the device.
        settings: The settings of the training. Those that concern only splits are ignored.
        progress: Called after each step.

    """

    def __init__(self, view: StudyView, compression: Compression, settings: FitSettings, *, progress: Progress) -> None:
        self._view, self._settings, self._progress = view, settings, progress
        self._uncompressed = WithMirrored(view.data)
        self._compressed = CompressedImages(self._uncompressed, compression)
        self._label_map = torch.from_numpy(view.classes.label_map)
        self._device = device_of(view.graph.module)
        self._precision: Precision = chosen_precision(settings.precision, device=self._device)
        self._select = view.images("select", limit=settings.select_images)
        self.images = view.images("fit", limit=settings.images)
        self._shown = np.concatenate([self.images, self._uncompressed.mirrored(self.images)])
        if not settings.flip:
            self._shown = self.images

    def __call__(self, network: RemoteNetwork, checkpoint: Checkpoint) -> TrainedNetwork:
        """Train the network in place, and return it with the values of its best epoch.

        Args:
            network: The network that learns.
            checkpoint: The checkpoint that keeps the run between epochs. An interrupted run continues from it.

        Raises:
            NonFiniteError: the loss is not a number any more.
            StudyError: the checkpoint cannot be written.

        """
        epochs = self._settings.epochs
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimiser = torch.optim.Adam(parameters, lr=self._settings.model_rate, fused=True)
        state, best = RunState(key=checkpoint.key), dict[str, torch.Tensor]()
        loaded = checkpoint.load()
        if loaded is not None:
            state, tensors = loaded
            load_module("now", network, tensors)
            load_optimiser(optimiser, tensors)
            best = {name: value for name, value in tensors.items() if name.startswith("best.")}
        else:
            state, best = self._judged(network, state, best, losses={}, seconds=0.0)
        teacher: torch.Tensor | None = None
        while state.done < epochs and state.done - state.best_epoch < self._settings.patience:
            teacher = self._teacher() if teacher is None else teacher
            started = time.perf_counter()
            losses = self._epoch(network, optimiser, teacher, state.done + 1)
            state = state.model_copy(update={"done": state.done + 1})
            state, best = self._judged(network, state, best, losses=losses, seconds=time.perf_counter() - started)
            checkpoint.save(state, module_tensors("now", network) | optimiser_tensors(optimiser) | best)
        load_module("best", network, best)
        return TrainedNetwork(network.requires_grad_(False), _curve(state), state.best_epoch)

    def _judged(
        self,
        network: RemoteNetwork,
        state: RunState,
        best: dict[str, torch.Tensor],
        *,
        losses: dict[str, float],
        seconds: float,
    ) -> tuple[RunState, dict[str, torch.Tensor]]:
        """Return the state with the epoch that has just ended, and the tensors of the best epoch so far."""
        accuracy, loss = self._judge(network)
        row = TrainingEpoch(
            stage="task",
            epoch=state.done,
            losses=losses,
            select_accuracy=accuracy,
            payload_bytes=None,
            seconds=seconds,
        )
        changes: dict[str, Any] = {"curve": (*state.curve, row), "seconds": state.seconds + seconds}
        highest = state.best_accuracy, state.best_loss
        if highest[0] is None or highest[1] is None or (accuracy, -loss) > (highest[0], -highest[1]):
            changes |= {"best_epoch": state.done, "best_accuracy": accuracy, "best_loss": loss}
            best = module_tensors("best", network)
        return state.model_copy(update=changes), best

    def _teacher(self) -> torch.Tensor:
        """Return the whole model's logits (N×K, on the CPU) of the uncompressed training images and mirrored copies."""
        view = self._view
        parts: list[torch.Tensor] = []
        batches = iter_batches(
            self._uncompressed, self._shown, view.preprocessing, batch_size=_EVALUATION_BATCH, device=self._device
        )
        with closing(batches), torch.no_grad(), self._autocast():
            for batch in batches:
                parts.append(view.classes(view.graph.module(batch.images).float()).cpu())
                self._progress("the whole model's answers", sum(map(len, parts)), len(self._shown))
        return torch.cat(parts)

    def _batches(self, images: NDArray[np.int64], *, size: int) -> closing[Generator[Batch]]:
        preprocessing, device = self._view.preprocessing, self._device
        return closing(iter_batches(self._compressed, images, preprocessing, batch_size=size, device=device))

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self._precision, device=self._device)

    def _epoch(
        self, network: RemoteNetwork, optimiser: torch.optim.Optimizer, teacher: torch.Tensor, epoch: int
    ) -> dict[str, float]:
        """Train on every image once and return the mean losses."""
        view, settings = self._view, self._settings
        generator = np.random.default_rng((settings.seed, epoch))
        order: NDArray[np.int64] = generator.permutation(len(self.images))
        if settings.flip:
            order = order + len(order) * generator.integers(0, 2, len(order))
        steps = -(-len(order) // settings.batch_size)
        sums: dict[str, float] = {}
        seen = 0
        with self._batches(self._shown[order], size=settings.batch_size) as batches:
            for step, batch in enumerate(batches):
                done = ((epoch - 1) * steps + step) / (settings.epochs * steps)
                for group in optimiser.param_groups:
                    group["lr"] = settings.model_rate * share_of_rate(done, warmup=settings.warmup)
                optimiser.zero_grad()
                with self._autocast():
                    output = network(batch.images)
                rows = torch.from_numpy(order[seen : seen + len(batch.labels)])
                seen += len(batch.labels)
                labels, answers = (part.to(self._device) for part in (self._label_map[batch.labels], teacher[rows]))
                losses = task_losses(view.classes(output.float()), labels, answers, settings)
                losses["loss"].backward()
                optimiser.step()
                values = {name: float(value.detach()) for name, value in losses.items()}
                label = f"compressed images: epoch {epoch} of {settings.epochs}"
                if not math.isfinite(values["loss"]):
                    msg = f"{label}: the loss is {values['loss']}; choose a smaller learning rate"
                    raise NonFiniteError(msg)
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + value / steps
                self._progress(label, step + 1, steps)
        return sums

    def _judge(self, network: RemoteNetwork) -> tuple[float, float]:
        """Return accuracy and cross-entropy on the compressed images of the select part."""
        right, loss = 0, 0.0
        with self._batches(self._select, size=_EVALUATION_BATCH) as batches, torch.no_grad():
            for batch in batches:
                with self._autocast():
                    output = network(batch.images)
                logits, labels = self._view.classes(output.float()).cpu(), self._label_map[batch.labels]
                right += int((logits.argmax(1) == labels).sum())
                loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
        return right / len(self._select), loss / len(self._select)


def _curve(state: RunState) -> tuple[RemoteEpoch, ...]:
    """Return the epochs in the form of the network's record."""
    return tuple(
        RemoteEpoch(epoch=row.epoch, losses=row.losses, select_accuracy=row.select_accuracy or 0.0, seconds=row.seconds)
        for row in state.curve
    )
