"""Time every operator of a model while the whole model runs, with the profiler of onnxruntime."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from isplit.errors import BundleError, EngineError
from isplit.runtime.session import session_options

# The package comes without types.
_ort: Any = onnxruntime

_KERNEL = "_kernel_time"


class TracedModel:
    """A loaded ONNX file whose operators are timed at every run, on the processor.

    Providers for accelerators only start an operator and do not wait for it, so their operators cannot be timed so.

    Args:
        path: The file; it has one input.
        directory: Where the optimised model and the profiler's file are written.
        threads: Threads that share an operator's work.

    Raises:
        BundleError: onnxruntime cannot load the file.

    """

    def __init__(self, path: Path, directory: Path, *, threads: int) -> None:
        self.optimised = directory / "optimised.onnx"
        """The model as onnxruntime runs it, after fusions and layout conversions; its weights are in another file."""
        options = session_options(threads=threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(directory / "trace")
        options.optimized_model_filepath = str(self.optimised)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{self.optimised.name}.weights"
        )
        try:
            self._session = _ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class but this one
            msg = f"onnxruntime cannot load {path}: {' '.join(str(error).split())[:300]}"
            raise BundleError(msg) from error
        self._input: str = self._session.get_inputs()[0].name

    def run(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the model's output for a batch.

        Raises:
            EngineError: onnxruntime failed.

        """
        try:
            return np.asarray(self._session.run(None, {self._input: array})[0])
        except Exception as error:  # onnxruntime's exceptions share no base class but this one
            msg = f"onnxruntime cannot run {self._input}: {' '.join(str(error).split())[:300]}"
            raise EngineError(msg) from error

    def finish(self) -> dict[str, NDArray[np.float64]]:
        """Stop timing, and return the milliseconds of each operator by name, one for each run so far."""
        return read_trace(Path(self._session.end_profiling()))


def read_trace(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return the milliseconds of each operator by name, run after run, from the file of onnxruntime's profiler.

    Where the profiler stopped early because its file was full, the last runs are left out for all operators.
    """
    times_ms: dict[str, list[float]] = defaultdict(list)
    for event in json.loads(path.read_text()):
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_KERNEL):
            times_ms[name.removesuffix(_KERNEL)].append(event["dur"] / 1e3)
    runs = min(map(len, times_ms.values()), default=0)
    return {name: np.array(values[:runs]) for name, values in times_ms.items()}


def sum_by_segment(
    operators_ms: Mapping[str, NDArray[np.float64]], segments: Mapping[str, int], *, count: int
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Add up the times of operators by segment.

    Args:
        operators_ms: The times of each operator, one for each run.
        segments: The number of each operator's segment.
        count: The number of segments.

    Returns:
        Milliseconds of segments and runs, count×runs, and the operators without a segment, which are left out.

    """
    runs = min(map(len, operators_ms.values()), default=0)
    sums_ms = np.zeros((count, runs))
    for name, values in operators_ms.items():
        if name in segments:
            sums_ms[segments[name]] += values
    return sums_ms, tuple(name for name in operators_ms if name not in segments)
