"""The main job: from a model and its data to ranked split points, as records in a study directory.

load ─> capture ─> base accuracy ─> scores (resumable) ─> curve ─> candidates ─> overlays
study.json  graph.json              scores/               curve.json  candidates.json  overlays.npz
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.design.class_subsets import GroupLogits, parse_groups
from isplit.design.graph import ModelGraph
from isplit.design.graph.gradients import GradientPass
from isplit.design.importance.candidates import disagreement, rank_cuts
from isplit.design.importance.curve import curve_points
from isplit.design.importance.methods import METHODS
from isplit.design.importance.overlays import draw_overlays
from isplit.design.importance.scoring import ScoreJob, score_images
from isplit.design.importance.table import ScoreTable
from isplit.design.inputs.class_outputs import match_data
from isplit.design.inputs.data import Dataset, balanced_order
from isplit.design.inputs.models import LoadedModel
from isplit.design.measure.whole import measure_accuracy
from isplit.design.precision import SETTINGS, chosen_precision
from isplit.design.study import LATER, library_versions, remove_later
from isplit.errors import InputError, StudyError
from isplit.records import (
    Candidate,
    CandidatesRecord,
    ClassGroup,
    CurveRecord,
    GraphRecord,
    Overlays,
    Precision,
    Ranking,
    StudyRecord,
    SubsetCurve,
    Target,
)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_OVERLAY_IMAGES = 6
_OVERLAY_CUTS = 5


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How `analyze` works. Everything here has a default that suits a first look.

    Args:
        images: How many images the curve is taken from, class-balanced; None for all of the fit part.
        tolerance: Stop before that when the order of the candidates is settled (see `order_is_settled`).
        method: A name in `METHODS`.
        target: The logit that is differentiated: of the correct class, or the predicted one.
        precision: "auto" takes bf16 where the CPU multiplies it in hardware.
        batch_size: Images per pass.
        test_images: How many images of the test part the base accuracy is taken from; None for all.
        pre_activation: Put the points before activations on the curve too.
        all_cuts: List every cut in graph.json, those with several crossing tensors included.
        channel_axes: Where the channels of a cut are, if they are guessed wrongly: {cut: 1 or -1}.

    """

    images: int | None = 1000
    tolerance: float | None = None
    method: str = "cui"
    target: Target = "correct"
    precision: Precision | str = "auto"
    batch_size: int = 16
    test_images: int | None = 2000
    pre_activation: bool = False
    all_cuts: bool = False
    channel_axes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        choices = {"method": METHODS, "target": ("correct", "predicted"), "precision": SETTINGS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                msg = f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}"
                raise InputError(msg)
        for name in ("images", "batch_size", "test_images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                msg = f"{name} is {value}; give at least 1"
                raise InputError(msg)
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            msg = f"tolerance is {self.tolerance:g}; give a share between 0 and 1, for example 0.05"
            raise InputError(msg)


@dataclass(frozen=True)
class Study:
    """What `analyze` found; everything is also in the files of `directory`."""

    directory: Path
    record: StudyRecord
    graph: GraphRecord
    curve: CurveRecord
    ranking: CandidatesRecord

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The cuts worth trying, first choice first."""
        return self.ranking.candidates


def analyze(
    model: LoadedModel,
    data: Dataset,
    directory: Path,
    *,
    classes: Sequence[str] = (),
    class_map: Path | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = lambda what, done, total: None,
    announce: Callable[[StudyRecord], None] = lambda study: None,
) -> Study:
    """Find the cuts of a model and rank them by what they mean for its decisions on the data.

    Run again with the same input it goes on where it was stopped, and does nothing twice.

    Args:
        model: From `load_model`; its weights are laid out channels-last.
        data: From `open_data`.
        directory: The study; made if it is not there.
        classes: Class subsets, see `parse_groups`.
        class_map: A JSON file {class: model output}, where that cannot be told by number or name.
        settings: How much and how; the defaults suit a first look.
        seed: Of the choice of images.
        overwrite: Replace a study of other input.
        progress: Called as work goes on.
        announce: Called with the study's record as soon as the base accuracy is known, before the long part.

    Raises:
        InputError: model and data do not fit, a class that is not there, a directory that cannot be used.
        NonFiniteError: the importance is NaN or infinite somewhere; curve.json says where.

    """
    settings = settings or Settings()
    match = match_data(model, data, class_map=class_map)
    outputs, notices = match.outputs, [*data.notices, *match.notices]
    groups = parse_groups(classes, data)
    logits = [GroupLogits(group, data.classes, outputs) for group in groups]
    if settings.images is not None and settings.images < len(groups[0].classes):
        notices.append(
            f"the curve is taken from {settings.images} images of {len(groups[0].classes)} classes: classes without an "
            "image have no say in it"
        )
    data = replace(data, notices=tuple(notices))
    progress("capturing the model", 0, 1)
    module = model.module.to(memory_format=torch.channels_last)
    shape = (model.preprocessing.channels, *model.preprocessing.image_size)
    graph = ModelGraph(module, shape, channel_axes=settings.channel_axes)
    record = graph.record(pre_activation=settings.pre_activation, all_cuts=settings.all_cuts)
    progress("capturing the model", 1, 1)

    inputs = _Inputs(model, data, tuple(outputs), groups, seed, graph.sha256)
    test = _test_images(inputs, logits[0], settings)
    study = _prepare(directory, inputs, len(test), overwrite=overwrite)
    if study is None:
        study = _measure(inputs, logits[0], test, settings, progress)
        study.save(directory)
    announce(study)
    record.save(directory)
    curve, images = _curve(graph, record, inputs, logits, settings, directory, progress)
    curve.save(directory)
    ranking = _rank(record, curve)
    ranking.save(directory)
    cuts = [cut for cut in (record.cut(c.cut) for c in ranking.candidates) if cut.has_positions][:_OVERLAY_CUTS]
    if cuts:
        shown = images[: min(_OVERLAY_IMAGES, len(groups[0].classes))]
        draw_overlays(graph, cuts, data, shown, model.preprocessing, logits[0], settings.target).save(directory)
    return Study(directory, study, record, curve, ranking)


@dataclass(frozen=True)
class _Inputs:
    """What is analysed."""

    model: LoadedModel
    data: Dataset
    outputs: tuple[int, ...]
    groups: tuple[ClassGroup, ...]
    seed: int
    graph_sha256: str


def _test_images(inputs: _Inputs, group: GroupLogits, settings: Settings) -> NDArray[np.int64]:
    """Choose the images for the base accuracy: those of the group's classes, or a seeded choice of so many."""
    test = inputs.data.parts["test"]
    test = test[group.label_map[inputs.data.labels[test]] >= 0]
    if settings.test_images is None or len(test) <= settings.test_images:
        return test
    return np.sort(np.random.default_rng([inputs.seed, len(test)]).choice(test, settings.test_images, replace=False))


def _measure(
    inputs: _Inputs, group: GroupLogits, test: NDArray[np.int64], settings: Settings, progress: Progress
) -> StudyRecord:
    """Measure the base accuracy and write down everything about the input."""
    model, data = inputs.model, inputs.data
    base = measure_accuracy(
        model.module,
        dataset=data,
        indices=test,
        preprocessing=model.preprocessing,
        group=group,
        batch_size=settings.batch_size,
        progress=lambda done, total: progress("base accuracy", done, total),
    )
    accuracy, chance = base.accuracy, base.chance
    warnings = [*model.warnings, *data.notices]
    if accuracy.low <= chance:
        warnings.append(
            f"the model is right on {accuracy.accuracy:.1%} of the test images, no better than always guessing the "
            f"most frequent class ({chance:.1%}): importance for its decisions means nothing. Check the weights, the "
            "class map and the preprocessing."
        )
    return StudyRecord(
        isplit_version=metadata.version("isplit"),
        versions=library_versions(),
        model=model.source,
        data=data.source(inputs.outputs),
        preprocessing=model.preprocessing,
        graph_sha256=inputs.graph_sha256,
        groups=inputs.groups,
        seed=inputs.seed,
        base_accuracy=accuracy,
        chance_accuracy=chance,
        warnings=tuple(warnings),
    )


_STEPS = (CurveRecord.file_name, CandidatesRecord.file_name, Overlays.file_name, "report.html", "curve.svg")


def _prepare(directory: Path, inputs: _Inputs, test_images: int, *, overwrite: bool) -> StudyRecord | None:
    """Make the directory ready; return its study.json if it already holds this study, with so many test images.

    What later steps wrote is removed first: should this run be stopped, nothing old stands beside something new.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        known = StudyRecord.load(directory) if (directory / StudyRecord.file_name).exists() and not overwrite else None
        foreign = [path.name for path in directory.iterdir() if not _is_ours(path.name)]
        if known is None and foreign:
            msg = f"{directory} is not empty ({foreign[0]}) and holds no study; choose another directory with -o"
            raise StudyError(msg)
        changed = known and _change(known, inputs)
        if changed:
            msg = f"{directory} holds another study: the {changed}. Choose another directory with -o, or --overwrite it"
            raise StudyError(msg)
        if known is None and not _holds(directory, inputs):
            remove_later(directory)
        for path in directory.iterdir():
            if path.name in _STEPS or (_is_ours(path.name) and path.name.startswith(".")):
                path.unlink()
    except OSError as error:
        msg = f"cannot use {directory} as a study: {error.strerror or error}"
        raise StudyError(msg) from error
    if known is None or known.groups[0] != inputs.groups[0] or known.base_accuracy.images != test_images:
        return None
    known = known.model_copy(update={"groups": inputs.groups})
    known.save(directory)
    return known


def _holds(directory: Path, inputs: _Inputs) -> bool:
    """Whether the directory holds a study of the same input, so that its splits are still right."""
    try:
        return _change(StudyRecord.load(directory), inputs) is None
    except StudyError:
        return False


def _is_ours(name: str) -> bool:
    """Whether a file belongs to a study, the temporary ones of a run that was killed included."""
    own = (StudyRecord.file_name, GraphRecord.file_name, ScoreTable.folder, *_STEPS, *LATER)
    return name in own or any(name.startswith(f".{file}.") for file in own)


def _change(known: StudyRecord, inputs: _Inputs) -> str | None:
    """Name the first thing in which a study differs from the input; None if it is the same."""
    model, data = inputs.model, inputs.data.source(inputs.outputs)
    pairs = {
        "model's weights differ": (known.model.fingerprint, model.source.fingerprint),
        "model's operations differ": (known.graph_sha256, inputs.graph_sha256),
        "data differ": (known.data.sha256, data.sha256),
        "parts of the data differ": ((known.data.split, known.data.part_images), (data.split, data.part_images)),
        "class outputs differ": (known.data.class_outputs, data.class_outputs),
        "preprocessing differs": (known.preprocessing, model.preprocessing),
        "seed differs": (known.seed, inputs.seed),
    }
    return next((what for what, (before, now) in pairs.items() if before != now), None)


def _curve(
    graph: ModelGraph,
    record: GraphRecord,
    inputs: _Inputs,
    groups: Sequence[GroupLogits],
    settings: Settings,
    directory: Path,
    progress: Progress,
) -> tuple[CurveRecord, NDArray[np.int64]]:
    """Score the images and average: one pass for all groups, but for those that need gradients of their own."""
    cuts = [cut for cut in record.cuts if cut.kind != "other" and cut.has_positions]
    if not cuts:
        msg = "the model has no cut with a spatial or token axis, so there is no curve; see `isplit cuts`"
        raise InputError(msg)
    precision = chosen_precision(settings.precision)
    gradients = GradientPass(graph, cuts)
    names = [cut.name for cut in cuts]
    tables: list[ScoreTable] = []
    stopped = ""
    for group in groups:
        # The gradient of an image's own logit is the same whichever other classes it competes with.
        labels = group.label_map[inputs.data.labels[tables[0].images]] if tables else np.empty(0, np.int64)
        shared = settings.target == "correct" and not (group.merges or groups[0].merges)
        if shared and len(np.unique(labels[labels >= 0])) == len(group.group.classes):
            tables.append(replace(tables[0], labels=labels))
            continue
        order = _order(inputs, group)
        job = _job(order, settings, precision)
        table, why = score_images(
            gradients,
            inputs.data,
            inputs.model.preprocessing,
            group,
            job,
            ScoreTable.load(directory, _key(inputs, job, group, order, names), len(cuts)).head(len(job.order)),
            save=lambda rows: rows.save(directory),
            progress=lambda done, total, name=group.group.name: progress(f"importance, {name}", done, total),
        )
        stopped = stopped or why
        tables.append(table)
    curves = [
        SubsetCurve(
            name=group.group.name,
            classes=group.group.classes,
            images=int((table.labels >= 0).sum()),
            points=curve_points(names, table.scores, table.labels, group.group.classes),
        )
        for group, table in zip(groups, tables, strict=True)
    ]
    counts = np.bincount(tables[0].labels, minlength=len(curves[0].classes)).tolist()
    return CurveRecord(
        method=settings.method,
        target=settings.target,
        precision=precision,
        images=len(tables[0]),
        images_per_class=dict(zip(curves[0].classes, counts, strict=True)),
        stopped=stopped,
        points=curves[0].points,
        subsets=tuple(curves[1:]),
    ), tables[0].images


def _order(inputs: _Inputs, group: GroupLogits) -> NDArray[np.int64]:
    """Return the fit part's images of a group's classes in the order to take them."""
    fit = inputs.data.parts["fit"]
    members = fit[group.label_map[inputs.data.labels[fit]] >= 0]
    return balanced_order(inputs.data.labels, members, seed=inputs.seed)


def _job(order: NDArray[np.int64], settings: Settings, precision: Precision) -> ScoreJob:
    return ScoreJob(
        method=settings.method,
        target=settings.target,
        precision=precision,
        batch_size=settings.batch_size,
        order=order if settings.images is None else order[: settings.images],
        tolerance=settings.tolerance,
    )


def _key(inputs: _Inputs, job: ScoreJob, group: GroupLogits, order: NDArray[np.int64], cuts: Sequence[str]) -> str:
    """Hash everything that an image's scores, and the order of the images, depend on."""
    parts = {
        "model": [inputs.model.source.fingerprint, inputs.graph_sha256],
        "data": [inputs.data.sha256, inputs.data.split],
        "preprocessing": inputs.model.preprocessing.model_dump(mode="json"),
        "outputs": group.outputs,
        "order": hashlib.sha256(order.tobytes() + inputs.data.labels.tobytes()).hexdigest(),
        "job": [job.method, job.target, job.precision],
        "cuts": list(cuts),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _rank(record: GraphRecord, curve: CurveRecord) -> CandidatesRecord:
    overall = rank_cuts(record, "all", tuple(curve.images_per_class), curve.points)
    subsets: list[Ranking] = [rank_cuts(record, s.name, s.classes, s.points) for s in curve.subsets]
    return CandidatesRecord(
        method=curve.method,
        candidates=overall.candidates,
        note=overall.note,
        subsets=tuple(subsets),
        disagreement=disagreement([overall, *subsets]),
    )
