"""Describe the machine by its own information: processor, memory, versions."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from isplit.codec.rans import rans_coder
from isplit.records import Machine

_DEFAULT_AVAILABLE_BYTES = 2**30


def describe_machine(*, proc: Path = Path("/proc")) -> Machine:
    """Describe this machine; `proc` is Linux's directory of system information."""
    return Machine(
        processor=_processor(proc),
        architecture=platform.machine() or "unknown",
        system=platform.system() or "unknown",
        logical_cores=os.cpu_count(),
        memory_bytes=_meminfo(proc, "MemTotal"),
    )


def available_memory_bytes(*, proc: Path = Path("/proc")) -> int:
    """Return how much memory a new process may take; 1 GiB if the system does not say."""
    return _meminfo(proc, "MemAvailable") or _DEFAULT_AVAILABLE_BYTES


def runtime_versions() -> dict[str, str]:
    """Return the versions of the libraries whose speed a profile depends on, and which entropy coder runs here."""
    import onnxruntime  # pyright: ignore[reportMissingTypeStubs]

    versions = {"python": platform.python_version(), "onnxruntime": str(getattr(onnxruntime, "__version__", "unknown"))}
    for name in ("numpy", "pillow"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # pragma: no cover - both are dependencies
            continue
    versions["rans coder"] = rans_coder()
    return versions


def _processor(proc: Path) -> str:
    """Return the processor's name: Linux on x86 says "model name", boards with Arm cores "Model" or "Hardware"."""
    try:
        lines = (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    values = {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}
    for name in ("model name", "Model", "Hardware"):
        if values.get(name):
            return values[name]
    return platform.processor() or platform.machine() or "unknown"


def _meminfo(proc: Path, name: str) -> int | None:
    try:
        lines = (proc / "meminfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key == name and (words := value.split()) and words[0].isdecimal():
            return int(words[0]) * 1024
    return None
