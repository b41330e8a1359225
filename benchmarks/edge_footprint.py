"""Measure the time to import the client, and the memory of `isplit run`; part of runtime_edge.py.

Each runs in a fresh interpreter, on the synthetic bundle; export_equality.py has real networks.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from processes import MAIN, running

from isplit.runtime.bundle import Bundle

# Not ru_maxrss: that of a process includes what its parent had when it was forked.
PEAK = """
def peak_mib():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
"""
IMPORT = """
import time
begun, cpu = time.perf_counter(), time.process_time()
import isplit
isplit.EdgeClient
print(time.perf_counter() - begun, time.process_time() - cpu, peak_mib())
"""
RUN = """
import sys
from isplit.cli import main
try:
    main()
finally:
    print(peak_mib(), file=sys.stderr)
"""


def footprint(directory: Path) -> dict[str, Any]:
    """Measure the import, and `isplit run`'s peak resident memory."""
    runs = [_python(PEAK + IMPORT).stdout.split() for _ in range(11)]
    names = ("import_s", "import_cpu_s", "import_mib")
    result: dict[str, Any] = {
        name: statistics.median(float(run[index]) for run in runs) for index, name in enumerate(names)
    }
    result |= {"load_average": os.getloadavg()[0], "peak_resident_mib": peak_resident_mib(directory)}
    print(json.dumps(result, indent=1))
    return result


def peak_resident_mib(directory: Path) -> dict[str, float]:
    """Measure `isplit run` on 20 images, in a fresh interpreter for each placement, cuts without a fallback too."""
    record = Bundle.open(directory).record
    height, width = record.preprocessing.image_size
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch, running(MAIN, "serve", directory, "--port", 0) as server:
        folder = Path(scratch)
        for number in range(20):
            pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        cuts = [cut.name for cut in record.cuts]
        for placement, *options in (*((cut,) for cut in cuts), *((cut, "--no-fallback") for cut in cuts), ("local",)):
            arguments = ("run", directory, folder, "--server", server.address, "--placement", placement, "--quiet")
            done = _python(PEAK + RUN, *arguments, *options)
            peaks[" ".join((placement, *options))] = float(done.stderr.split()[-1])
    return peaks


def _python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
