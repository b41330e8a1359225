"""isplit fit: a split trained, measured and saved."""

import hashlib
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn

from isplit.design.bottleneck.build import save_split, split_directory
from isplit.design.bottleneck.linear import SHRINKAGE
from isplit.design.class_subsets import GroupLogits
from isplit.design.inputs.weights import fingerprint
from isplit.design.measure.splits import BuiltSplit, evaluate_splits, measure
from isplit.design.modes import evaluating
from isplit.design.precision import chosen_precision
from isplit.design.predict import check_budgets
from isplit.design.settings import FitSettings, Start, TrainedDesign
from isplit.design.study import OpenStudy
from isplit.design.training.checkpoint import Checkpoint, RunState
from isplit.design.training.features import Features, Source
from isplit.design.training.loop import Job, Run
from isplit.design.training.rate import Tag, coded
from isplit.design.training.start import Beginning, begin, channel_statistics, check_start
from isplit.design.training.trainee import Trainee
from isplit.errors import StudyError
from isplit.records import Budget, Cut, Measurement, PartName, SplitRecord, Training

Progress = Callable[[str, int, int], None]


def fit(
    study: OpenStudy,
    cut: str,
    budget: Budget,
    *,
    group: str | None = None,
    design: TrainedDesign = "linear",
    start: Start | None = None,
    settings: FitSettings | None = None,
    directory: Path | None = None,
    progress: Progress = lambda what, done, total: None,
) -> SplitRecord:
    """Train a split, measure it on the test part, and save it in the study.

    What was trained with the same settings already is not trained again; what was interrupted goes on after the last
    whole epoch, and ends with the same weights, bit for bit, if the number of threads is the same.

    Args:
        study: From `open_study`; the model itself is not changed.
        cut: Its name.
        budget: Mean bytes of a payload, or the share of the tensor's elements.
        group: A class subset of the study; None for all classes.
        design: "linear" (the closed form's), "undercomplete" (the paper's) or "identity" (the quantiser alone).
        start: None: the closed form for the linear design, random values for the others.
        settings: How.
        directory: Where to save instead of the study's own place for it.
        progress: Called as work goes on.

    Raises:
        InputError: an unknown cut, subset, design or start, or a budget that cannot be met.
        NonFiniteError: the loss is no number any more.

    """
    settings = settings or FitSettings()
    start = start or ("closed-form" if design == "linear" else "random")
    check_budgets([budget])
    check_start(design, start, budget)
    (place,), classes = study.cuts((cut,)), study.group(group)
    directory = directory or trained_directory(
        study, cut, budget, group=group, design=design, start=start, settings=settings
    )
    known = _known(directory, study, design=design, start=start, settings=settings)
    if known is not None:
        return known
    images = study.images("fit", classes, limit=settings.images)
    checkpoint = Checkpoint(directory, key=_key(study, cut, budget, classes, design, start, settings, len(images)))
    accelerator = Accelerator()
    with evaluating(study.graph.module):
        made, state = _train(
            study, place, budget, group=classes, design=design, start=start, settings=settings, images=images,
            accelerator=accelerator, checkpoint=checkpoint, progress=progress,
        )  # fmt: skip
    beginning, built = made
    record = _record(
        study, beginning, built, budget, group=classes, start=start, settings=settings, state=state,
        images=len(images), progress=progress,
    )  # fmt: skip
    if accelerator.is_main_process:
        save_split(directory, record, built.bottleneck, built.codec, _own_sides(built))
        checkpoint.clear()
    accelerator.wait_for_everyone()
    return record


def trained_directory(
    study: OpenStudy,
    cut: str,
    budget: Budget,
    *,
    group: str | None,
    design: TrainedDesign,
    start: Start,
    settings: FitSettings,
) -> Path:
    """Return where `fit` saves: other starts and an open head have places of their own beside the default."""
    variant = design + ("-random" if design == "linear" and start == "random" else "")
    return split_directory(
        study.directory,
        cut=cut,
        group=study.group(group).group.name,
        design=variant + ("-head" if settings.train_head else ""),
        budget=budget,
        trained=True,
    )


def _known(directory: Path, study: OpenStudy, *, design: str, start: str, settings: FitSettings) -> SplitRecord | None:
    """Return the record of a split that was trained in the same way before."""
    try:
        record = SplitRecord.load(directory)
    except StudyError:
        return None
    same = (
        record.training is not None
        and record.training.start == start
        and record.training.settings == settings.recorded()
        and record.bottleneck.design == design
        and record.model == study.model.source.fingerprint
    )
    return record if same else None


