"""Find the model and the data that a study's records name, and refuse to run code that nobody allowed."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import nn

from isplit.design.inputs.models import LoadedModel, load_model
from isplit.design.inputs.user_code import names_code
from isplit.errors import StudyError
from isplit.records import StudyRecord
from isplit.records.files import resolved


def recorded_spec(directory: Path, spec: str, kind: Literal["model", "data"], allow_code: bool) -> str:
    """Return the recorded name of a model or data set as it can be found from here.

    Raises:
        StudyError: it names code that was not allowed, a file of the study itself, or a module in memory.

    """
    if spec.startswith("python:"):
        msg = f"{directory} was made from a module in memory ({spec}): open it from Python and pass the module"
        raise StudyError(msg)
    if not names_code(spec):
        return _located(directory, spec)
    if not allow_code:
        msg = (
            f"{directory} names Python code as its {kind}, {spec}, and opening it would run that. If you trust the "
            f"code, allow it: `allow_code=True`. Naming the {kind} again allows it too"
        )
        raise StudyError(msg)
    where, _, name = spec.rpartition(":")
    located = Path(_located(directory, where))
    if located.suffix == ".py" and resolved(located).is_relative_to(resolved(directory)):
        msg = f"{directory} names a file of its own as its {kind}, {spec}: a study is data, and its files are not run"
        raise StudyError(msg)
    return f"{located}:{name}" if where.endswith(".py") else spec


def _located(directory: Path, path: str) -> str:
    """Return a recorded path as it is found from here: as it stands, or from one of the folders around the study.

    A study records paths as they were given, relative to the folder where `analyze` ran. Fingerprints are checked
    afterwards, so that another file of the same name is noticed.
    """
    if Path(path).is_absolute() or Path(path).exists() or ":" in path:
        return path
    around = (parent / path for parent in resolved(directory).parents)
    return next((str(candidate) for candidate in around if candidate.exists()), path)


def load_recorded_model(
    record: StudyRecord, spec: nn.Module | str, weights: str | None, directory: Path
) -> LoadedModel:
    """Load the model of a study, with the preprocessing and the choices that the study records.

    Raises:
        InputError: the model or its weights cannot be loaded.

    """
    if weights is None and record.model.weights is not None:
        weights = _located(directory, record.model.weights)
    loaded = load_model(
        spec,
        weights=weights,
        num_classes=record.model.num_outputs if isinstance(spec, str) else None,
        image_size=record.preprocessing.image_size,
        preprocessing={"channels": record.preprocessing.channels},
        output=record.model.output,
        extra_inputs=record.model.extra_inputs,
    )
    return replace(loaded, preprocessing=record.preprocessing)
