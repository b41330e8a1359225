"""Find where to split a neural network between a device and a server, before anything is trained.

    import isplit
    model = isplit.load_model("torchvision:resnet50", weights="default")
    study = isplit.analyze(model, "photos.zip", out="study")
    print([candidate.cut for candidate in study.candidates])

Importing isplit loads no torch: what needs it is loaded when it is first asked for.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Since version 1.29, onnxruntime reports names and hashes of the models that it loads to its makers, unless this is set
# before it is imported. Whoever wants that sets the variable to an empty value.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from isplit.api import *  # noqa: F403 - the names are those of `_EXPORTS`
    from isplit.errors import *  # noqa: F403
    from isplit.plan.messages import TransferSampler as TransferSampler
    from isplit.plan.planner import PlanSettings as PlanSettings
    from isplit.plan.planner import plan as plan
    from isplit.plan.simulation_settings import SimulationSettings as SimulationSettings
    from isplit.plan.simulator import simulate as simulate
    from isplit.records import *  # noqa: F403
    from isplit.runtime.bundle import Bundle as Bundle
    from isplit.runtime.edge.client import EdgeClient as EdgeClient
    from isplit.runtime.edge.probe import ProbeSettings as ProbeSettings
    from isplit.runtime.edge.probe import probe as probe
    from isplit.runtime.edge.security import Tls as Tls
    from isplit.runtime.edge.settings import EdgeSettings as EdgeSettings
    from isplit.runtime.profile.settings import ProfileSettings as ProfileSettings
    from isplit.runtime.server import EngineFactory as EngineFactory
    from isplit.runtime.server import Server as Server
    from isplit.runtime.server import ServerSettings as ServerSettings
    from isplit.runtime.server import ServerTls as ServerTls
    from isplit.runtime.server import serve as serve
    from isplit.runtime.server import serving as serving
    from isplit.workflows.auto import auto as auto
    from isplit.workflows.auto_settings import AutoResult as AutoResult
    from isplit.workflows.auto_settings import AutoSettings as AutoSettings
    from isplit.workflows.bench import BenchSettings as BenchSettings
    from isplit.workflows.bench import ServerAccess as ServerAccess
    from isplit.workflows.bench import bench as bench
    from isplit.workflows.profile import profile as profile

_EXPORTS = {
    "isplit.api": """
        AnalyzeSettings Bottleneck DEFAULT_BUDGETS Dataset ExportSettings FitRequest FitSettings ImportanceMethod
        LoadedModel PredictSettings Split SplitFilter Study StudyView analyze check_data export fit fit_on_ray
        fit_remote list_cuts load_model open_data open_study predict split_model verify write_report
    """,
    "isplit.errors": """
        BundleError DataError EngineError ExportError InputError IsplitError MissingExtraError ModelError
        NonFiniteError OutputError PayloadError ServerError StudyError
    """,
    "isplit.records": """
        Accuracy Answer Budget BundleRecord Candidate CandidatesRecord Compression CurveRecord Cut DataCheckRecord
        GraphRecord Limits LinkRecord Measurement PlanRecord Prediction PredictionsRecord Preprocessing ProfileRecord
        RunsRecord SimulationRecord SplitRecord StudyRecord TrainedRemote VerificationRecord
    """,
    "isplit.plan.messages": "TransferSampler",
    "isplit.plan.planner": "PlanSettings plan",
    "isplit.plan.simulation_settings": "SimulationSettings",
    "isplit.plan.simulator": "simulate",
    "isplit.runtime.bundle": "Bundle",
    "isplit.runtime.edge.client": "EdgeClient",
    "isplit.runtime.edge.probe": "ProbeSettings probe",
    "isplit.runtime.edge.security": "Tls",
    "isplit.runtime.edge.settings": "EdgeSettings",
    "isplit.runtime.profile.settings": "ProfileSettings",
    "isplit.runtime.server": "EngineFactory Server ServerSettings ServerTls serve serving",
    "isplit.workflows.auto": "auto",
    "isplit.workflows.auto_settings": "AutoResult AutoSettings",
    "isplit.workflows.bench": "BenchSettings ServerAccess bench",
    "isplit.workflows.profile": "profile",
}
_NEED_TORCH = ("isplit.api", "isplit.workflows.auto")
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__all__ = sorted((*_MODULES, "__version__"))  # pyright: ignore[reportUnsupportedDunderAll] - made from the table above


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Reading an installed package's metadata takes longer than all the rest of this module.
        return import_module("importlib.metadata").version("isplit")
    if name not in _MODULES:
        msg = f"module 'isplit' has no attribute {name!r}"
        raise AttributeError(msg)
    module = _MODULES[name]
    if module not in _NEED_TORCH:
        return getattr(import_module(module), name)
    with import_module("isplit.errors").needs_extra("design"):
        return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
