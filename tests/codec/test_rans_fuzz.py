"""The compiled coder's core under AddressSanitizer and UBSan: no byte is touched beside its buffers.

python tests/codec/test_rans_fuzz.py [SEED] [ROUNDS]     fuzzes for longer
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORE = HERE.parents[1] / "src" / "isplit" / "codec"
SANITIZED = ["-g", "-O1", "-std=c99", "-Wall", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build_fuzzer(compiler, directory, *, core=CORE):
    """Compile the driver with sanitizers and return its path."""
    program = Path(directory, "fuzz")
    command = [compiler, *SANITIZED, "-I", str(core), str(HERE / "rans_fuzz.c"), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        pytest.skip(f"this compiler has no sanitizers: {done.stderr[:200]}")
    return program


def fuzz(program, *, seed, rounds, timeout_s):
    """Run the driver and return what it says and its exit code."""
    command = [str(program), str(seed), str(rounds)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.fixture
def quick_fuzz(compiler, tmp_path):
    """Return a function that compiles the driver against a core and runs it."""

    def run(core):
        return fuzz(build_fuzzer(compiler, tmp_path, core=core), seed=1, rounds=1500, timeout_s=60)

    return run


def test_core_stays_in_its_buffers(quick_fuzz):
    """Good and hostile tables, symbols and payloads: payloads round-trip, and no sanitizer speaks up."""
    done = quick_fuzz(CORE)
    assert (0, "") == (done.returncode, done.stderr)
    assert "1500 rounds: " in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("if (word == end) return RANS_NO_WORD;", ""),
        ("if (symbol >= tables->levels) return RANS_BAD_SYMBOL;", ""),
        ("if (length < 4 * lanes || length % 2)", "if (length < 2 * lanes || length % 2)"),
        ("if (frequency == 0) return RANS_BAD_TABLE;", ""),
        ("return 4 * rans_lanes(tables, count) + 2 * count;", "return 4 * rans_lanes(tables, count) + count;"),
    ],
)
def test_the_driver_finds_missing_checks(quick_fuzz, tmp_path, right, wrong):
    """Each check of the core is needed: without it a sanitizer ends the driver."""
    core = (CORE / "_rans_core.h").read_text("utf-8")
    assert 1 == core.count(right)
    (tmp_path / "_rans_core.h").write_text(core.replace(right, wrong), "utf-8")

    done = quick_fuzz(tmp_path)
    assert 0 != done.returncode
    assert "ERROR: AddressSanitizer" in done.stderr or "runtime error" in done.stderr


if __name__ == "__main__":
    seed, rounds = (*map(int, sys.argv[1:]), *(1, 1_000_000)[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory() as directory:
        done = fuzz(build_fuzzer("cc", directory), seed=seed, rounds=rounds, timeout_s=None)
    sys.stdout.write(done.stdout + done.stderr)
    sys.exit(done.returncode)
