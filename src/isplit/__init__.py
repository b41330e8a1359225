"""Find where to split a neural network between a device and a server, before anything is trained.

    import isplit
    model = isplit.load_model("torchvision:resnet50", weights="default")
    data = isplit.open_data("photos.zip")
    study = isplit.analyze(model, data, out="study")
    print([candidate.cut for candidate in study.candidates])

Importing isplit loads no torch: what needs it is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isplit.api import (
        ExportSettings,
        FitSettings,
        PredictSettings,
        Settings,
        Study,
        Sweep,
        Wanted,
        analyze,
        export,
        fit,
        fit_on_ray,
        list_cuts,
        load_model,
        open_data,
        open_study,
        predict,
        split_model,
        verify,
        write_report,
    )
    from isplit.errors import (
        BundleError,
        DataError,
        EngineError,
        ExportError,
        InputError,
        IsplitError,
        MissingExtraError,
        ModelError,
        NonFiniteError,
        PayloadError,
        StudyError,
    )
    from isplit.records import Answer, Budget
    from isplit.runtime.bundle import Bundle
    from isplit.runtime.edge.client import EdgeClient
    from isplit.runtime.edge.security import Tls
    from isplit.runtime.server import ServerSettings, ServerTls, serve, serving

__all__ = [
    "Answer",
    "Budget",
    "Bundle",
    "BundleError",
    "DataError",
    "EdgeClient",
    "EngineError",
    "ExportError",
    "ExportSettings",
    "FitSettings",
    "InputError",
    "IsplitError",
    "MissingExtraError",
    "ModelError",
    "NonFiniteError",
    "PayloadError",
    "PredictSettings",
    "ServerSettings",
    "ServerTls",
    "Settings",
    "Study",
    "StudyError",
    "Sweep",
    "Tls",
    "Wanted",
    "analyze",
    "export",
    "fit",
    "fit_on_ray",
    "list_cuts",
    "load_model",
    "open_data",
    "open_study",
    "predict",
    "serve",
    "serving",
    "split_model",
    "verify",
    "write_report",
]

_API = frozenset(
    (
        "ExportSettings",
        "FitSettings",
        "PredictSettings",
        "Settings",
        "Study",
        "Sweep",
        "Wanted",
        "analyze",
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
    )
)
# Neither behind the design extra nor an exception.
_MODULES = {
    "Answer": "isplit.records",
    "Budget": "isplit.records",
    "Bundle": "isplit.runtime.bundle",
    "EdgeClient": "isplit.runtime.edge.client",
    "ServerSettings": "isplit.runtime.server",
    "ServerTls": "isplit.runtime.server",
    "Tls": "isplit.runtime.edge.security",
    "serve": "isplit.runtime.server",
    "serving": "isplit.runtime.server",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module 'isplit' has no attribute {name!r}"
        raise AttributeError(msg)
    if name not in _API:
        return getattr(import_module(_MODULES.get(name, "isplit.errors")), name)
    with import_module("isplit.errors").needs_extra("design"):
        return getattr(import_module("isplit.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
