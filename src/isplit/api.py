"""The commands as functions: what the command line calls, and what `import isplit` offers."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from isplit.design.analyze import Progress, Settings, Study
from isplit.design.analyze import analyze as _analyze
from isplit.design.choose import cut_names
from isplit.design.closed_form.build import PredictSettings
from isplit.design.export_settings import ExportSettings, Wanted
from isplit.design.fit import fit
from isplit.design.fit_on_ray import Sweep, fit_on_ray
from isplit.design.graph import ModelGraph, Split, split
from isplit.design.inputs.data import Dataset, open_data
from isplit.design.inputs.models import LoadedModel, load_model
from isplit.design.predict import predict as _predict
from isplit.design.settings import FitSettings
from isplit.design.study import OpenStudy, open_study
from isplit.design.verify import verify
from isplit.errors import needs_extra
from isplit.records import Budget, BundleRecord, GraphRecord, PredictionsRecord, StudyRecord
from isplit.report import write_report

__all__ = [
    "Budget",
    "ExportSettings",
    "FitSettings",
    "OpenStudy",
    "PredictSettings",
    "Settings",
    "Study",
    "Sweep",
    "Wanted",
    "analyze",
    "cut_names",
    "export",
    "fit",
    "fit_on_ray",
    "list_cuts",
    "load_model",
    "open_data",
    "open_study",
    "predict",
    "split_model",
    "verify",
    "write_report",
]

DEFAULT_BUDGETS = tuple(Budget(payload_bytes=count) for count in (128, 512, 2048))
"""What `predict` tries where no budget is given: from far below a compressed photograph to about a small one."""


def analyze(
    model: LoadedModel,
    data: Dataset,
    *,
    out: str | Path = "study",
    classes: Sequence[str] = (),
    class_map: str | Path | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = lambda what, done, total: None,
    announce: Callable[[StudyRecord], None] | None = None,
) -> Study:
    """Rank the cuts of a model by what they mean for its decisions on the data, and draw the report.

    The arguments are those of `isplit.design.analyze.analyze`; `out` is the study's directory. Without `announce`,
    what speaks against the study (a model no better than guessing) comes as a warning.
    """
    study = _analyze(
        model,
        data,
        Path(out),
        classes=classes,
        class_map=None if class_map is None else Path(class_map),
        settings=settings,
        seed=seed,
        overwrite=overwrite,
        progress=progress,
        announce=announce or _warn,
    )
    write_report(study.directory)
    return study


def _warn(study: StudyRecord) -> None:
    for warning in study.warnings:
        warnings.warn(warning, stacklevel=4)


def predict(
    study: OpenStudy | str | Path,
    budgets: Sequence[Budget | int] = DEFAULT_BUDGETS,
    *,
    cuts: Sequence[str] = (),
    group: str | None = None,
    settings: PredictSettings | None = None,
    progress: Progress = lambda what, done, total: None,
) -> PredictionsRecord:
    """Measure every cut's closed-form split at every budget before any training, and draw the report again.

    The arguments are those of `isplit.design.predict.predict`; a study may be its directory, and a budget a number of
    bytes.
    """
    opened = study if isinstance(study, OpenStudy) else open_study(Path(study))
    wanted = [Budget(payload_bytes=one) if isinstance(one, int) else one for one in budgets]
    record = _predict(opened, wanted, cuts=tuple(cuts), group=group, settings=settings, progress=progress)
    write_report(opened.directory)
    return record


def list_cuts(model: LoadedModel, *, pre_activation: bool = False, all_cuts: bool = False) -> GraphRecord:
    """Return a model's cuts with what crosses them and what lies on either side; no data is needed."""
    graph = ModelGraph(model.module, (model.preprocessing.channels, *model.preprocessing.image_size))
    return graph.record(pre_activation=pre_activation, all_cuts=all_cuts)


def split_model(model: LoadedModel, cut: str) -> Split:
    """Split a model at a cut of that name into a head and a tail."""
    return split(ModelGraph(model.module, (model.preprocessing.channels, *model.preprocessing.image_size)), cut)


def export(
    study: OpenStudy | str | Path,
    cuts: Sequence[str],
    *,
    out: str | Path = "bundle",
    group: str | None = None,
    wanted: Wanted | None = None,
    settings: ExportSettings | None = None,
    progress: Progress = lambda what, done, total: None,
) -> BundleRecord:
    """Write a bundle with the splits of some cuts and the whole model, which runs without torch.

    The arguments are those of `isplit.design.export.export`; a study may be its directory, and `out` is the
    bundle's.
    """
    # onnx and onnxscript take as long to import as all the rest, and nothing else needs them.
    with needs_extra("design"):
        from isplit.design.export import export as run

    opened = study if isinstance(study, OpenStudy) else open_study(Path(study))
    return run(opened, cuts, Path(out), group=group, wanted=wanted, settings=settings, progress=progress)
