"""One ONNX file in onnxruntime: one array in, one out. The same settings wherever isplit runs a model."""

import contextlib
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from isplit.errors import BundleError, EngineError
from isplit.runtime.providers import (
    CPU,
    Provider,
    ProviderChoice,
    ProviderName,
    choose_provider,
    execution_providers,
    is_active,
)

# It comes without types.
_ort: Any = onnxruntime


class Session:
    """A model that is loaded; safe to run from several threads at once.

    `threads` share one operator's work. They do not spin while there is none: a device has other things to do, and a
    server other models.

    `provider` is what the model runs on (see `isplit.runtime.providers`). Where onnxruntime does not have it, cannot
    start it, or fails with it later, the CPU takes over: `choice` says what is used now, and why.

    Raises:
        BundleError: on construction, when onnxruntime cannot load the file.

    """

    def __init__(self, path: Path, *, threads: int = 1, provider: Provider = "cpu") -> None:
        self._path = path
        self._threads = threads
        self._lock = threading.Lock()
        self.choice: ProviderChoice = choose_provider(provider, _ort.get_available_providers())
        """What the model runs on now."""
        self._session = self._start()
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            msg = f"{path} has {len(inputs)} inputs and {len(outputs)} outputs, not one each: export the bundle again"
            raise BundleError(msg)
        self._input: str = inputs[0].name
        self.output_name: str = outputs[0].name
        """What the file calls its output."""

    def run(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the model's output for a batch.

        Raises:
            EngineError: onnxruntime failed: out of memory, or the array's shape is not the model's.

        """
        session, choice = self._session, self.choice
        try:
            return self._run(session, array)
        except Exception as error:
            if choice.name == CPU:
                raise self._failure(array, error) from error
            return self._run_on_cpu(array, choice.name, error)

    def _run(self, session: Any, array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(session.run([self.output_name], {self._input: array})[0])

    def _run_on_cpu(self, array: NDArray[Any], failed: ProviderName, error: Exception) -> NDArray[Any]:
        """Run the model on the CPU after a provider failed; where that works, stay there.

        Raises:
            EngineError: it fails on the CPU too, so that the provider was not to blame.

        """
        with self._lock:  # of several threads that see it fail, one loads the model again
            try:
                session = self._session if self.choice.name == CPU else self._load(CPU)
                output = self._run(session, array)
            except Exception:  # noqa: BLE001 - the first error says more
                raise self._failure(array, error) from error
            if self.choice.name != CPU:
                self._session = session
                self.choice = ProviderChoice(name=CPU, fallback=f"{failed}: it failed while it ran: {_words(error)}")
            return output

    def _start(self) -> Any:
        """Return a session on the provider that was chosen, or else on the CPU.

        Raises:
            BundleError: onnxruntime cannot load the file on the CPU either.

        """
        name = self.choice.name
        if name != CPU:
            try:
                session = self._load(name)
                if is_active(name, session.get_providers()):
                    return session
                reason = "onnxruntime has it, but could not start it here"
            except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class but this one
                reason = _words(error)
            self.choice = ProviderChoice(name=CPU, fallback=f"{name}: {reason}")
        try:
            return self._load(CPU)
        except Exception as error:
            msg = f"onnxruntime cannot load {self._path}: {_words(error)}; export the bundle again"
            raise BundleError(msg) from error

    def _load(self, name: ProviderName) -> Any:
        options = _ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        if name in ("cuda", "tensorrt") and hasattr(_ort, "preload_dlls"):
            # CUDA's libraries may come from Python packages, where no linker looks. It prints what it does not find.
            with contextlib.redirect_stdout(io.StringIO()):
                _ort.preload_dlls()
        return _ort.InferenceSession(
            str(self._path),
            options,
            providers=execution_providers(name, threads=self._threads),
            enable_fallback=0,  # onnxruntime's own fallback prints to standard output, among the answers
        )

    def _failure(self, array: NDArray[Any], error: Exception) -> EngineError:
        return EngineError(f"onnxruntime cannot run {self._input} of shape {array.shape}: {_words(error)}")


def _words(error: Exception) -> str:
    """Return an exception of onnxruntime on one line, and not at any length."""
    return " ".join(str(error).split())[:300]
