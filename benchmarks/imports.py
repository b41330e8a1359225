"""Measure how long isplit takes to import, over `import torch` in the same run.

    python benchmarks/imports.py [--rounds 7]

Every import runs in an interpreter of its own, the contenders in turns; of each, the round that took the least time of
a processor counts, since other work on the machine only adds to it. Bytecode is written first, as pip does. Memory is
the peak of the process. Results go to benchmarks/results/imports.json and docs/runtime-benchmarks.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from runtime_page import write_page

RESULTS = Path(__file__).parent / "results"
CONTENDERS = {
    "import torch": "import torch",
    "isplit.analyze": "import isplit; isplit.analyze",
    "isplit.predict": "import isplit; isplit.predict; import isplit.design.predict",
    "isplit.fit": "import isplit; isplit.fit; import isplit.design.fit",
    "isplit.EdgeClient": "import isplit; isplit.EdgeClient",
    "isplit --help": "import sys; sys.argv = ['isplit', '--help']; from isplit.cli import main; main()",
}
AIMS = {"isplit.analyze": 1.1}
"""Most time over that of `import torch`."""


def measure(code: str, environment: dict[str, str]) -> tuple[float, float]:
    """Run code in a fresh interpreter, and return its CPU time in seconds and its peak memory in MiB."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{code!r} failed with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Measure all contenders, and print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for code in CONTENDERS.values():
            measure(code, environment)
        samples = [{name: measure(code, environment) for name, code in CONTENDERS.items()} for _ in range(rounds)]
    cpu_s = {name: min(round_[name][0] for round_ in samples) for name in CONTENDERS}
    memory_mib = {name: max(round_[name][1] for round_ in samples) for name in CONTENDERS}
    rows = [
        {
            "import": name,
            "cpu_s": round(cpu_s[name], 3),
            "over_torch": round(cpu_s[name] / cpu_s["import torch"], 3),
            "memory_mib": round(memory_mib[name], 1),
        }
        for name in CONTENDERS
    ]
    for row in rows:
        aim = f"  (aim {AIMS[row['import']]})" if row["import"] in AIMS else ""
        print(
            f"{row['import']:20} {row['cpu_s']:7.3f} s  {row['over_torch']:6.3f} x  {row['memory_mib']:7.1f} MiB{aim}"
        )
    record = {"rounds": rounds, "torch": version("torch"), "python": sys.version.split()[0], "rows": rows}
    (RESULTS / "imports.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    write_page()


if __name__ == "__main__":
    main()
