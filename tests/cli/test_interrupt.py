"""Ctrl-C and kill in the middle of the work: nothing is half-written, and the next run goes on from there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SLOW_DATA = '''
import os
import time
from pathlib import Path

import numpy as np

LOG = Path(__file__).with_name("reads.txt")
SLOW_AFTER = int(os.environ.get("SLOW_AFTER", "1000000"))


class Slow:
    """Noise; every picture read leaves a line in reads.txt; after SLOW_AFTER of them, one takes 0.1 s."""

    classes = ("bars", "dots", "rows")

    def __init__(self):
        self.targets = [i % 3 for i in range(300)]
        self.reads = 0

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        self.reads += 1
        time.sleep(0.1 if self.reads > SLOW_AFTER else 0)
        with LOG.open("a") as file:
            file.write(f"{i}\\n")
        rng = np.random.default_rng(i)
        return rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), self.targets[i]


def make():
    return Slow()
'''
OPENING = 26  # read on opening: to tell whether the data is the same, and whether labels are what items say
TEST_IMAGES, FIT_IMAGES, OVERLAYS = 30, 240, 6
UNDER_WAY = OPENING + TEST_IMAGES + FIT_IMAGES // 3


def command_in(directory, model):
    """Return `isplit analyze` on slow data, as arguments; everything is written into `directory`."""
    (directory / "slow.py").write_text(SLOW_DATA)
    data = f"{directory / 'slow.py'}:make"
    return ["analyze", f"{model}:build", data, "-o", str(directory / "s"), "--batch-size", "4", "--images", "all"]


@pytest.fixture
def command(tmp_path, tiny_model_file):
    """`isplit analyze` in this test's directory."""
    return command_in(tmp_path, tiny_model_file)


def reads(directory):
    log = directory / "reads.txt"
    return len(log.read_text().splitlines()) if log.exists() else 0


# Loading torch takes longer than all the rest, so one process loads it and then is two. SIGINT is set because a
# test run in the background may have it ignored.
TWINS = """
import json, os, signal, sys

import isplit.api
from isplit.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)
commands = json.loads(sys.argv[1])
twin = os.fork()
sys.argv = ["isplit", *commands[0 if twin else 1]]
if twin:
    print(twin, flush=True)
main()
"""


def wait_until_under_way(process, directory):
    """Wait until a third of the images is read."""
    deadline = time.monotonic() + 240
    while reads(directory) < UNDER_WAY:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def whole(directory):
    """Whether every JSON file in the study can be read to its end."""
    for path in directory.rglob("*.json"):
        assert "schema" in json.loads(path.read_text()), path
    return True


@pytest.fixture
def undisturbed(isplit, tmp_path, tiny_model_file, without_report):
    """The records of the same command when nothing stops it."""

    def records():
        directory = tmp_path / "undisturbed"
        directory.mkdir()
        assert 0 == isplit(*command_in(directory, tiny_model_file), "--quiet").code
        return {name: (directory / "s" / name).read_bytes() for name in ("curve.json", "candidates.json")}

    return records


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_model_file):
    """Two runs, one stopped by Ctrl-C and one killed in the middle: their directories, and how the first ended."""
    stopped, killed = tmp_path_factory.mktemp("stopped"), tmp_path_factory.mktemp("killed")
    commands = [command_in(directory, tiny_model_file) for directory in (stopped, killed)]
    process = subprocess.Popen(
        [sys.executable, "-c", TWINS, json.dumps(commands)],
        env=os.environ | {"SLOW_AFTER": str(UNDER_WAY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        twin = int(process.stdout.readline())
        try:
            wait_until_under_way(process, killed)
        finally:
            os.kill(twin, signal.SIGKILL)
        wait_until_under_way(process, stopped)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=240)
    finally:
        process.kill()
        process.communicate()
    return {"ctrl-c": (stopped, process.returncode, error), "kill": killed}


@pytest.fixture
def stopped(runs):
    """The run that Ctrl-C stopped."""
    return runs["ctrl-c"]


def test_ctrl_c_exit_code(stopped):
    """Ctrl-C exits 130, as shells expect, without a traceback."""
    _, code, error = stopped
    assert 130 == code, error
    assert "Traceback" not in error


def test_ctrl_c_says_what_is_kept(stopped):
    """The last words are that what was computed is kept, and how to go on."""
    *_, error = stopped
    assert "kept" in error
    assert "again" in error


def test_ctrl_c_resumes(isplit, stopped, tiny_model_file, undisturbed):
    """The same command then scores only the rest, with the same result as if it had not been stopped."""
    directory, *_ = stopped
    out = directory / "s"
    assert whole(out)
    assert not (out / "candidates.json").exists()

    (directory / "reads.txt").unlink()
    result = isplit(*command_in(directory, tiny_model_file), "--quiet")
    assert 0 == result.code, result.err
    # A third was scored before, but for a batch or two on the way; the test part is not read again at all.
    assert reads(directory) <= FIT_IMAGES - FIT_IMAGES // 3 + 12 + OPENING + OVERLAYS
    expected = undisturbed()
    assert expected == {name: (out / name).read_bytes() for name in expected}


def test_killed(isplit, runs, tiny_model_file, undisturbed):
    """SIGKILL leaves nothing half-written, and the same command then completes with the same result."""
    directory = runs["kill"]
    out = directory / "s"
    assert whole(out)
    assert not (out / "curve.json").exists()

    result = isplit(*command_in(directory, tiny_model_file), "--quiet")
    assert 0 == result.code, result.err
    expected = undisturbed()
    assert expected == {name: (out / name).read_bytes() for name in expected}


def test_ctrl_c_before_anything_is_kept(isplit, command, tmp_path, monkeypatch, without_report):
    """Ctrl-C while the base accuracy is measured exits 130, and does not spoil the directory for the next run."""
    from isplit.design import analyze

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(analyze, "measure_accuracy", stop)
        result = isplit(*command)
    assert 130 == result.code
    assert "kept" in result.err
    assert "Traceback" not in result.err
    assert 0 == isplit(*command, "--quiet").code


def test_failed_write_keeps_the_old_report(isplit, study, monkeypatch):
    """When drawing again fails half-way, the report that was there stays whole."""
    before = (study / "report.html").read_bytes()

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    result = isplit("report", study)
    assert 2 == result.code
    assert "No space left on device" in result.err
    assert before == (study / "report.html").read_bytes()
    assert {".lock", ".lock.json"} >= {path.name for path in study.iterdir() if path.name.startswith(".")}
