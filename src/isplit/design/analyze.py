"""The main job: from a model and its data to ranked split points, as records in a study directory.

load ─> capture ─> base accuracy ─> scores (resumable) ─> curve ─> candidates ─> overlays
study.json  graph.json              scores/               curve.json  candidates.json  overlays.npz
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from isplit.design.analyze_quick import quick_settings
from isplit.design.class_subsets import ClassSubset, parse_groups
from isplit.design.devices import describe_device, device_of, placed, resolve_device
from isplit.design.graph import ModelGraph
from isplit.design.graph.gradients import GradientPass
from isplit.design.importance.candidates import disagreement, rank_cuts
from isplit.design.importance.curve import curve_points
from isplit.design.importance.methods import method_fingerprint, resolve_method
from isplit.design.importance.overlays import draw_overlays
from isplit.design.importance.scoring import ScoreJob, score_images
from isplit.design.importance.table import ScoreTable
from isplit.design.inputs.batches import normalise
from isplit.design.inputs.class_outputs import match_data
from isplit.design.inputs.data import Dataset
from isplit.design.inputs.models import LoadedModel
from isplit.design.inputs.onnx_models import check_against_onnxruntime, is_onnx_file
from isplit.design.measure.whole import measure_accuracy
from isplit.design.running import chosen_precision, evaluating
from isplit.design.settings import AnalyzeSettings
from isplit.design.study import Study, class_images, library_versions
from isplit.design.study_directory import StudyInputs, make_directory, prepare_directory, remove_analysis
from isplit.design.study_lock import study_lock
from isplit.errors import InputError, IsplitError, NonFiniteError
from isplit.progress import Progress, silent
from isplit.records import (
    CandidatesRecord,
    ClassGroup,
    CurveRecord,
    GraphRecord,
    Overlays,
    Precision,
    Ranking,
    StudyRecord,
    SubsetCurve,
)

_CHECKED_IMAGES = 8
_OVERLAY_IMAGES = 6
_OVERLAY_CUTS = 5


def analyze(
    model: LoadedModel,
    data: Dataset,
    directory: str | Path,
    *,
    classes: Sequence[str] = (),
    settings: AnalyzeSettings | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    announce: Callable[[StudyRecord], None] = lambda study: None,
) -> Study:
    """Find the cuts of a model and rank them by their importance for its decisions on the data.

    The arguments and errors are those of `isplit.analyze`. The weights of the model are laid out channels-last.
    """
    settings, directory = settings or AnalyzeSettings(), Path(directory)
    device = resolve_device(settings.device)
    # Once: a method that is named by its file has that file run.
    settings = replace(settings, method=resolve_method(settings.method))
    if settings.quick:
        settings = quick_settings(settings, data)
    model = model.for_classes(len(data.classes))
    class_map = None if settings.class_map is None else Path(settings.class_map)
    match = match_data(model, data, class_map=class_map)
    groups = parse_groups(classes, data)
    logits = [ClassSubset(group, data.classes, match.outputs) for group in groups]
    data = replace(data, notices=(*data.notices, *match.notices, *_few_images(settings, groups[0])))
    progress("capturing the model", 0, 1)
    graph = model.graph(channel_axes=settings.channel_axes)
    model = replace(model, notices=(*model.notices, *graph.notices))
    record = graph.record(pre_activation=settings.pre_activation, all_cuts=settings.all_cuts)
    progress("capturing the model", 1, 1)

    inputs = StudyInputs(model, data, tuple(match.outputs), groups, settings.seed, graph.sha256)
    make_directory(directory)
    with study_lock(directory), placed(graph.module, model.module, device=device):
        study = _study_record(directory, graph, inputs, logits[0], settings, overwrite=overwrite, progress=progress)
        announce(study)
        if not (directory / GraphRecord.file_name).exists():
            record.save(directory)
        curve, images = _curve(graph, record, inputs, logits, settings, directory, progress)
        shown = images[: min(_OVERLAY_IMAGES, len(groups[0].classes))]
        try:
            ranking = _rank(record, curve)
        except NonFiniteError:
            _replace_analysis(directory, record, curve)
            raise
        if not _is_written(directory, record, curve, ranking):
            overlays = _overlays(graph, record, ranking, inputs, shown, settings)
            _replace_analysis(directory, record, curve, ranking, overlays)
    return Study(directory=directory, record=study, graph_record=record, graph=graph, model=model, data=data)


def _few_images(settings: AnalyzeSettings, group: ClassGroup) -> list[str]:
    """Return a notice where the curve is taken from fewer images than there are classes."""
    if settings.images is None or settings.images >= len(group.classes):
        return []
    return [
        f"the curve is taken from fewer images ({settings.images}) than there are classes ({len(group.classes)}): "
        "classes without an image have no say in it"
    ]


def _study_record(
    directory: Path,
    graph: ModelGraph,
    inputs: StudyInputs,
    classes: ClassSubset,
    settings: AnalyzeSettings,
    *,
    overwrite: bool,
    progress: Progress,
) -> StudyRecord:
    """Return study.json's record: the one that is there if it is of the same input, else one measured now."""
    test = _test_images(inputs, classes, settings)
    known = prepare_directory(directory, inputs, test_images=len(test), overwrite=overwrite)
    if known is not None:
        return known
    _check_source(inputs, test[:_CHECKED_IMAGES])
    record = _measure(graph, inputs, classes, test, settings, progress)
    record.save(directory)
    return record


