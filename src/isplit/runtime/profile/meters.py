"""Read the machine's energy meters: RAPL of the processor through Linux, NVML of an NVIDIA accelerator.

The meters count joules since some time in the past; energy is the difference of two readings. Nothing is estimated
here: a machine without a meter has none. (The package zeus reads the same counters and more, but brings scikit-learn,
httpx and others with it, too much for a device.)
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

RAPL_DIRECTORY = Path("/sys/class/powercap")


class Meter(Protocol):
    """A counter of energy."""

    @property
    def kind(self) -> Literal["rapl", "nvml"]:
        """The name of the meter."""
        ...

    def read_joules(self) -> float:
        """Return the energy since an unknown start, which only grows."""
        ...


class RaplMeter:
    """The energy of all processor packages, "intel-rapl:N" in Linux (AMD's processors have them under that name too).

    Raises:
        OSError: on construction, where there is no such counter or only root may read it.

    """

    kind: Literal["rapl"] = "rapl"

    def __init__(self, directory: Path = RAPL_DIRECTORY) -> None:
        self._packages = [path for path in sorted(directory.glob("intel-rapl:*")) if path.name.count(":") == 1]
        if not self._packages:
            msg = f"{directory} has no intel-rapl counter"
            raise OSError(msg)
        self._last = [self._read(path, "energy_uj") for path in self._packages]
        self._ranges = [self._read(path, "max_energy_range_uj") for path in self._packages]
        self._total_uj = 0

    def read_joules(self) -> float:
        """Return the energy since construction; a counter that began again at 0 is continued."""
        for index, path in enumerate(self._packages):
            now = self._read(path, "energy_uj")
            step = now - self._last[index]
            self._total_uj += step if step >= 0 else step + self._ranges[index]
            self._last[index] = now
        return self._total_uj / 1e6

    @staticmethod
    def _read(path: Path, name: str) -> int:
        try:
            return int((path / name).read_text())
        except ValueError as error:
            raise OSError(str(error)) from error


class NvmlMeter:
    """The energy of all NVIDIA accelerators, through the package nvidia-ml-py (`pip install 'isplit[energy]'`).

    Raises:
        OSError: on construction, where the package, the driver or the counter is missing.

    """

    kind: Literal["nvml"] = "nvml"

    def __init__(self) -> None:
        try:
            self._nvml: Any = import_module("pynvml")
            self._nvml.nvmlInit()
            count = int(self._nvml.nvmlDeviceGetCount())
            self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
            self.read_joules()
        except ImportError as error:
            msg = "the package nvidia-ml-py is not installed"
            raise OSError(msg) from error
        except Exception as error:  # NVML's errors share no other base class
            raise OSError(str(error)) from error
        if not self._handles:
            msg = "NVML knows no accelerator"
            raise OSError(msg)

    def read_joules(self) -> float:
        """Return the energy since the driver was loaded."""
        return sum(float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) for handle in self._handles) / 1e3


def open_meter(*, accelerator: bool, rapl: Path = RAPL_DIRECTORY) -> Meter:
    """Open the meter of the accelerator, or else of the processor.

    Raises:
        OSError: the machine has none that may be read; the message says why.

    """
    return NvmlMeter() if accelerator else RaplMeter(rapl)


@dataclass(frozen=True, kw_only=True)
class EnergyReading:
    """The energy of a task: mean power in watts while it ran repeatedly, and millijoules for each run."""

    watts: float
    energy_mj: float


def measure_energy(
    meter: Meter,
    run: Callable[[], object],
    *,
    seconds: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
) -> EnergyReading:
    """Run a function repeatedly for some seconds, and return the energy that it drew, idle power included."""
    runs = 0
    start_s, start_j = clock(), meter.read_joules()
    while clock() - start_s < seconds or runs == 0:
        run()
        runs += 1
    joules, elapsed_s = meter.read_joules() - start_j, clock() - start_s
    return EnergyReading(watts=joules / elapsed_s, energy_mj=1e3 * joules / runs)
