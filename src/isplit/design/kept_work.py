"""What a run of `predict` has done so far, on disk until it is finished: a run that is stopped in any phase goes on.

Every piece of work is a safetensors file, and its name is a hash of all that the piece depends on: a run with other
settings, images or weights finds nothing of another run's.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from isplit.records import write_whole
from isplit.records.arrays import LARGEST_ARRAYS_BYTES
from isplit.records.files import read_limited

KEPT_WORK = "unfinished"
"""The folder of a study that holds the work of runs that were stopped."""


@dataclass(frozen=True)
class KeptWork:
    """Pieces of work on disk.

    Attributes:
        directory: The study; None keeps nothing.
        inputs: What every piece depends on, as JSON can write it: the model, the data, versions, and so on.

    """

    directory: Path | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def with_inputs(self, **inputs: Any) -> Self:
        """Return the same with further inputs, for pieces that depend on more."""
        return type(self)(self.directory, {**self.inputs, **inputs})

    def load(self, phase: str, **details: Any) -> dict[str, NDArray[Any]] | None:
        """Return a piece of work; None if it was not kept, or is damaged, and has to be done again.

        Args:
            phase: The kind of work.
            details: Which piece of it, and what it depends on beyond `inputs`.

        """
        path = self._path(phase, details)
        if path is None:
            return None
        try:
            return load(read_limited(path, limit_bytes=LARGEST_ARRAYS_BYTES, kind="kept work", ordinary=True))
        except Exception:  # noqa: BLE001 - safetensors raises errors of every kind on damaged bytes
            return None

    def save(self, arrays: Mapping[str, NDArray[Any]], phase: str, **details: Any) -> None:
        """Keep a piece of work, whole or not at all; `load` finds it by the same phase and details.

        Raises:
            StudyError: the file cannot be written.

        """
        path = self._path(phase, details)
        if path is not None:
            path.parent.mkdir(exist_ok=True)
            write_whole(path, save({name: array.copy("C") for name, array in arrays.items()}))

    def remove(self, phase: str, **details: Any) -> None:
        """Forget a piece of work."""
        path = self._path(phase, details)
        if path is not None:
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all work: the run is finished, and its results are in the records."""
        if self.directory is not None:
            shutil.rmtree(self.directory / KEPT_WORK, ignore_errors=True)

    def _path(self, phase: str, details: Mapping[str, Any]) -> Path | None:
        if self.directory is None:
            return None
        text = json.dumps([dict(self.inputs), phase, details], sort_keys=True, default=_as_json)
        return self.directory / KEPT_WORK / f"{phase}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.safetensors"


def text_array(text: str) -> NDArray[np.uint8]:
    """Return a text as an array, since only arrays are kept.

    Examples:
        >>> array_text(text_array("ab"))
        'ab'

    """
    return np.frombuffer(text.encode(), np.uint8).copy()


def array_text(array: NDArray[np.uint8]) -> str:
    """Undo `text_array`."""
    return array.tobytes().decode()


def _as_json(value: Any) -> str:
    """Write what JSON cannot: arrays by the hash of their content, the rest by its `repr`."""
    if isinstance(value, np.ndarray):
        return hashlib.sha256(
            f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes()
        ).hexdigest()
    return repr(value)


NOTHING_KEPT = KeptWork()
"""Keeps nothing and finds nothing."""
