"""Train a split in two stages, epoch by epoch, with a checkpoint after each.

stage 1: decoder(encoder(features)) against the features          bottleneck only, not quantised
stage 2: labels + the whole model's answers + price of the bytes  quantised, straight-through gradient
after each epoch of stage 2: quantiser and tables for the budget -> accuracy on the select part -> checkpoint
"""

import math
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.coding import LatentQuantiser
from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.class_subsets import ClassSubset
from isplit.design.running import autocast, chosen_precision
from isplit.design.settings import FitSettings
from isplit.design.splits import BuiltSplit
from isplit.design.training.checkpoint import (
    Checkpoint,
    RunState,
    Scales,
    load_module,
    load_optimiser,
    module_tensors,
    optimiser_tensors,
)
from isplit.design.training.features import Example, FeatureRows, Features
from isplit.design.training.losses import share_of_rate, task_losses
from isplit.design.training.rate import CodedLatents, Price, RateControl, SampleLatents, open_price
from isplit.design.training.split_network import SplitNetwork
from isplit.errors import NonFiniteError
from isplit.progress import Progress
from isplit.records import Precision, TrainingEpoch

Stage = Literal["features", "task"]

# The quantiser and the tables are made from at most this many floats of latents.
_MAX_LATENTS = 2**26


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingTask:
    """Hold everything that a run of training works on.

    Attributes:
        network: The split, whose values change.
        quantiser: The quantiser that belongs to the values at the start. None where there is none.
        features: Features of the images that are trained on.
        table_images: The images that quantiser and tables are made from. They are not those of the closed form's
            moments where there are others.
        select: Features of the select part. Payloads fill the budget on these images.
        scale: The standard deviation of each channel (C), by which the error of stage 1 is standardised.
        classes: The classes whose logits count.
        rate_control: Makes quantiser and codec from latents.
        settings: The settings of the training.
        feature_epochs: The number of epochs of stage 1.

    """

    network: SplitNetwork
    quantiser: LatentQuantiser | None
    features: Features
    table_images: FeatureRows
    select: Features
    scale: torch.Tensor
    classes: ClassSubset
    rate_control: RateControl
    settings: FitSettings
    feature_epochs: int


@dataclass(frozen=True, eq=False)
class TrainedState:
    """Hold the history of a run, and the quantiser of the epoch that is kept. The network holds that epoch's values."""

    state: RunState
    quantiser: LatentQuantiser


@dataclass(eq=False)
class _Stage:
    """Hold a stage while it runs: its optimiser, the highest learning rate of each group, and its number of epochs."""

    name: Stage
    optimiser: torch.optim.Optimizer
    highest_rates: list[float]
    epochs: int


