"""Measure the peak resident memory of one placement's share of the device, in a process that does nothing else.

`python -m isplit.runtime.profile.memory BUNDLE PLACEMENT THREADS PROVIDER` is that process: it opens the bundle, runs
the placement on a sample image a few times, and prints its memory before and after as JSON.
"""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from isplit.errors import EngineError
from isplit.records import PlacementMemory
from isplit.runtime.providers import Provider, check_provider

_RUNS = 3
_TIMEOUT_S = 600.0


def measure_memory(directory: Path, placement: str, *, threads: int, provider: Provider) -> PlacementMemory:
    """Start a process that runs `placement` of the bundle in `directory`, and return its peak memory.

    Raises:
        EngineError: the process failed, or took longer than ten minutes.

    """
    command = [sys.executable, "-m", __name__, str(directory), placement, str(threads), provider]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            msg = f"the process that measures the memory of {placement} failed: {reason}"
            raise EngineError(msg)
        figures = json.loads(done.stdout)
        return PlacementMemory(
            placement=placement, peak_bytes=int(figures["peak"]), baseline_bytes=int(figures["baseline"])
        )
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        msg = f"the memory of {placement} cannot be measured: {error}"
        raise EngineError(msg) from error


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process so far."""
    try:
        # `ru_maxrss` would count the memory of the process that started this one.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _measure_here(directory: str, placement: str, threads: str, provider: str) -> dict[str, int]:
    """Run a placement in this process, and return the peaks before and after."""
    # A device's client loads this before it loads a model.
    import_module("isplit.runtime.edge.client")
    import_module("isplit.runtime.session")
    from isplit.runtime.bundle import Bundle
    from isplit.runtime.edge.device import LOCAL, SEGMENTED, Device

    bundle = Bundle.open(directory, verify=False)
    device = Device(bundle, plain=False, threads=int(threads), provider=check_provider(provider))
    baseline = peak_memory_bytes()
    if placement == LOCAL:
        device.time_whole()
    elif placement == SEGMENTED:
        for _ in range(_RUNS):
            device.segmented(device.sample_pixels())
    else:
        for _ in range(_RUNS):
            device.sample(placement)
    return {"baseline": baseline, "peak": peak_memory_bytes()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure_here(*sys.argv[1:])))
