"""How accurate will a split be? Every cut with the closed-form bottleneck, real payloads, and no training.

closed forms of all cuts and budgets ─> answers and payloads on the select part ─> predictions.json, splits/
"""

import time
from collections.abc import Iterable, Sequence
from importlib import metadata
from itertools import chain
from pathlib import Path

from isplit.design.bottleneck.spec import linear_spec
from isplit.design.closed_form.build import ClosedForm, closed_forms
from isplit.design.closed_form.solve import SHRINKAGE
from isplit.design.measure.calibration import Calibration, shipped
from isplit.design.measure.compressed_images import measure_remote
from isplit.design.measure.splits import evaluate_splits, measure
from isplit.design.progress import Progress, silent
from isplit.design.running import chosen_precision
from isplit.design.settings import DEFAULT_BUDGETS, Budgets, PredictSettings, read_budgets
from isplit.design.splits import save_split, split_directory
from isplit.design.study import Study, StudyView, open_study
from isplit.records import (
    Budget,
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
    study: Study | str | Path,
    budgets: Budgets = DEFAULT_BUDGETS,
    *,
    cuts: Iterable[str] = (),
    group: str | None = None,
    settings: PredictSettings | None = None,
    progress: Progress = silent,
) -> PredictionsRecord:
    """Measure every cut's closed-form split at every budget, on the select part, and write predictions.json.

    The splits themselves are kept in the study: `fit` starts from them, and `export` takes them as they are. What was
    predicted before stays in the record and is not computed again from as many images; interrupted, most is kept.

    Args:
        study: A study, or its directory.
        budgets: One or several; an int is a mean payload in bytes.
        cuts: Names; none for all cuts of the curve.
        group: A class subset of the study; None for all classes.
        settings: How much and how.
        progress: Called as work goes on.

    Raises:
        InputError: a budget below the smallest payload, an unknown cut or subset.

    """
    settings = settings or PredictSettings()
    budgets = read_budgets(budgets)
    started = time.perf_counter()
    view = open_study(study).view(group)
    images = view.images("select", limit=settings.images)
    known = view.study.predictions
    missing = [
        cut
        for cut in view.study.cuts(cuts)
        if not _is_known(view, known, cut, budgets, settings=settings, images=len(images))
    ]
    closed = closed_forms(view, budgets, missing, settings, progress=progress) if missing else []
    some = _CUTS_AT_A_TIME * len(budgets)
    for start in range(0, len(closed), some):
        of_cuts = closed[start : start + some]
        found = evaluate_splits(
            view,
            [one.split for one in of_cuts],
            images=images,
            precision=chosen_precision(settings.precision),
        )
        predictions: list[Prediction] = []
        for number, one in enumerate(of_cuts):
            measurement = measure(view, one.split, found, number, part="select")
            save_closed_form(view, one, measurement)
            predictions.append(_prediction(view, one, measurement))
        _merged(view.study, predictions, (), settings, len(images), time.perf_counter() - started).save(view.directory)
        progress("accuracy of the splits", min(start + some, len(closed)) // len(budgets), len(missing))
    remote = _remote(view, settings, progress)
    record = _merged(view.study, (), remote, settings, len(images), time.perf_counter() - started)
    record.save(view.directory)
    return record


def _is_known(
    view: StudyView,
    known: PredictionsRecord | None,
    cut: Cut,
    budgets: Sequence[Budget],
    *,
    settings: PredictSettings,
    images: int,
) -> bool:
    """Whether a cut was predicted before at all of the budgets, from as many images."""
    design = "linear" if settings.weighted else "pca"
    rows = {
        one.budget.tag: one.measurement.accuracy.images
        for one in (known.predictions if known else ())
        if (one.cut, one.group, one.design) == (cut.name, view.name, design)
    }
    for budget in budgets:
        directory = split_directory(
            view.directory, cut=cut.name, group=view.name, design=design, budget=budget, trained=False
        )
        if rows.get(budget.tag) != images or not (directory / SplitRecord.file_name).exists():
            return False
        split = SplitRecord.load(directory)
        if (split.statistics_images, split.isplit_version) != (
            min(settings.statistics_images, len(view.images("fit"))),
            metadata.version("isplit"),
        ):
            return False
    return True


def save_closed_form(view: StudyView, one: ClosedForm, measurement: Measurement) -> None:
    """Write a closed-form split into its directory of the study."""
    spec = linear_spec(one.bottleneck, weighted=one.weighted)
    directory = split_directory(
        view.directory, cut=one.split.cut.name, group=view.name, design=spec.design, budget=one.budget, trained=False
    )
    record = SplitRecord(
        isplit_version=metadata.version("isplit"),
        versions=view.study.versions,
        model=view.fingerprint,
        cut=one.split.cut.name,
        group=view.name,
        budget=one.budget,
        bottleneck=spec,
        statistics_images=one.statistics_images,
        samples_per_dimension=one.samples_per_dimension,
        shrinkage=SHRINKAGE,
        training=None,
        seed=view.study.record.seed,
        measurement=measurement,
    )
    save_split(directory, record, one.split)


def _prediction(view: StudyView, one: ClosedForm, measurement: Measurement) -> Prediction:
    cut = one.split.cut
    return Prediction(
        cut=cut.name,
        group=view.name,
        budget=one.budget,
        design="linear" if one.weighted else "pca",
        cui=_importance(view).get(cut.name),
        bytes=cut.bytes,
        measurement=measurement,
    )


def _importance(view: StudyView) -> dict[str, float | None]:
    """Return the curve of a group's classes: cut to importance; empty where it was not drawn."""
    curve = view.study.curve
    for subset in curve.subsets:
        if subset.name == view.name:
            return {point.cut: point.cui for point in subset.points}
    return {point.cut: point.cui for point in curve.points} if view.is_default else {}


def _remote(view: StudyView, settings: PredictSettings, progress: Progress) -> tuple[RemoteImage, ...]:
    """Measure the compressed image, unless it was measured on as many images before."""
    if settings.remote_images == 0:
        return ()
    images = view.images("select", limit=settings.remote_images)
    known = view.study.predictions
    before = tuple(one for one in known.remote if one.group == view.name) if known else ()
    if before and before[0].payload_bytes.images >= len(images):
        return before
    return tuple(
        measure_remote(
            view,
            images=images,
            part="select",
            precision=chosen_precision(settings.precision),
            progress=progress,
        )
    )


def _merged(
    study: Study,
    predictions: Sequence[Prediction],
    remote: Sequence[RemoteImage],
    settings: PredictSettings,
    images: int,
    seconds: float,
) -> PredictionsRecord:
    """Put new rows in the place of old ones for the same split, and keep the others."""

    def key(one: Prediction) -> tuple[object, ...]:
        return one.group, one.cut, one.budget.tag, one.design

    known = study.predictions
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