class TrainingRun:
    """Train a `TrainingTask`, from its checkpoint if there is one.

    Args:
        task: The split, the images and the settings.
        checkpoint: The checkpoint that keeps the run between epochs.
        progress: Called with the name of the work, the number of steps done, and the number of all steps.

    """

    def __init__(self, task: TrainingTask, checkpoint: Checkpoint, progress: Progress) -> None:
        self.task = task
        self.state = RunState(key=checkpoint.key)
        self._checkpoint = checkpoint
        self._progress = progress
        self._quantiser = task.quantiser
        self._best: dict[str, torch.Tensor] = {}
        self._device = task.features.source.device
        self._precision: Precision = chosen_precision(task.settings.precision, device=self._device)

    def __call__(self) -> TrainedState:
        """Run the remaining epochs of both stages, and put the best epoch's values into the network."""
        tensors = self._resume()
        stages: dict[Stage, int] = {"features": self.task.feature_epochs, "task": self.task.settings.epochs}
        for stage, epochs in stages.items():
            before = self.state.done - (self.task.feature_epochs if stage == "task" else 0)
            left = list(range(max(0, before) + 1, epochs + 1))
            if stage == "task" and self.state.best_accuracy is None:
                self._evaluate({}, epoch=0, seconds=0.0)
            if left and not self._is_stale():
                self._run_stage(stage, left, tensors)
                tensors = {}
        return self._restore_best()

    def _resume(self) -> dict[str, torch.Tensor]:
        loaded = self._checkpoint.load()
        if loaded is None:
            return {}
        self.state, tensors = loaded
        load_module("now", self.task.network, tensors)
        self._best = {name: value for name, value in tensors.items() if name.startswith("best.")}
        self._quantiser = self._in_torch(self.state.quantiser)
        return tensors

    def _in_torch(self, scales: Scales | None) -> LatentQuantiser | None:
        axis = self.task.rate_control.channel_axis
        return None if scales is None else LatentQuantiser(scales.quantiser(), axis)

    def _is_stale(self) -> bool:
        last = max((row.epoch for row in self.state.curve if row.stage == "task"), default=0)
        return last - self.state.best_epoch >= self.task.settings.patience

    def _run_stage(self, name: Stage, epochs: list[int], tensors: dict[str, torch.Tensor]) -> None:
        network, settings = self.task.network, self.task.settings
        network.open(features_only=name == "features")
        groups = network.parameter_groups()
        if not groups:
            return  # this is the first stage of a design without an encoder
        optimiser = torch.optim.Adam(groups, fused=True)
        highest_rates = [group["lr"] for group in optimiser.param_groups]
        if epochs[0] > 1:
            # Rates are shares of the parameters' sizes, which have changed. The rates of the stage's start still hold.
            highest_rates = [float(value) for value in tensors["rates"]]
            load_optimiser(optimiser, tensors)
        total = self.task.feature_epochs if name == "features" else settings.epochs
        stage = _Stage(name, optimiser, highest_rates, total)
        for epoch in epochs:
            started = time.perf_counter()
            network.open(features_only=name == "features")
            losses = self._epoch(stage, epoch)
            seconds = time.perf_counter() - started
            if name == "task":
                self._evaluate(losses, epoch=epoch, seconds=seconds)
            else:
                row = TrainingEpoch(
                    stage=name, epoch=epoch, losses=losses, select_accuracy=None, payload_bytes=None, seconds=seconds
                )
                self.state = self.state.model_copy(update={"curve": (*self.state.curve, row)})
            self._save(stage, seconds)
            if name == "task" and self._is_stale():
                break

    def _epoch(self, stage: _Stage, epoch: int) -> dict[str, float]:
        """Train on every image once and return the mean losses."""
        network, optimiser = self.task.network, stage.optimiser
        price = self._price() if stage.name == "task" else None
        if stage.name == "features":
            self._quantiser = None
        quantiser = self._quantiser if price is None else price.quantiser
        sums: dict[str, float] = {}
        batches, steps = self._batches(stage.name, epoch)
        label = f"{network.cut.name}: stage {1 if stage.name == 'features' else 2}, epoch {epoch} of {stage.epochs}"
        with batches as examples:
            for step, example in enumerate(examples):
                done = ((epoch - 1) * steps + step) / (stage.epochs * steps)
                share = share_of_rate(done, warmup=self.task.settings.warmup)
                for group, rate in zip(optimiser.param_groups, stage.highest_rates, strict=True):
                    group["lr"] = rate * share
                optimiser.zero_grad()
                with self._autocast():
                    output, latents = network(example.inputs, quantiser, answer=stage.name == "task")
                losses = self._losses(output, latents, example, price) if stage.name == "task" else self._error(output)
                losses["loss"].backward()
                optimiser.step()
                values = {name: float(value.detach()) for name, value in losses.items()}
                if not math.isfinite(values["loss"]):
                    msg = f"{label}: the loss is {values['loss']}; choose smaller learning rates"
                    raise NonFiniteError(msg)
                if price is not None:
                    price.observe(latents.detach(), values["bytes"])
                    self.state = self.state.model_copy(update={"price": price.price})
                for name, value in values.items():
                    sums[name] = sums.get(name, 0.0) + value / steps
                self._progress(label, step + 1, steps)
        return sums

    def _price(self) -> Price | None:
        """Return the price of bytes in this epoch, from latents of the network as it is now."""
        network = self.task.network
        assert self._quantiser is not None
        latents = self._latents(self.task.table_images)
        network.open(features_only=False)
        return open_price(
            network.bottleneck, self._quantiser, latents, self.task.rate_control.budget, price=self.state.price
        )

    def _error(self, difference: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss of the first stage: the mean square of the standardised error of the decoded features."""
        vectors = PatchLayout.of(self.task.network.cut).split(difference.float())
        return {"loss": (vectors / self.task.scale.to(vectors.device)).square().mean()}

    def _losses(
        self, output: torch.Tensor, latents: torch.Tensor, example: Example, price: Price | None
    ) -> dict[str, torch.Tensor]:
        """Return the loss of the second stage and its parts."""
        task, settings = self.task, self.task.settings
        losses = task_losses(task.classes(output.float()), example.labels, example.teacher, settings)
        if price is not None:
            losses["bytes"] = price(latents)
            budget_bytes = task.rate_control.budget.payload_bytes
            assert budget_bytes is not None
            losses["loss"] = losses["loss"] + price.price * losses["bytes"] / budget_bytes
        return losses

    def _batches(self, stage: Stage, epoch: int) -> tuple[closing[Generator[Example]], int]:
        """Return the epoch's batches and their number."""
        features, settings = self.task.features, self.task.settings
        count = len(features.source.images)
        generator = np.random.default_rng((settings.seed, stage == "task", epoch))
        rows: NDArray[np.int64] = generator.permutation(count)
        if features.source.flip:
            rows = rows + count * generator.integers(0, 2, count)
        size = settings.batch_size
        if len(rows) > size and len(rows) % size == 1:
            rows = rows[:-1]  # a BatchNorm cannot learn from a single image
        return features.batches(rows, batch_size=size), -(-len(rows) // size)

    def codec_of(self, quantiser: LatentQuantiser) -> CodedLatents:
        """Return the codec of a quantiser, with tables and mean payload from the network as it is now."""
        return self.task.rate_control.coded(self._sample(), quantiser.quantiser)

    def at_budget(self, built: BuiltSplit) -> CodedLatents:
        """Return the codec that fills the budget on the select part, for a split with the model's own head."""
        sample = self._sample(closed_form=built.bottleneck)
        return self.task.rate_control(sample, before=built.quantiser)

    def _sample(self, *, closed_form: Bottleneck | None = None) -> SampleLatents:
        """Return the latents that a codec is made from and judged on; see `_latents`."""
        select, tables = self.task.select, self.task.table_images
        judged = FeatureRows(select, np.arange(len(select)))
        return SampleLatents(*(self._latents(images, closed_form=closed_form) for images in (tables, judged)))

    def _latents(self, images: FeatureRows, *, closed_form: Bottleneck | None = None) -> torch.Tensor:
        """Return latents N×latent_shape of these images, or of as many of them as there is room for.

        The latents come from the trained bottleneck. Where `closed_form` is given, they come from that bottleneck,
        which is on the CPU, behind the model's own head.
        """
        network, features = self.task.network, images.features
        network.eval_bottleneck()
        bottleneck = closed_form or network.bottleneck
        most = max(32, _MAX_LATENTS // math.prod(bottleneck.latent_shape))
        parts: list[torch.Tensor] = []
        with torch.no_grad(), features.batches(images.rows[:most], batch_size=64) as examples:
            for example in examples:
                if closed_form is not None:
                    crossing = (features.head(example.inputs) if features.source.raw else example.inputs).cpu()
                else:
                    crossing = example.inputs if network.head is None else network.head(example.inputs)
                parts.append(bottleneck.encode(crossing).cpu())
        return torch.cat(parts)

    def _evaluate(self, losses: dict[str, float], *, epoch: int, seconds: float) -> None:
        """Finish the split as it is now, measure it on the select part, and keep it if it is the best so far."""
        coded = self.task.rate_control(self._sample(), before=self._quantiser)
        self._quantiser = coded.quantiser
        accuracy, loss = self._select()
        row = TrainingEpoch(
            stage="task",
            epoch=epoch,
            losses={**losses, "select": loss},
            select_accuracy=accuracy,
            payload_bytes=coded.payload_bytes,
            seconds=seconds,
        )
        changes: dict[str, Any] = {"curve": (*self.state.curve, row)}
        best = self.state.best_accuracy, self.state.best_loss
        if best[0] is None or best[1] is None or (accuracy, -loss) > (best[0], -best[1]):
            self._best = module_tensors("best", self.task.network)
            changes["best_epoch"], changes["best_accuracy"], changes["best_loss"] = epoch, accuracy, loss
            changes["best_quantiser"] = Scales.of(coded.codec.quantiser)
        self.state = self.state.model_copy(update=changes)

    def _select(self) -> tuple[float, float]:
        """Return accuracy and cross-entropy on the select part."""
        task, right, loss = self.task, 0, 0.0
        task.network.eval_bottleneck()
        with torch.no_grad(), task.select.batches(np.arange(len(task.select)), batch_size=64) as examples:
            for example in examples:
                with self._autocast():
                    output = task.network(example.inputs, self._quantiser)[0]
                logits = task.classes(output.float())
                right += int((logits.argmax(1) == example.labels).sum())
                loss += float(functional.cross_entropy(logits, example.labels, reduction="sum"))
        return right / len(task.select), loss / len(task.select)

    def _save(self, stage: _Stage, seconds: float) -> None:
        network = self.task.network
        changes = {
            "done": self.state.done + 1,
            "seconds": self.state.seconds + seconds,
            "quantiser": None if self._quantiser is None else Scales.of(self._quantiser.quantiser),
        }
        self.state = self.state.model_copy(update=changes)
        tensors = module_tensors("now", network) | optimiser_tensors(stage.optimiser) | self._best
        tensors["rates"] = torch.tensor(stage.highest_rates, dtype=torch.float64)
        self._checkpoint.save(self.state, tensors)

    def _restore_best(self) -> TrainedState:
        network = self.task.network
        load_module("best", network, self._best)
        quantiser = self._in_torch(self.state.best_quantiser)
        assert quantiser is not None
        network.requires_grad_(False)
        network.eval_bottleneck()
        return TrainedState(self.state, quantiser)

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self._precision, device=self._device)
