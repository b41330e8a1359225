"""isplit fit: train a split, measure it and save it."""

import hashlib
import json
from contextlib import ExitStack
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.design.bottleneck.base import Bottleneck
from isplit.design.bottleneck.coding import CodecOwner
from isplit.design.bottleneck.spec import read_design
from isplit.design.budgets import read_budget
from isplit.design.devices import describe_device, device_of, placed, resolve_device
from isplit.design.inputs.weights import fingerprint
from isplit.design.running import chosen_precision, evaluating
from isplit.design.settings import FitSettings, Start
from isplit.design.splits import BuiltSplit, save_split, split_directory
from isplit.design.study import Study, open_study, open_to_write
from isplit.design.study_lock import split_lock
from isplit.design.training.checkpoint import Checkpoint
from isplit.design.training.features import FeatureRows, Features, FeatureSource
from isplit.design.training.loop import TrainedState, TrainingRun, TrainingTask
from isplit.design.training.outcome import Outcome, compare_with_closed_form, measured
from isplit.design.training.rate import RateControl
from isplit.design.training.split_network import SplitNetwork
from isplit.design.training.start import (
    FitTask,
    StartingPoint,
    channel_statistics,
    check_start,
    starting_point,
    table_images,
)
from isplit.errors import StudyError
from isplit.progress import Progress, silent
from isplit.records import Budget, PartName, SplitRecord, Training
from isplit.records.split_files import read_split_files


def fit(
    study: Study | str | Path,
    cut: str,
    budget: int | Budget,
    *,
    group: str | None = None,
    design: str | type[Bottleneck] = "linear",
    start: Start | None = None,
    settings: FitSettings | None = None,
    progress: Progress = silent,
) -> SplitRecord:
    """Train a split, measure it on the test part, and save it in the study.

    The trained split is compared with the closed form on the same images of the select part. If training has lost, the
    closed form is saved (the record's `training.kept` says so). The mean payload on the select part fills a budget of
    bytes to within 2 %, that of a closed form included: where it takes more or fewer bytes there, it is saved with
    another step. Where the budget cannot be filled, `training.budget_note` says why.

    A split that was trained with the same settings before is not trained again. A run that was interrupted goes on
    after its last whole epoch, and ends with the same weights, bit for bit, if the number of threads is the same.

    Args:
        study: A study, or its directory; the model itself is not changed.
        cut: Its name.
        budget: Mean bytes of a payload as an int, or a `Budget`.
        group: A class subset of the study; None for all classes.
        design: "linear" (the closed form's), "undercomplete" (the paper's), "identity" (the quantiser alone), or your
            own: a subclass of `Bottleneck`, or where one is, as `./file.py:name` or `package.module:name`.
        start: None: the closed form for the linear design, random values for the others.
        settings: How.
        progress: Called as work goes on.

    Raises:
        InputError: an unknown cut, subset, design or start, or a budget that cannot be met.
        NonFiniteError: the loss is no number any more.

    """
    with open_to_write(study) as opened:
        task = fit_task(opened, cut, budget, group=group, design=design, start=start, settings=settings)
        return run_fit(task, progress=progress)


def fit_task(
    study: Study | str | Path,
    cut: str,
    budget: int | Budget,
    *,
    group: str | None = None,
    design: str | type[Bottleneck] = "linear",
    start: Start | None = None,
    settings: FitSettings | None = None,
) -> FitTask:
    """Return the task that `fit` runs for these arguments.

    Raises:
        InputError: an unknown cut, subset, design or start, or a budget that cannot be met.

    """
    budget, known = read_budget(budget), read_design(design)
    start = start or known.bottleneck.starts[0]
    check_start(known, start, budget)
    view = open_study(study).view(group)
    (place,) = view.study.cuts((cut,))
    return FitTask(view=view, cut=place, budget=budget, design=known, start=start, settings=settings or FitSettings())


