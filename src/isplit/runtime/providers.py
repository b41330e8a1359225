"""Choose the execution provider of onnxruntime that a model runs on, by isplit's names for them.

The package decides which ones an installed onnxruntime has: `onnxruntime` has the CPU (and CoreML on macOS),
`onnxruntime-gpu` CUDA and TensorRT, `onnxruntime-openvino` OpenVINO, `onnxruntime-qnn` QNN.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, get_args

from isplit.errors import InputError

Provider = Literal["auto", "cpu", "cuda", "tensorrt", "openvino", "xnnpack", "coreml", "qnn"]
"""The providers that may be requested. "auto" is CUDA if onnxruntime has it, and otherwise the CPU.

The others are used only by name: TensorRT compiles for minutes before it runs, and OpenVINO, XNNPACK, CoreML and QNN
may compute in another precision than the one in which the bundle's accuracy was measured.
"""

ProviderName = Literal["cpu", "cuda", "tensorrt", "openvino", "xnnpack", "coreml", "qnn"]
"""The provider that a model runs on."""

CPU: ProviderName = "cpu"

_EXECUTION_PROVIDERS: dict[ProviderName, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "qnn": "QNNExecutionProvider",
}


@dataclass(frozen=True, kw_only=True)
class ProviderChoice:
    """The provider to run a model on (`name`), and the reason (`fallback`) if it is not the requested one."""

    name: ProviderName
    fallback: str | None = None


def check_provider(provider: str) -> Provider:
    """Return the name of a provider after checking it.

    Raises:
        InputError: there is no such provider; the message lists them.

    """
    for name in get_args(Provider):
        if provider == name:
            return name
    msg = f"provider is {provider!r}; choose one of {', '.join(get_args(Provider))}"
    raise InputError(msg)


def choose_provider(provider: Provider, available: Collection[str]) -> ProviderChoice:
    """Choose a provider among those that onnxruntime reports as `available` (by onnxruntime's own names)."""
    if provider == "auto":
        return ProviderChoice(name="cuda" if _EXECUTION_PROVIDERS["cuda"] in available else CPU)
    if _EXECUTION_PROVIDERS[provider] in available:
        return ProviderChoice(name=provider)
    return ProviderChoice(name=CPU, fallback=f"{provider}: the installed onnxruntime was built without it")


def execution_providers(name: ProviderName, *, threads: int) -> list[str | tuple[str, dict[str, Any]]]:
    """Return onnxruntime's list for a provider, followed by those that run the operators which it lacks."""
    names = [_EXECUTION_PROVIDERS[name]]
    if name == "tensorrt":
        names.append(_EXECUTION_PROVIDERS["cuda"])
    if name != CPU:
        names.append(_EXECUTION_PROVIDERS[CPU])
    # XNNPACK has its own pool of threads, and would take every core.
    options = {"xnnpack": {"intra_op_num_threads": str(threads)}, "openvino": {"num_of_threads": str(threads)}}
    return [(names[0], options[name]) if name in options else names[0], *names[1:]]


def is_active(name: ProviderName, active: Collection[str]) -> bool:
    """Return whether a session that was made for a provider really uses it, given the `active` ones."""
    return _EXECUTION_PROVIDERS[name] in active