def _key(
    study: OpenStudy,
    cut: str,
    budget: Budget,
    group: GroupLogits,
    design: str,
    start: str,
    settings: FitSettings,
    images: int,
) -> str:
    """Return a hash of all that a run depends on."""
    parts = [study.model.source.fingerprint, study.record.data.sha256, cut, budget.tag, group.group.model_dump()]
    text = json.dumps([*parts, design, start, settings.recorded(), images], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _train(
    study: OpenStudy,
    cut: Cut,
    budget: Budget,
    *,
    group: GroupLogits,
    design: TrainedDesign,
    start: Start,
    settings: FitSettings,
    images: NDArray[np.int64],
    accelerator: Accelerator,
    checkpoint: Checkpoint,
    progress: Progress,
) -> tuple[tuple[Beginning, BuiltSplit], RunState]:
    """Prepare features, bottleneck and trainee, run both stages, and build the split of the best epoch."""

    def features(part: str, chosen: NDArray[np.int64], *, flip: bool) -> Features:
        source = Source(
            study=study, cut=cut, group=group, images=chosen, flip=flip, raw=settings.train_head,
            device=accelerator.device, precision=chosen_precision(settings.precision, device=accelerator.device.type),
        )  # fmt: skip
        return Features(
            source,
            store=settings.features,
            memory_bytes=settings.memory_gib * 2**30,
            progress=lambda done, total: progress(f"{cut.name}: features of the {part} part", done, total),
        )

    judged = study.images("select", group, limit=settings.select_images)
    with features("fit", images, flip=settings.flip) as fitted, features("select", judged, flip=False) as select:
        beginning = begin(
            study, cut, budget, group=group, design=design, start=start, settings=settings, features=fitted,
            progress=progress,
        )  # fmt: skip
        # What `predict` left may have been made again since: a checkpoint is of one beginning.
        checkpoint.key += fingerprint(beginning.bottleneck)
        trainee = Trainee(study.graph, cut, beginning.bottleneck, settings).to(accelerator.device)
        tag = Tag(study.model.source.fingerprint, cut.name)
        job = Job(
            trainee=trainee,
            features=fitted,
            select=select,
            scale=channel_statistics(fitted, cut, images=settings.statistics_images)[1],
            group=group,
            budget=budget,
            tag=tag,
            settings=settings,
            feature_epochs=_feature_epochs(settings, start, design),
        )
        run = Run(job, accelerator, checkpoint, progress)
        state = run()
        codec, _ = coded(trainee.bottleneck, run.latents(), tag)
    trainee.to("cpu")
    open_tail = settings.train_tail or settings.train_head
    built = BuiltSplit(cut, trainee.bottleneck, codec, tail=trainee.tail if open_tail else None, head=trainee.head)
    return (beginning, built), state


def _feature_epochs(settings: FitSettings, start: Start, design: TrainedDesign) -> int:
    if design == "identity":
        return 0
    if settings.feature_epochs is not None:
        return settings.feature_epochs
    return 1 if start == "random" else 0


def _record(
    study: OpenStudy,
    beginning: Beginning,
    built: BuiltSplit,
    budget: Budget,
    *,
    group: GroupLogits,
    start: Start,
    settings: FitSettings,
    state: RunState,
    images: int,
    progress: Progress,
) -> SplitRecord:
    """Measure the trained split, and the untrained one beside it on the same images."""

    def measured(splits: list[BuiltSplit], part: PartName, limit: int | None) -> list[Measurement]:
        found = evaluate_splits(
            study,
            splits,
            group=group,
            images=study.images(part, group, limit=limit),
            precision=chosen_precision(settings.precision),
            progress=lambda done, total: progress(f"{built.cut.name}: accuracy on the {part} part", done, total),
        )
        return [measure(study, one, found, number, group=group, part=part) for number, one in enumerate(splits)]

    (select,) = measured([built], "select", settings.select_images)
    both = [built] if beginning.before is None else [built, beginning.before]
    test, *before = measured(both, "test", None)
    training = Training(
        start=start,
        trained=settings.trained,
        part="fit",
        images=images,
        epochs=state.done,
        best_epoch=state.best_epoch,
        seconds=state.seconds,
        settings=settings.recorded(),
        threads=torch.get_num_threads(),
        curve=state.curve,
        select=select,
        before=before[0] if before else None,
    )
    return SplitRecord(
        isplit_version=metadata.version("isplit"),
        versions={**study.versions, "accelerate": metadata.version("accelerate")},
        model=study.model.source.fingerprint,
        cut=built.cut.name,
        group=group.group.name,
        budget=budget,
        bottleneck=beginning.spec,
        statistics_images=beginning.statistics_images,
        samples_per_dimension=beginning.samples_per_dimension,
        shrinkage=SHRINKAGE if beginning.spec.design == "linear" else 0.0,
        training=training,
        seed=settings.seed,
        measurement=test,
    )


def _own_sides(built: BuiltSplit) -> nn.Module | None:
    """Return the trained sides as one module: its tensors are named tail.… and head.…."""
    sides = {name: side for name, side in (("tail", built.tail), ("head", built.head)) if side is not None}
    return nn.ModuleDict(sides) if sides else None
