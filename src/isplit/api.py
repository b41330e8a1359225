"""The commands as functions: what the command line calls, and what `import isplit` offers.

A function imports what only it needs when it is called, since all of it together takes a tenth of a second and more.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from isplit.design.analyze import analyze as _analyze
from isplit.design.budgets import DEFAULT_BUDGETS, Budgets
from isplit.design.check_data import check_data
from isplit.design.fit_on_ray import fit_on_ray
from isplit.design.graph import Split
from isplit.design.inputs.data import Dataset, open_data
from isplit.design.inputs.models import LoadedModel, load_model
from isplit.design.model_cuts import list_cuts, split_model
from isplit.design.settings import (
    AnalyzeSettings,
    ExportSettings,
    FitRequest,
    FitSettings,
    PredictSettings,
    SplitFilter,
    Start,
)
from isplit.design.study import Study, StudyView, open_study
from isplit.errors import needs_extra
from isplit.progress import Progress, silent
from isplit.records import (
    Budget,
    BundleRecord,
    Compression,
    PredictionsRecord,
    SplitRecord,
    StudyRecord,
    TrainedRemote,
    VerificationRecord,
)

if TYPE_CHECKING:
    from torch import nn

    from isplit.design.bottleneck.base import Bottleneck

__all__ = [
    "DEFAULT_BUDGETS",
    "AnalyzeSettings",
    "Dataset",
    "ExportSettings",
    "FitRequest",
    "FitSettings",
    "LoadedModel",
    "PredictSettings",
    "Split",
    "SplitFilter",
    "Study",
    "StudyView",
    "analyze",
    "check_data",
    "export",
    "fit",
    "fit_on_ray",
    "fit_remote",
    "list_cuts",
    "load_model",
    "open_data",
    "open_study",
    "predict",
    "split_model",
    "verify",
    "write_report",
]


def analyze(
    model: "LoadedModel | nn.Module | str",
    data: Dataset | str | Path,
    *,
    out: str | Path = "study",
    classes: Sequence[str] = (),
    class_map: str | Path | None = None,
    settings: AnalyzeSettings | None = None,
    seed: int = 0,
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
        class_map: A JSON file {class: model output}, where names and numbers do not tell.
        settings: How many images, which method, and so on.
        seed: Seed of the choice of images.
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
    dataset = data if isinstance(data, Dataset) else open_data(str(data), seed=seed)
    with _shown(progress) as report:
        study = _analyze(
            loaded,
            dataset,
            out,
            classes=classes,
            class_map=class_map,
            settings=settings,
            seed=seed,
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
    with _shown(progress) as report:
        record = predict_study(
            study,
            budgets,
            cuts=cuts,
            group=group,
            settings=settings,
            settle=settle,
            progress=report,
            announce=announce,
        )
    write_report(study)
    return record


def fit(
    study: Study | str | Path,
    cut: str,
    budget: int | Budget,
    *,
    group: str | None = None,
    design: "str | type[Bottleneck]" = "linear",
    start: Start | None = None,
    settings: FitSettings | None = None,
    progress: Progress | bool = False,
) -> SplitRecord:
    """Train the split at a cut, measure it on the test part, save it in the study, and draw the report again.

    A split that was trained with the same settings is not trained again; interrupted training goes on after its last
    whole epoch.

    Args:
        study: A study, or its directory; the model itself is not changed.
        cut: The cut's name.
        budget: Mean payload in bytes as an int, or a `Budget`.
        group: A class subset of the study; None for all classes.
        design: "linear" (starts from the closed form), "undercomplete" (the paper's), "identity", or your own: a class
            that inherits from `Bottleneck`, or where one is, such as "./file.py:name" (docs/extending.md).
        start: "closed-form" or "random"; None takes the closed form for the linear design, random values for others.
        settings: How to train.
        progress: True shows bars on standard error; a function is called as work goes on.

    Raises:
        InputError: an unknown cut, subset, design or start, or a budget that cannot be met.
        NonFiniteError: the loss is not a number any more.

    Examples:
        >>> study = isplit.open_study("study", allow_code=True)
        >>> record = isplit.fit(study, "pool2", 64, settings=isplit.FitSettings(epochs=1, images=12))
        >>> record.training.epochs
        1

    """
    from isplit.design.fit import fit as fit_study

    study = open_study(study)
    with _shown(progress) as report:
        record = fit_study(
            study, cut, budget, group=group, design=design, start=start, settings=settings, progress=report
        )
    write_report(study)
    return record


def fit_remote(
    study: Study | str | Path,
    compression: Compression | str,
    *,
    after: str | None = None,
    group: str | None = None,
    settings: FitSettings | None = None,
    progress: Progress | bool = False,
) -> TrainedRemote:
    """Train the model on compressed images, the fair opponent of trained splits, and draw the report again.

    The network is trained like a split, from labels and from the whole model's answers, measured on the test part and
    saved in the study. What was trained with the same settings is not trained again.

    Args:
        study: A study, or its directory; the model itself is not changed.
        compression: A `Compression`, or its text: "webp:50@0.5" is WebP of quality 50 at half the side.
        after: The cut after which the layers learn; None trains all layers.
        group: A class subset of the study; None for all classes.
        settings: How to train; those that are about splits alone are refused.
        progress: True shows bars on standard error; a function is called as work goes on.

    Raises:
        InputError: a compression that is not available here, an unknown cut or subset, or a setting of splits alone.
        NonFiniteError: the loss is not a number any more.

    Examples:
        >>> study = isplit.open_study("study", allow_code=True)
        >>> fast = isplit.FitSettings(epochs=1, images=12)
        >>> isplit.fit_remote(study, "webp:50@0.5", settings=fast).measurement.part
        'test'

    """
    from isplit.design.fit_remote import fit_remote as fit_network

    study = open_study(study)
    with _shown(progress) as report:
        record = fit_network(study, compression, after=after, group=group, settings=settings, progress=report)
    write_report(study)
    return record


def verify(
    study: Study | str | Path,
    budget: int | Budget,
    *,
    cuts: Iterable[str] = ("candidates",),
    group: str | None = None,
    settings: FitSettings | None = None,
    fit_all: Callable[[Sequence[str]], Sequence[SplitRecord]] | None = None,
    progress: Progress | bool = False,
) -> VerificationRecord:
    """Train several cuts, say how well each rule had ranked them beforehand, and draw the report again.

    Args:
        study: A study, or its directory.
        budget: Mean payload in bytes as an int, or a `Budget`; the same for all cuts.
        cuts: At least two names; "candidates" stands for the ranked cuts, "all" for those of the curve.
        group: A class subset of the study; None for all classes.
        settings: How to train.
        fit_all: Trains cuts by name and returns their records, instead of `fit` one after the other.
        progress: True shows bars on standard error; a function is called as work goes on.

    Raises:
        InputError: fewer than two cuts, or what `fit` refuses.

    Examples:
        >>> fast = isplit.FitSettings(epochs=1, images=12)
        >>> study = isplit.open_study("study", allow_code=True)
        >>> record = isplit.verify(study, 64, cuts=["pool1", "pool2"], settings=fast)
        >>> [row["cut"] for row in record.to_dicts()]
        ['pool1', 'pool2']

    """
    from isplit.design.verify import verify as verify_study

    study = open_study(study)
    with _shown(progress) as report:
        record = verify_study(
            study, budget, cuts=cuts, group=group, settings=settings, fit_all=fit_all, progress=report
        )
    write_report(study)
    return record


def export(
    study: Study | str | Path,
    cuts: str | Sequence[str],
    *,
    out: str | Path = "bundle",
    group: str | None = None,
    split_filter: SplitFilter | None = None,
    settings: ExportSettings | None = None,
    progress: Progress | bool = False,
) -> BundleRecord:
    """Write a bundle with the splits of some cuts and the whole model, which runs without torch.

    Every file is run in onnxruntime beside torch first; where they differ, nothing is written.

    Args:
        study: A study, or its directory.
        cuts: One cut or several. Of each, the trained split is taken if there is one, else the closed form.
        out: The bundle's directory.
        group: A class subset of the study; None for all classes.
        split_filter: Selects the split where a cut has several.
        settings: What else goes in, and how it is checked.
        progress: True shows bars on standard error; a function is called as work goes on.

    Raises:
        InputError: an unknown cut or subset, no split or several, or a directory that is taken.
        ModelError: a part of the model has no ONNX.
        ExportError: the files give other answers than torch.

    Examples:
        >>> closed_form = isplit.SplitFilter(closed_form=True)
        >>> study = isplit.open_study("study", allow_code=True)
        >>> bundle = isplit.export(study, "pool2", out="bundle", split_filter=closed_form)
        >>> [placement.name for placement in bundle.cuts]
        ['pool2']

    """
    # onnx and onnxscript take as long to import as all the rest, and nothing else needs them.
    with needs_extra("design"):
        from isplit.design.export import export as write_bundle

    with _shown(progress) as report:
        return write_bundle(
            study, cuts, out, group=group, split_filter=split_filter, settings=settings, progress=report
        )


def write_report(study: Study | str | Path) -> tuple[Path, ...]:
    """Draw a study's report.html and curve.svg again from its records, and return their paths.

    Args:
        study: A study, or its directory; neither the model nor the data are loaded.

    Raises:
        StudyError: a record is missing or damaged, or a file cannot be written.

    Examples:
        >>> [path.name for path in isplit.write_report("study")]
        ['report.html', 'curve.svg']

    """
    from isplit.report import write_report as write_report_files

    return write_report_files(study.directory if isinstance(study, Study) else Path(study))


def _shown(progress: Progress | bool) -> AbstractContextManager[Progress]:
    """Return a context that gives the function to call as work goes on."""
    if progress is True:
        from isplit.progress_bars import ProgressBars

        return ProgressBars()
    return nullcontext(progress or silent)


def _warn(study: StudyRecord) -> None:
    for warning in study.warnings:
        warnings.warn(warning, stacklevel=4)
