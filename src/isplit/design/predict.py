"""How accurate will a split be? Every cut with the closed-form bottleneck, real payloads, and no training.

closed forms of all cuts and budgets ─> answers and payloads on the select part ─> predictions.json, splits/
"""

import time
from collections.abc import Sequence
from importlib import metadata
from itertools import chain

from isplit.design.bottleneck.build import linear_spec, save_split, split_directory
from isplit.design.bottleneck.linear import SHRINKAGE
from isplit.design.class_subsets import GroupLogits
from isplit.design.closed_form.allocation import smallest_budget
from isplit.design.closed_form.build import ClosedForm, PredictSettings, Progress, closed_forms
from isplit.design.measure.calibration import Calibration, shipped
from isplit.design.measure.compressed_images import measure_remote
from isplit.design.measure.splits import evaluate_splits, measure
from isplit.design.precision import chosen_precision
from isplit.design.study import OpenStudy
from isplit.errors import InputError
from isplit.records import (
    Budget,
    CurveRecord,
    Cut,
    Measurement,
    Prediction,
    PredictionsRecord,
    RemoteImage,
    SplitRecord,
)

# What is measured together, and lost together when interrupted; each time the model itself runs once more.
_CUTS_AT_A_TIME = 9


def predict(
    study: OpenStudy,
    budgets: Sequence[Budget],
    *,
    cuts: tuple[str, ...] = (),
    group: str | None = None,
    settings: PredictSettings | None = None,
    progress: Progress = lambda what, done, total: None,
) -> PredictionsRecord:
    """Measure every cut's closed-form split at every budget, on the select part, and write predictions.json.

    The splits themselves are kept in the study: `fit` starts from them, and `export` takes them as they are. What was
    predicted before stays in the record and is not computed again from as many images; interrupted, most is kept.

    Args:
        study: From `open_study`.
        budgets: At least one.
        cuts: Names; none for all cuts of the curve.
        group: A class subset of the study; None for all classes.
        settings: How much and how.
        progress: Called as work goes on.

    Raises:
        InputError: a budget below the smallest payload, an unknown cut or subset.

    """
    settings = settings or PredictSettings()
    check_budgets(budgets)
    started = time.perf_counter()
    classes = study.group(group)
    images = study.images("select", classes, limit=settings.images)
    known = _known(study)
    missing = [
        cut for cut in study.cuts(cuts) if not _is_known(study, known, cut, budgets, classes, settings, len(images))
    ]
    closed = closed_forms(study, budgets, missing, classes, settings, progress=progress) if missing else []
    some = _CUTS_AT_A_TIME * len(budgets)
    for start in range(0, len(closed), some):
        of_cuts = closed[start : start + some]
        found = evaluate_splits(
            study,
            [one.split for one in of_cuts],
            group=classes,
            images=images,
            precision=chosen_precision(settings.precision),
        )
        predictions: list[Prediction] = []
        for number, one in enumerate(of_cuts):
            measurement = measure(study, one.split, found, number, group=classes, part="select")
            save_closed_form(study, one, classes, measurement)
            predictions.append(_prediction(study, one, classes, measurement))
        _merged(study, predictions, (), settings, len(images), time.perf_counter() - started).save(study.directory)
        progress("accuracy of the splits", min(start + some, len(closed)) // len(budgets), len(missing))
    remote = _remote(study, classes, settings, progress)
    record = _merged(study, (), remote, settings, len(images), time.perf_counter() - started)
    record.save(study.directory)
    return record


def _is_known(
    study: OpenStudy,
    known: PredictionsRecord | None,
    cut: Cut,
    budgets: Sequence[Budget],
    group: GroupLogits,
    settings: PredictSettings,
    images: int,
) -> bool:
    """Whether a cut was predicted before at all of the budgets, from as many images."""
    design = "linear" if settings.weighted else "pca"
    rows = {
        one.budget.tag: one.measurement.accuracy.images
        for one in (known.predictions if known else ())
        if (one.cut, one.group, one.design) == (cut.name, group.group.name, design)
    }
    for budget in budgets:
        directory = split_directory(
            study.directory, cut=cut.name, group=group.group.name, design=design, budget=budget, trained=False
        )
        if rows.get(budget.tag) != images or not (directory / SplitRecord.file_name).exists():
            return False
        split = SplitRecord.load(directory)
        if (split.statistics_images, split.isplit_version) != (
            min(settings.statistics_images, len(study.images("fit", group, limit=None))),
            metadata.version("isplit"),
        ):
            return False
    return True


def check_budgets(budgets: Sequence[Budget]) -> None:
    """Refuse budgets that no payload can meet.

    Raises:
        InputError: none, one that is too small, or one that is neither bytes nor a ratio.

    """
    if not budgets:
        msg = "give at least one budget: --bytes N or --ratio N"
        raise InputError(msg)
    for budget in budgets:
        if (budget.payload_bytes is None) == (budget.element_ratio is None):
            msg = "a budget is either bytes or an element ratio: give one of the two"
            raise InputError(msg)
        if budget.payload_bytes is not None and budget.payload_bytes < smallest_budget():
            msg = (
                f"a budget of {budget.payload_bytes} bytes is below the smallest payload, {smallest_budget()} bytes "
                "with its header: give more"
            )
            raise InputError(msg)
        if budget.element_ratio is not None and not 1 <= budget.element_ratio < float("inf"):
            msg = f"an element ratio of {budget.element_ratio:g} sends more than everything: give 1 or more"
            raise InputError(msg)


def save_closed_form(study: OpenStudy, one: ClosedForm, group: GroupLogits, measurement: Measurement) -> None:
    """Write a closed-form split into its directory of the study."""
    spec = linear_spec(one.bottleneck, weighted=one.weighted)
    name = group.group.name
    directory = split_directory(
        study.directory, cut=one.split.cut.name, group=name, design=spec.design, budget=one.budget, trained=False
    )
    record = SplitRecord(
        isplit_version=metadata.version("isplit"),
        versions=study.versions,
        model=study.model.source.fingerprint,
        cut=one.split.cut.name,
        group=name,
        budget=one.budget,
        bottleneck=spec,
        statistics_images=one.statistics_images,
        samples_per_dimension=one.samples_per_dimension,
        shrinkage=SHRINKAGE,
        training=None,
        seed=study.record.seed,
        measurement=measurement,
    )
    save_split(directory, record, one.bottleneck, one.split.codec)


def _prediction(study: OpenStudy, one: ClosedForm, group: GroupLogits, measurement: Measurement) -> Prediction:
    cut = one.split.cut
    return Prediction(
        cut=cut.name,
        group=group.group.name,
        budget=one.budget,
        design="linear" if one.weighted else "pca",
        cui=_importance(study, group.group.name).get(cut.name),
        bytes=cut.bytes,
        measurement=measurement,
    )


def _importance(study: OpenStudy, group: str) -> dict[str, float | None]:
    """Return the curve of a group's classes: cut to importance; empty where it was not drawn."""
    curve = CurveRecord.load(study.directory)
    for subset in curve.subsets:
        if subset.name == group:
            return {point.cut: point.cui for point in subset.points}
    return {point.cut: point.cui for point in curve.points} if group == study.record.groups[0].name else {}


def _remote(
    study: OpenStudy, group: GroupLogits, settings: PredictSettings, progress: Progress
) -> tuple[RemoteImage, ...]:
    """Measure the compressed image, unless it was measured on as many images before."""
    if settings.remote_images == 0:
        return ()
    images = study.images("select", group, limit=settings.remote_images)
    known = _known(study)
    before = tuple(one for one in known.remote if one.group == group.group.name) if known else ()
    if before and before[0].payload_bytes.images >= len(images):
        return before
    return tuple(
        measure_remote(
            study,
            group=group,
            images=images,
            part="select",
            precision=chosen_precision(settings.precision),
            progress=lambda done, total: progress("compressed images", done, total),
        )
    )


def _known(study: OpenStudy) -> PredictionsRecord | None:
    if not (study.directory / PredictionsRecord.file_name).exists():
        return None
    return PredictionsRecord.load(study.directory)


def _merged(
    study: OpenStudy,
    predictions: Sequence[Prediction],
    remote: Sequence[RemoteImage],
    settings: PredictSettings,
    images: int,
    seconds: float,
) -> PredictionsRecord:
    """Put new rows in the place of old ones for the same split, and keep the others."""

    def key(one: Prediction) -> tuple[object, ...]:
        return one.group, one.cut, one.budget.tag, one.design

    known = _known(study)
    rows = {key(one): one for one in chain(known.predictions if known else (), predictions)}
    depth = {cut.name: cut.depth for cut in study.graph_record.cuts}
    calibration = shipped()
    groups = {one.group for one in remote}
    kept = [one for one in known.remote if one.group not in groups] if known else []
    return PredictionsRecord(
        calibration=calibration.name if calibration else None,
        statistics_images=settings.statistics_images,
        images=images,
        seconds=seconds,
        predictions=tuple(
            _calibrated(one, calibration)
            for one in sorted(rows.values(), key=lambda one: (one.group, depth[one.cut], one.budget.order))
        ),
        remote=(*kept, *remote),
    )


def _calibrated(one: Prediction, calibration: Calibration | None) -> Prediction:
    """Add the accuracy after training, or take it away where nothing is known of it: plain PCA is not trained."""
    accuracy = calibration.after_training(one.measurement) if calibration and one.design == "linear" else None
    stderr = calibration.stderr if calibration and accuracy is not None else None
    return one.model_copy(update={"predicted_accuracy": accuracy, "predicted_stderr": stderr})