def _is_written(directory: Path, *results: GraphRecord | CurveRecord | CandidatesRecord) -> bool:
    """Return whether an earlier run left these results and the overlays, which are written last, undamaged."""
    try:
        Overlays.load(directory)
        return all(type(result).load(directory) == result for result in results)
    except IsplitError:
        return False


def _replace_analysis(
    directory: Path, *results: GraphRecord | CurveRecord | CandidatesRecord | Overlays | None
) -> None:
    """Put the results of this run in the place of an earlier one's, of which nothing stays."""
    remove_analysis(directory)
    for result in results:
        if result is not None:
            result.save(directory)


def _overlays(
    graph: ModelGraph,
    record: GraphRecord,
    ranking: CandidatesRecord,
    inputs: StudyInputs,
    images: NDArray[np.int64],
    settings: AnalyzeSettings,
) -> Overlays | None:
    """Draw importance maps of some images at the first candidates that have positions; None if none has."""
    cuts = [cut for cut in (record.cut(c.cut) for c in ranking.candidates) if cut.has_positions][:_OVERLAY_CUTS]
    if not cuts:
        return None
    classes = ClassSubset(inputs.groups[0], inputs.data.classes, inputs.outputs)
    return draw_overlays(graph, cuts, inputs.data, images, inputs.model.preprocessing, classes, settings.target)


def _check_source(inputs: StudyInputs, images: NDArray[np.int64]) -> None:
    """Compare a model that was made from an ONNX file with that file, on some of the user's images."""
    model, data = inputs.model, inputs.data
    if not is_onnx_file(model.source.spec):
        return
    pixels = np.stack([data.pixels(int(index), model.preprocessing) for index in images])
    batch = normalise(torch.from_numpy(pixels), model.preprocessing)
    with evaluating(model.module), torch.no_grad():
        logits = model.call.logits(model.module, batch.to(device_of(model.module)))
        check_against_onnxruntime(model.source.spec, batch, logits.cpu())


def _test_images(inputs: StudyInputs, group: ClassSubset, settings: AnalyzeSettings) -> NDArray[np.int64]:
    """Choose the images for the base accuracy: those of the group's classes, or a seeded choice of so many."""
    test = inputs.data.parts["test"]
    test = test[group.label_map[inputs.data.labels[test]] >= 0]
    if settings.test_images is None or len(test) <= settings.test_images:
        return test
    return np.sort(np.random.default_rng([inputs.seed, len(test)]).choice(test, settings.test_images, replace=False))