def run_fit(task: FitTask, *, directory: Path | None = None, progress: Progress = silent) -> SplitRecord:
    """Train, measure and save the split of a task, unless that was done before.

    Args:
        task: From `fit_task`.
        directory: Where to save instead of the study's own place for it.
        progress: Called as work goes on.

    Raises:
        InputError: a budget that cannot be met, or another process trains the same split.
        NonFiniteError: the loss is no number any more.

    """
    directory = directory or trained_directory(task)
    known = _known(directory, task)
    if known is not None:
        return known
    with split_lock(directory):
        device = resolve_device(task.settings.device)
        with placed(task.view.graph.module, device=device), evaluating(task.view.graph.module):
            record, built, checkpoint = _trained(task, directory, progress)
        record = save_split(directory, record, built)
        checkpoint.clear()
    return record


def trained_directory(task: FitTask) -> Path:
    """Return where `fit` saves: other starts and an open head have places of their own beside the default."""
    variant = task.design.name + ("" if task.start == task.design.bottleneck.starts[0] else f"-{task.start}")
    return split_directory(
        task.view.directory,
        cut=task.cut.name,
        group=task.view.name,
        design=variant + ("-head" if task.settings.train_head else ""),
        budget=task.budget,
        trained=True,
    )


def _known(directory: Path, task: FitTask) -> SplitRecord | None:
    """Return the record of a split that was trained in the same way before."""
    try:
        record = read_split_files(directory).record
    except StudyError:  # there is none, or it is damaged and is trained again
        return None
    if record.training is None:
        return None
    # Records from before a setting was there were made with its default.
    settings = {**FitSettings().recorded(), **record.training.settings}
    same = (
        record.training.start == task.start
        and settings == {**FitSettings().recorded(), **task.settings.recorded()}
        and (record.bottleneck.design, record.bottleneck.source) == (task.design.name, task.design.source)
        and record.model == task.view.fingerprint
    )
    return record if same else None


