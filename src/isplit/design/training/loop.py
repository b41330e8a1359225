"""The two stages of training, epoch by epoch, each of which can be the last.

stage 1: decoder(encoder(features)) against the features         bottleneck only, not quantised
stage 2: labels + the whole model's answers + price of the bytes  quantised, straight through
after each epoch of stage 2: quantiser and tables for the budget -> accuracy on the select part -> checkpoint
"""

import math
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch.nn import functional

from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.class_subsets import ClassSubset
from isplit.design.progress import Progress
from isplit.design.running import autocast, chosen_precision
from isplit.design.settings import FitSettings
from isplit.design.training.checkpoint import (
    Checkpoint,
    RunState,
    Scales,
    load_module,
    load_optimiser,
    module_tensors,
    optimiser_tensors,
)
from isplit.design.training.features import Example, Features
from isplit.design.training.rate import Price, Tag, calibrate, open_price
from isplit.design.training.trainee import Trainee
from isplit.errors import NonFiniteError
from isplit.records import Budget, Precision, TrainingEpoch

Stage = Literal["features", "task"]

# Latents for the quantiser and the tables: this many floats at most.
_MAX_LATENTS = 2**26


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What a run works on.

    `features` are of the fit part and `select` of the select part; `scale` (C) standardises the error of stage 1.
    """

    trainee: Trainee
    features: Features
    select: Features
    scale: torch.Tensor
    classes: ClassSubset
    budget: Budget
    tag: Tag
    settings: FitSettings
    feature_epochs: int


class Run:
    """Trains a `Job`, from its checkpoint if there is one; afterwards the trainee holds the best epoch's weights.

    Args:
        job: What to train on what.
        accelerator: Where, and in how many processes; each computes its share of every batch.
        checkpoint: Where the run is kept between epochs.
        progress: Called with what is being done, steps done, and steps in all.

    """

    def __init__(self, job: Job, accelerator: Accelerator, checkpoint: Checkpoint, progress: Progress) -> None:
        self.job = job
        self.state = RunState(key=checkpoint.key)
        self._accelerator = accelerator
        self._checkpoint = checkpoint
        self._progress = progress
        self._best: dict[str, torch.Tensor] = {}
        self._precision: Precision = chosen_precision(job.settings.precision, device=accelerator.device.type)

    def __call__(self) -> RunState:
        """Run what is left of both stages, and return how it went."""
        tensors = self._resume()
        stages: dict[Stage, int] = {"features": self.job.feature_epochs, "task": self.job.settings.epochs}
        for stage, epochs in stages.items():
            before = self.state.done - (self.job.feature_epochs if stage == "task" else 0)
            left = list(range(max(0, before) + 1, epochs + 1))
            if stage == "task" and self.state.best_accuracy is None:
                self._judge({}, epoch=0, seconds=0.0)
            if left and not self._is_stale():
                self._run_stage(stage, left, tensors)
                tensors = {}
        self._restore_best()
        return self.state

    def _resume(self) -> dict[str, torch.Tensor]:
        found = self._checkpoint.load()
        if found is None:
            return {}
        self.state, tensors = found
        load_module("now", self.job.trainee, tensors)
        self._best = {name: value for name, value in tensors.items() if name.startswith("best.")}
        scales = self.state.quantiser
        self.job.trainee.bottleneck.quantiser = None if scales is None else scales.quantiser()
        return tensors

    def _is_stale(self) -> bool:
        last = max((row.epoch for row in self.state.curve if row.stage == "task"), default=0)
        return last - self.state.best_epoch >= self.job.settings.patience

    def _run_stage(self, stage: Stage, epochs: list[int], tensors: dict[str, torch.Tensor]) -> None:
        trainee, settings = self.job.trainee, self.job.settings
        trainee.open(features_only=stage == "features")
        groups = trainee.groups()
        if not groups:
            return  # the first stage of a design without any encoder
        optimiser = torch.optim.Adam(groups, fused=True)
        highest = [group["lr"] for group in optimiser.param_groups]
        if epochs[0] > 1:
            # The rates are shares of sizes that have changed since: those of the stage's start go on.
            highest = [float(value) for value in tensors["rates"]]
            load_optimiser(optimiser, tensors)
        model = self._accelerator.prepare_model(trainee)
        total = self.job.feature_epochs if stage == "features" else settings.epochs
        for epoch in epochs:
            started = time.perf_counter()
            trainee.open(features_only=stage == "features")
            losses = self._epoch(model, optimiser, highest, stage=stage, epoch=epoch, epochs=total)
            seconds = time.perf_counter() - started
            if stage == "task":
                self._judge(losses, epoch=epoch, seconds=seconds)
            else:
                row = TrainingEpoch(
                    stage=stage, epoch=epoch, losses=losses, select_accuracy=None, payload_bytes=None, seconds=seconds
                )
                self.state = self.state.model_copy(update={"curve": (*self.state.curve, row)})
            self._keep(optimiser, highest, seconds)
            if stage == "task" and self._is_stale():
                break

    def _epoch(
        self,
        model: Callable[..., tuple[torch.Tensor, torch.Tensor]],
        optimiser: torch.optim.Optimizer,
        highest: list[float],
        *,
        stage: Stage,
        epoch: int,
        epochs: int,
    ) -> dict[str, float]:
        """Train on every image once and return the mean losses."""
        bottleneck, budget = self.job.trainee.bottleneck, self.job.budget
        price = None
        if stage == "task":
            price = open_price(bottleneck, self.latents(), budget, price=self.state.price)
            self.job.trainee.open(features_only=False)
        else:
            bottleneck.quantiser = None
        sums: dict[str, float] = {}
        batches, steps = self._batches(stage, epoch)
        label = f"{self.job.trainee.cut.name}: stage {1 if stage == 'features' else 2}, epoch {epoch} of {epochs}"
        with batches as examples:
            for step, example in enumerate(examples):
                share = _rate(((epoch - 1) * steps + step) / (epochs * steps), warmup=self.job.settings.warmup)
                for group, rate in zip(optimiser.param_groups, highest, strict=True):
                    group["lr"] = rate * share
                optimiser.zero_grad()
                with self._autocast():
                    output, latents = model(example.inputs, answer=stage == "task")
                losses = self._losses(output, latents, example, price) if stage == "task" else self._error(output)
                self._accelerator.backward(losses["loss"])
                optimiser.step()
                found = {name: float(value.detach()) for name, value in losses.items()}
                if not math.isfinite(found["loss"]):
                    msg = f"{label}: the loss is {found['loss']}; choose smaller learning rates"
                    raise NonFiniteError(msg)
                if price is not None:
                    price.observe(latents.detach(), found["bytes"])
                    self.state = self.state.model_copy(update={"price": price.price})
                for name, value in found.items():
                    sums[name] = sums.get(name, 0.0) + value / steps
                self._progress(label, step + 1, steps)
        return sums

    def _error(self, difference: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss of the first stage: the mean square of decoded less true features, standardised."""
        vectors = PatchLayout.of(self.job.trainee.cut).split(difference.float())
        return {"loss": (vectors / self.job.scale.to(vectors.device)).square().mean()}

    def _losses(
        self, output: torch.Tensor, latents: torch.Tensor, example: Example, price: Price | None
    ) -> dict[str, torch.Tensor]:
        """Return the loss of the second stage and its parts."""
        job, settings = self.job, self.job.settings
        logits = job.classes(output.float())
        soft = settings.temperature
        task = functional.cross_entropy(logits, example.labels)
        distillation = soft**2 * functional.kl_div(
            (logits / soft).log_softmax(1),
            (example.teacher / soft).log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        loss = (1 - settings.distillation) * task + settings.distillation * distillation
        parts = {"task": task, "distillation": distillation}
        if price is not None:
            parts["bytes"] = price(latents)
            assert job.budget.payload_bytes is not None
            loss = loss + price.price * parts["bytes"] / job.budget.payload_bytes
        return {"loss": loss, **parts}

    def _batches(self, stage: Stage, epoch: int) -> tuple[closing[Generator[Example]], int]:
        """Return this process's share of the epoch's batches and their number."""
        features, settings = self.job.features, self.job.settings
        count = len(features.source.images)
        generator = np.random.default_rng((settings.seed, stage == "task", epoch))
        rows: NDArray[np.int64] = generator.permutation(count)
        if features.source.flip:
            rows = rows + count * generator.integers(0, 2, count)
        world = self._accelerator.num_processes
        size = max(1, settings.batch_size // world)
        rows = rows[: count - count % world][self._accelerator.process_index :: world]
        if len(rows) > size and len(rows) % size == 1:
            rows = rows[:-1]  # a BatchNorm learns nothing from a single image
        return features.batches(rows, batch_size=size), -(-len(rows) // size)

    def latents(self) -> torch.Tensor:
        """Return latents of the fit part's first images, which are class-balanced."""
        trainee, features = self.job.trainee, self.job.features
        trainee.judge()
        most = max(32, _MAX_LATENTS // math.prod(trainee.bottleneck.latent_shape))
        rows = np.arange(min(len(features.source.images), self.job.settings.statistics_images, most))
        found: list[torch.Tensor] = []
        with torch.no_grad(), features.batches(rows, batch_size=64) as examples:
            for example in examples:
                crossing = example.inputs if trainee.head is None else trainee.head(example.inputs)
                found.append(trainee.bottleneck.encode(crossing).cpu())
        return torch.cat(found)

    def _judge(self, losses: dict[str, float], *, epoch: int, seconds: float) -> None:
        """Make the split as it would be kept, measure it on the select part, and keep it if it is the best."""
        job = self.job
        _, size = calibrate(job.trainee.bottleneck, self.latents(), job.budget, tag=job.tag)
        accuracy, loss = self._select()
        row = TrainingEpoch(
            stage="task", epoch=epoch, losses={**losses, "select": loss}, select_accuracy=accuracy, payload_bytes=size,
            seconds=seconds,
        )  # fmt: skip
        changes: dict[str, Any] = {"curve": (*self.state.curve, row)}
        best = self.state.best_accuracy, self.state.best_loss
        if best[0] is None or best[1] is None or (accuracy, -loss) > (best[0], -best[1]):
            self._best = module_tensors("best", job.trainee)
            quantiser = Scales.of(job.trainee.bottleneck)
            changes |= {
                "best_epoch": epoch, "best_accuracy": accuracy, "best_loss": loss, "best_quantiser": quantiser
            }  # fmt: skip
        self.state = self.state.model_copy(update=changes)

    def _select(self) -> tuple[float, float]:
        """Return accuracy and cross-entropy on the select part."""
        job, right, loss = self.job, 0, 0.0
        job.trainee.judge()
        with torch.no_grad(), job.select.batches(np.arange(len(job.select)), batch_size=64) as examples:
            for example in examples:
                with self._autocast():
                    output = job.trainee(example.inputs)[0]
                logits = job.classes(output.float())
                right += int((logits.argmax(1) == example.labels).sum())
                loss += float(functional.cross_entropy(logits, example.labels, reduction="sum"))
        return right / len(job.select), loss / len(job.select)

    def _keep(self, optimiser: torch.optim.Optimizer, highest: list[float], seconds: float) -> None:
        trainee = self.job.trainee
        changes = {
            "done": self.state.done + 1,
            "seconds": self.state.seconds + seconds,
            "quantiser": Scales.of(trainee.bottleneck),
        }
        self.state = self.state.model_copy(update=changes)
        tensors = module_tensors("now", trainee) | optimiser_tensors(optimiser) | self._best
        tensors["rates"] = torch.tensor(highest, dtype=torch.float64)
        if self._accelerator.is_main_process:
            self._checkpoint.save(self.state, tensors)
        self._accelerator.wait_for_everyone()

    def _restore_best(self) -> None:
        trainee = self.job.trainee
        load_module("best", trainee, self._best)
        assert self.state.best_quantiser is not None
        trainee.bottleneck.quantiser = self.state.best_quantiser.quantiser()
        trainee.requires_grad_(False)
        trainee.judge()

    def _autocast(self) -> AbstractContextManager[Any]:
        # Not Accelerate's own: that is one setting for the whole process, whatever a second run wants.
        return autocast(self._precision, device=self._accelerator.device.type)


def _rate(done: float, *, warmup: float) -> float:
    """Return the share of the highest learning rate when that share of the steps is done."""
    if done < warmup:
        return (done + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1e-9, 1 - warmup)))