def _measure(
    graph: ModelGraph,
    inputs: StudyInputs,
    group: ClassSubset,
    test: NDArray[np.int64],
    settings: AnalyzeSettings,
    progress: Progress,
) -> StudyRecord:
    """Measure the base accuracy and write down everything about the input."""
    model, data = inputs.model, inputs.data
    base = measure_accuracy(
        graph.module,
        dataset=data,
        indices=test,
        preprocessing=model.preprocessing,
        group=group,
        batch_size=settings.batch_size,
        progress=progress,
    )
    accuracy, chance = base.accuracy, base.chance
    warnings = [*model.warnings, *data.notices]
    if accuracy.may_be_guessing(chance):
        warnings.append(
            f"the model is right on {accuracy.accuracy:.1%} of the test images, no better than always guessing the "
            f"most frequent class ({chance:.1%}): importance for its decisions means nothing. Check the weights, the "
            "class map and the preprocessing; `isplit data` shows what the model says about nine images."
        )
    return StudyRecord(
        isplit_version=metadata.version("isplit"),
        versions=library_versions(),
        device=describe_device(device_of(graph.module)),
        model=model.source,
        data=data.source(inputs.outputs),
        preprocessing=model.preprocessing,
        graph_sha256=inputs.graph_sha256,
        groups=inputs.groups,
        seed=inputs.seed,
        base_accuracy=accuracy,
        chance_accuracy=chance,
        warnings=tuple(warnings),
        notices=model.notices,
    )


def _curve(
    graph: ModelGraph,
    record: GraphRecord,
    inputs: StudyInputs,
    groups: Sequence[ClassSubset],
    settings: AnalyzeSettings,
    directory: Path,
    progress: Progress,
) -> tuple[CurveRecord, NDArray[np.int64]]:
    """Score the images and average: one pass for all groups, but for those that need gradients of their own."""
    cuts = record.curve_cuts
    if not cuts:
        msg = "the model has no cut with a spatial or token axis, so there is no curve; see `isplit cuts`"
        raise InputError(msg)
    precision = chosen_precision(settings.precision, device=device_of(graph.module))
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
        order = class_images(inputs.data, "fit", group, seed=inputs.seed)
        job = _job(order, settings, precision)
        table, why = score_images(
            gradients,
            inputs.data,
            inputs.model.preprocessing,
            group,
            job,
            ScoreTable.load(directory, _key(inputs, job, group, order, names), len(cuts)).head(len(job.order)),
            save=lambda rows: rows.save(directory),
            progress=progress,
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
    return CurveRecord(
        method=resolve_method(settings.method).name,
        target=settings.target,
        precision=precision,
        device=describe_device(device_of(graph.module)),
        images=len(tables[0]),
        images_per_class=_images_per_class(tables[0], curves[0].classes),
        stopped=f"quick run: {stopped}" if settings.quick else stopped,
        points=curves[0].points,
        subsets=tuple(curves[1:]),
    ), tables[0].images


def _images_per_class(table: ScoreTable, classes: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(table.labels, minlength=len(classes)).tolist()
    return dict(zip(classes, counts, strict=True))


def _job(order: NDArray[np.int64], settings: AnalyzeSettings, precision: Precision) -> ScoreJob:
    return ScoreJob(
        method=resolve_method(settings.method),
        target=settings.target,
        precision=precision,
        batch_size=settings.batch_size,
        order=order if settings.images is None else order[: settings.images],
        tolerance=settings.tolerance,
        first_only=settings.quick,
    )


def _key(inputs: StudyInputs, job: ScoreJob, group: ClassSubset, order: NDArray[np.int64], cuts: Sequence[str]) -> str:
    """Hash everything that an image's scores, and the order of the images, depend on."""
    parts = {
        "model": [inputs.model.source.fingerprint, inputs.graph_sha256],
        "data": [inputs.data.sha256, inputs.data.split],
        "preprocessing": inputs.model.preprocessing.model_dump(mode="json"),
        "outputs": group.outputs,
        "order": hashlib.sha256(order.tobytes() + inputs.data.labels.tobytes()).hexdigest(),
        "job": [method_fingerprint(job.method), job.target, job.precision],
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
