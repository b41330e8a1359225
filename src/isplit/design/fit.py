"""isplit fit: a split trained, measured and saved."""

import hashlib
import json
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from isplit.design.closed_form.solve import SHRINKAGE
from isplit.design.inputs.weights import fingerprint
from isplit.design.measure.splits import evaluate_splits, measure
from isplit.design.progress import Progress, silent
from isplit.design.running import chosen_precision, evaluating
from isplit.design.settings import FitSettings, Start, TrainedDesign, read_budget
from isplit.design.splits import BuiltSplit, save_split, split_directory
from isplit.design.study import Study, StudyView, open_study
from isplit.design.training.checkpoint import Checkpoint, RunState
from isplit.design.training.features import Features, Source
from isplit.design.training.loop import Job, Run
from isplit.design.training.rate import Tag, coded
from isplit.design.training.start import Beginning, begin, channel_statistics, check_start
from isplit.design.training.trainee import Trainee
from isplit.errors import StudyError
from isplit.records import Budget, Cut, Measurement, PartName, SplitRecord, Training


def fit(
    study: Study | str | Path,
    cut: str,
    budget: int | Budget,
    *,
    group: str | None = None,
    design: TrainedDesign = "linear",
    start: Start | None = None,
    settings: FitSettings | None = None,
    directory: Path | None = None,
    progress: Progress = silent,
) -> SplitRecord:
    """Train a split, measure it on the test part, and save it in the study.

    What was trained with the same settings already is not trained again; what was interrupted goes on after the last
    whole epoch, and ends with the same weights, bit for bit, if the number of threads is the same.

    Args:
        study: A study, or its directory; the model itself is not changed.
        cut: Its name.
        budget: Mean bytes of a payload as an int, or a `Budget`.
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
    budget = read_budget(budget)
    check_start(design, start, budget)
    view = open_study(study).view(group)
    (place,) = view.study.cuts((cut,))
    directory = directory or trained_directory(view, cut, budget, design=design, start=start, settings=settings)
    known = _known(directory, view, design=design, start=start, settings=settings)
    if known is not None:
        return known
    images = view.images("fit", limit=settings.images)
    checkpoint = Checkpoint(
        directory, key=_key(view, cut, budget, design=design, start=start, settings=settings, images=len(images))
    )
    accelerator = Accelerator()
    with evaluating(view.graph.module):
        made, state = _train(
            view, place, budget, design=design, start=start, settings=settings, images=images,
            accelerator=accelerator, checkpoint=checkpoint, progress=progress,
        )  # fmt: skip
    beginning, built = made
    record = _record(
        view, beginning, built, budget, start=start, settings=settings, state=state,
        images=len(images), progress=progress,
    )  # fmt: skip
    if accelerator.is_main_process:
        save_split(directory, record, built)
        checkpoint.clear()
    accelerator.wait_for_everyone()
    return record


def trained_directory(
    view: StudyView,
    cut: str,
    budget: Budget,
    *,
    design: TrainedDesign,
    start: Start,
    settings: FitSettings,
) -> Path:
    """Return where `fit` saves: other starts and an open head have places of their own beside the default."""
    variant = design + ("-random" if design == "linear" and start == "random" else "")
    return split_directory(
        view.directory,
        cut=cut,
        group=view.name,
        design=variant + ("-head" if settings.train_head else ""),
        budget=budget,
        trained=True,
    )


def _known(directory: Path, view: StudyView, *, design: str, start: str, settings: FitSettings) -> SplitRecord | None:
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
        and record.model == view.fingerprint
    )
    return record if same else None


def _key(
    view: StudyView,
    cut: str,
    budget: Budget,
    *,
    design: str,
    start: str,
    settings: FitSettings,
    images: int,
) -> str:
    """Return a hash of all that a run depends on."""
    parts = [view.fingerprint, view.study.record.data.sha256, cut, budget.tag, view.group.model_dump()]
    text = json.dumps([*parts, design, start, settings.recorded(), images], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _train(
    view: StudyView,
    cut: Cut,
    budget: Budget,
    *,
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
            view=view, cut=cut, images=chosen, flip=flip, raw=settings.train_head,
            device=accelerator.device, precision=chosen_precision(settings.precision, device=accelerator.device.type),
        )  # fmt: skip
        return Features(
            source,
            store=settings.features,
            memory_bytes=settings.memory_gib * 2**30,
            progress=progress,
            label=f"{cut.name}: features of the {part} part",
        )

    judged = view.images("select", limit=settings.select_images)
    with features("fit", images, flip=settings.flip) as fitted, features("select", judged, flip=False) as select:
        beginning = begin(
            view, cut, budget, design=design, start=start, settings=settings, features=fitted,
            progress=progress,
        )  # fmt: skip
        # What `predict` left may have been made again since: a checkpoint is of one beginning.
        checkpoint.key += fingerprint(beginning.bottleneck)
        trainee = Trainee(view.graph, cut, beginning.bottleneck, settings).to(accelerator.device)
        tag = Tag(view.fingerprint, cut.name)
        job = Job(
            trainee=trainee,
            features=fitted,
            select=select,
            scale=channel_statistics(fitted, cut, images=settings.statistics_images)[1],
            classes=view.classes,
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
    view: StudyView,
    beginning: Beginning,
    built: BuiltSplit,
    budget: Budget,
    *,
    start: Start,
    settings: FitSettings,
    state: RunState,
    images: int,
    progress: Progress,
) -> SplitRecord:
    """Measure the trained split, and the untrained one beside it on the same images."""

    def measured(splits: list[BuiltSplit], part: PartName, limit: int | None) -> list[Measurement]:
        found = evaluate_splits(
            view,
            splits,
            images=view.images(part, limit=limit),
            precision=chosen_precision(settings.precision),
            progress=progress,
            label=f"{built.cut.name}: accuracy on the {part} part",
        )
        return [measure(view, one, found, number, part=part) for number, one in enumerate(splits)]

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
        versions={**view.study.versions, "accelerate": metadata.version("accelerate")},
        model=view.fingerprint,
        cut=built.cut.name,
        group=view.name,
        budget=budget,
        bottleneck=beginning.spec,
        statistics_images=beginning.statistics_images,
        samples_per_dimension=beginning.samples_per_dimension,
        shrinkage=SHRINKAGE if beginning.spec.design == "linear" else 0.0,
        training=training,
        seed=settings.seed,
        measurement=test,
    )