def _key(task: FitTask, starting: StartingPoint, *, images: int) -> str:
    """Return a hash of all that a run depends on.

    `predict` may have rewritten the starting split, so its values are part of the key.
    """
    view, settings = task.view, task.settings.recorded()
    parts = [view.fingerprint, view.study.record.data.sha256, task.cut.name, task.budget.tag, view.group.model_dump()]
    design = task.design.source or task.design.name
    text = json.dumps([*parts, design, task.start, settings, images], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest() + fingerprint(starting.bottleneck)


def _trained(task: FitTask, directory: Path, progress: Progress) -> tuple[SplitRecord, BuiltSplit, Checkpoint]:
    """Prepare features, bottleneck and network, run both stages, and measure the split of the best epoch."""
    view, cut, settings, device = task.view, task.cut, task.settings, device_of(task.view.graph.module)

    images = view.images("fit", limit=settings.images)
    select_images = view.images("select", limit=settings.select_images)
    with ExitStack() as stack:
        fit_features = stack.enter_context(_features(task, "fit", images, flip=settings.flip, progress=progress))
        select_features = stack.enter_context(_features(task, "select", select_images, progress=progress))
        table_rows = _rows_of(table_images(task), fit_features)
        if table_rows is None:
            others = stack.enter_context(_features(task, "fit", table_images(task), progress=progress))
            table_rows = FeatureRows(others, np.arange(len(others)))
        starting = starting_point(task, fit_features, progress=progress)
        checkpoint = Checkpoint(directory=directory, key=_key(task, starting, images=len(images)))
        network = SplitNetwork(view.graph, cut, starting.bottleneck, settings).to(device)
        run = TrainingRun(
            TrainingTask(
                network=network,
                quantiser=starting.quantiser,
                features=fit_features,
                table_images=table_rows,
                select=select_features,
                scale=channel_statistics(fit_features, cut, images=settings.statistics_images)[1],
                classes=view.classes,
                rate_control=RateControl(
                    owner=CodecOwner(view.fingerprint, cut.name),
                    budget=task.budget,
                    coder=settings.coder,
                    channel_axis=starting.bottleneck.channel_axis,
                    common_step=starting.bottleneck.common_step,
                ),
                settings=settings,
                feature_epochs=_feature_epochs(task, starting.bottleneck),
            ),
            checkpoint,
            progress,
        )
        trained = run()
        coded = run.codec_of(trained.quantiser)
        at_budget = None
        if starting.before is not None and task.budget.payload_bytes is not None:
            at_budget = run.at_budget(starting.before)
    network.to("cpu")
    built = BuiltSplit(cut, network.bottleneck, coded.codec, head=network.head)
    if settings.train_tail or settings.train_head:
        built = replace(built, tail=network.tail)
    outcome = compare_with_closed_form(
        task, starting, built, at_budget=at_budget, is_finest=coded.is_finest, progress=progress
    )
    record = _record(task, starting, outcome, trained, images=len(images), progress=progress)
    return record, outcome.kept, checkpoint


def _features(
    task: FitTask, part: PartName, images: NDArray[np.int64], *, flip: bool = False, progress: Progress
) -> Features:
    """Return the features of images of a part; `flip` adds their mirrored copies."""
    settings = task.settings
    precision = chosen_precision(settings.precision, device=device_of(task.view.graph.module))
    return Features(
        FeatureSource(
            view=task.view, cut=task.cut, images=images, flip=flip, raw=settings.train_head, precision=precision
        ),
        store=settings.features,
        memory_bytes=settings.memory_gib * 2**30,
        progress=progress,
        label=f"{task.cut.name}: features of the {part} part",
    )


def _rows_of(images: NDArray[np.int64], features: Features) -> FeatureRows | None:
    """Return the rows of features that are these images', without mirrored copies; None where some are missing."""
    row_of = {int(image): row for row, image in enumerate(features.source.images)}
    rows = [row_of.get(int(image)) for image in images]
    known = [row for row in rows if row is not None]
    return FeatureRows(features, np.array(known, np.int64)) if len(known) == len(rows) else None


def _feature_epochs(task: FitTask, bottleneck: Bottleneck) -> int:
    """Return the epochs of the first stage, which is for designs that have something to learn in it."""
    if not any(True for _ in bottleneck.parameters()):
        return 0
    if task.settings.feature_epochs is not None:
        return task.settings.feature_epochs
    return 1 if task.start == "random" else 0


def _record(
    task: FitTask,
    starting: StartingPoint,
    outcome: Outcome,
    trained: TrainedState,
    *,
    images: int,
    progress: Progress,
) -> SplitRecord:
    """Measure the kept split on the test part, and the closed form beside it on the same images."""
    view, settings, state, kept = task.view, task.settings, trained.state, outcome.kept
    splits = [kept] if starting.before is None or starting.before is kept else [kept, starting.before]
    test, *before = measured(task, splits, part="test", progress=progress)
    training = Training(
        start=task.start,
        trained=settings.trained,
        part="fit",
        images=images,
        epochs=state.done,
        best_epoch=state.best_epoch,
        seconds=state.seconds,
        settings=settings.recorded(),
        threads=torch.get_num_threads(),
        curve=state.curve,
        select=outcome.select,
        closed_form_select=outcome.closed_form_select,
        before=before[0] if before else (test if starting.before is kept else None),
        kept="closed-form" if outcome.is_closed_form else "trained",
        budget_note=outcome.budget_note,
    )
    return SplitRecord(
        isplit_version=metadata.version("isplit"),
        versions=view.study.versions,
        device=describe_device(device_of(view.graph.module)),
        model=view.fingerprint,
        cut=kept.cut.name,
        group=view.name,
        budget=task.budget,
        bottleneck=starting.spec,
        coder=kept.codec.coder,
        statistics_images=starting.statistics_images,
        samples_per_dimension=starting.samples_per_dimension,
        shrinkage=starting.shrinkage,
        training=training,
        seed=settings.seed,
        measurement=test,
    )
