"""One ONNX file in onnxruntime: one array in, one out. The same settings wherever isplit runs a model."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from isplit.errors import BundleError, EngineError

# It comes without types.
_ort: Any = onnxruntime


class Session:
    """A model that is loaded; safe to run from several threads at once.

    `threads` share one operator's work. They do not spin while there is none: a device has other things to do, and a
    server other models.

    Raises:
        BundleError: on construction, when onnxruntime cannot load the file.

    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        options = _ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            session: Any = _ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # Its exceptions share no base class but this one.
            msg = f"onnxruntime cannot load {path}: {' '.join(str(error).split())[:300]}; export the bundle again"
            raise BundleError(msg) from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            msg = f"{path} has {len(inputs)} inputs and {len(outputs)} outputs, not one each: export the bundle again"
            raise BundleError(msg)
        self._session = session
        self._input: str = inputs[0].name
        self.output_name: str = outputs[0].name
        """What the file calls its output."""

    def run(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the model's output for a batch.

        Raises:
            EngineError: onnxruntime failed: out of memory, or the array's shape is not the model's.

        """
        try:
            return np.asarray(self._session.run([self.output_name], {self._input: array})[0])
        except Exception as error:
            msg = f"onnxruntime cannot run {self._input} of shape {array.shape}: {' '.join(str(error).split())[:300]}"
            raise EngineError(msg) from error
