"""The commands as functions: what the command line calls, and what `import isplit` offers.

A function imports what only it needs when it is called, since all of it together takes a tenth of a second and more.
"""

from isplit.api.analysis import analyze, predict
from isplit.api.output import export, write_report
from isplit.api.training import fit, fit_remote, verify
from isplit.design.bottleneck.base import Bottleneck
from isplit.design.budgets import DEFAULT_BUDGETS
from isplit.design.check_data import check_data
from isplit.design.export_settings import ExportSettings
from isplit.design.fit_on_ray import fit_on_ray
from isplit.design.graph import Split
from isplit.design.importance.methods import ImportanceMethod
from isplit.design.inputs.data import Dataset, open_data
from isplit.design.inputs.models import LoadedModel, load_model
from isplit.design.model_cuts import list_cuts, split_model
from isplit.design.settings import (
    AnalyzeSettings,
    FitRequest,
    FitSettings,
    PredictSettings,
    SplitFilter,
)
from isplit.design.study import Study, StudyView, open_study

__all__ = [
    "DEFAULT_BUDGETS",
    "AnalyzeSettings",
    "Bottleneck",
    "Dataset",
    "ExportSettings",
    "FitRequest",
    "FitSettings",
    "ImportanceMethod",
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
