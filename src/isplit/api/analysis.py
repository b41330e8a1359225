"""Rank the cuts of a model, and measure their splits before any training."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isplit.api.output import report_redrawn, shown, write_report
from isplit.design.analyze import analyze as _analyze
from isplit.design.budgets import DEFAULT_BUDGETS, Budgets
from isplit.design.inputs.data import Dataset, open_data
from isplit.design.inputs.models import LoadedModel, load_model
from isplit.design.settings import AnalyzeSettings, PredictSettings
from isplit.design.study import Study, open_study
from isplit.progress import Progress
from isplit.records import PredictionsRecord, StudyRecord

if TYPE_CHECKING:
    from torch import nn


def analyze(
    model: "LoadedModel | nn.Module | str",
    data: Dataset | str | Path,
    *,
    out: str | Path = "study",
    classes: Sequence[str] = (),
    settings: AnalyzeSettings | None = None,
    overwrite: bool = False,
    progress: Progress | bool = False,
    announce: Callable[[StudyRecord], None] | None = None,
) -> Study:
    """Rank the cuts of a model by their importance for its decisions on the data, and draw the report.

    The importance is I-SPLIT's CUI (Cunico et al., ICPR 2022) unless the settings name another method. Run again with
    the same input, it goes on where it was stopped. Every other verb takes the study that is returned.

    Args:
        model: From `load_model`, or what that takes.
        data: From `open_data`, or what that takes.
        out: The study's directory; it is made if it is not there.
        classes: Class subsets such as "cat,dog"; see docs/importance.md.
        settings: How many images, which method, and so on.
        overwrite: Whether a study of other input in that directory may be replaced.
        progress: True shows bars on standard error; a function is called as work goes on.
        announce: Called with study.json's record before the long part; by default what speaks against the study (such
            as a model no better than guessing) is a Python warning.

    Raises:
        InputError: model and data do not fit, an unknown class, or a directory that cannot be used.
        NonFiniteError: the importance is NaN or infinite at a cut; curve.json says where.

    Examples:
        >>> model = isplit.load_model("net.py:build", weights="net.safetensors")
        >>> study = isplit.analyze(model, "photos", out="study", settings=isplit.AnalyzeSettings(images=12))
        >>> study.candidates[0].cut
        'pool1'

    """
    loaded = model if isinstance(model, LoadedModel) else load_model(model)
    settings = settings or AnalyzeSettings()
    dataset = data if isinstance(data, Dataset) else open_data(str(data), seed=settings.seed)
    with shown(progress) as report:
        study = _analyze(
            loaded,
            dataset,
            out,
            classes=classes,
            settings=settings,
            overwrite=overwrite,
            progress=report,
            announce=announce or _warn,
        )
    write_report(study)
    return study


def predict(
    study: Study | str | Path,
    budgets: Budgets = DEFAULT_BUDGETS,
    *,
    cuts: Iterable[str] = (),
    group: str | None = None,
    settings: PredictSettings | None = None,
    settle: bool = False,
    progress: Progress | bool = False,
    announce: Callable[[str], None] | None = None,
) -> PredictionsRecord:
    """Measure every cut's closed-form split at every budget before any training, and draw the report again.

    Predictions of earlier calls stay in the record and are not computed again.

    Args:
        study: A study, or its directory.
        budgets: One budget or several; an int is a mean payload in bytes, header included.
        cuts: Names of cuts; none for all cuts of the curve.
        group: A class subset of the study; None for all classes.
        settings: How many images, and how.
        settle: Whether to measure on more images of the select part until the verdicts within 1 and 3 points are
            settled, or all images are taken.
        progress: True shows bars on standard error; a function is called as work goes on.
        announce: Called with a sentence on how long it will take, before work begins.

    Raises:
        InputError: a budget below the smallest payload, an unknown cut or subset.

    Examples:
        >>> quick = isplit.PredictSettings(statistics_images=12, images=6, remote_images=0)
        >>> study = isplit.open_study("study", allow_code=True)
        >>> predictions = isplit.predict(study, 64, cuts=["pool1", "pool2"], settings=quick)
        >>> [row["cut"] for row in predictions.to_dicts()]
        ['pool1', 'pool2']

    """
    from isplit.design.predict import predict as predict_study

    study = open_study(study)
    with report_redrawn(study), shown(progress) as report:
        return predict_study(
            study,
            budgets,
            cuts=cuts,
            group=group,
            settings=settings,
            settle=settle,
            progress=report,
            announce=announce,
        )


def _warn(study: StudyRecord) -> None:
    for warning in study.warnings:
        warnings.warn(warning, stacklevel=4)
