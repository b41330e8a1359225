"""Run one ONNX file with one input and one output in onnxruntime, with the same settings everywhere in isplit."""

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

# The package comes without types.
_ort: Any = onnxruntime


def session_options(*, threads: int) -> Any:
    """Return the options of onnxruntime with which every model of isplit runs: `threads` for each operator."""
    options = _ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


class Session:
    """A loaded model, which several threads may run at once.

    `threads` share the work of one operator. They do not spin while there is none, because a device has other work to
    do, and a server other models. `lean` saves memory at the price of time, for models that run once and are freed.

    `provider` is the execution provider (see `isplit.runtime.providers`). If onnxruntime does not have it, cannot
    start it, or fails with it later, the CPU takes over; `choice` says what is used now, and why.

    Raises:
        BundleError: on construction, if onnxruntime cannot load the file.

    """

    def __init__(self, path: Path, *, threads: int = 1, provider: Provider = "cpu", lean: bool = False) -> None:
        self._path = path
        self._lean = lean
        self._threads = threads
        self._lock = threading.Lock()
        self.choice: ProviderChoice = choose_provider(provider, _ort.get_available_providers())
        """The provider that the model runs on now."""
        self._session = self._start()
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            msg = f"{path} has {len(inputs)} inputs and {len(outputs)} outputs, not one each: export the bundle again"
            raise BundleError(msg)
        self._input: str = inputs[0].name
        self.output_name: str = outputs[0].name
        """The name of the output in the file."""

    def run(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the model's output for a batch.

        Raises:
            EngineError: onnxruntime failed, because it is out of memory or the array's shape does not fit the model.

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
        """Run the model on the CPU after a provider failed, and stay there if that works.

        Raises:
            EngineError: it also fails on the CPU, so that the provider was not to blame.

        """
        with self._lock:  # several threads may see the failure; one of them loads the model again
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
        """Return a session on the chosen provider, or else on the CPU.

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
        options = session_options(threads=self._threads)
        if self._lean:
            # Weights stay where the file is mapped into memory, and what a run needs is given back after it. The
            # highest level of optimisation would copy the weights of convolutions to another layout: for VGG16 that
            # takes longer than one run gains.
            options.add_session_config_entry("session.disable_prepacking", "1")
            options.enable_cpu_mem_arena = False
            options.graph_optimization_level = _ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        if name in ("cuda", "tensorrt") and hasattr(_ort, "preload_dlls"):
            # CUDA's libraries may come from Python packages, where no linker looks. The call prints what it does not
            # find.
            with contextlib.redirect_stdout(io.StringIO()):
                _ort.preload_dlls()
        return _ort.InferenceSession(
            str(self._path),
            options,
            providers=execution_providers(name, threads=self._threads),
            enable_fallback=0,  # onnxruntime's own fallback prints to standard output, among the answers.
        )

    def _failure(self, array: NDArray[Any], error: Exception) -> EngineError:
        return EngineError(f"onnxruntime cannot run {self._input} of shape {array.shape}: {_words(error)}")


def _words(error: Exception) -> str:
    """Return an exception of onnxruntime as one line of limited length."""
    return " ".join(str(error).split())[:300]
