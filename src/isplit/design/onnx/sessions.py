"""Run an ONNX file once over some images, as an oracle: on the CPU, with one thread."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

_BATCH = 8


def run_outputs(path: Path, array: NDArray[Any]) -> list[NDArray[Any]]:
    """Return every output of an ONNX file for a batch, computed a few images at a time.

    Args:
        path: The file; it has one input.
        array: The input, N×...; where the file has a fixed batch, the last ones are filled up.

    Raises:
        Exception: onnxruntime cannot load or run the file; its exceptions share no base class but this one.

    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    count, fixed = len(array), source.shape[0] if isinstance(source.shape[0], int) else 0
    if fixed:
        array = np.concatenate([array, np.repeat(array[-1:], -count % fixed, axis=0)])
    batch = fixed or _BATCH
    starts = range(0, len(array), batch)
    parts = [session.run(None, {source.name: array[start : start + batch]}) for start in starts]
    return [np.concatenate(output)[:count] for output in zip(*parts, strict=True)]
