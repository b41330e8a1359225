"""Two writers of one study are kept apart, and the second is told who the first is."""

import os
import signal
import subprocess
import sys

import pytest

from isplit.design.study_lock import LockRecord, study_lock
from isplit.errors import StudyError

HOLD = """
import sys, time
from pathlib import Path
from isplit.design.study_lock import study_lock
sys.argv = ["isplit", "predict", "study"]
with study_lock(Path({directory!r})):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD.format(directory=str(tmp_path))], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_second_process_is_refused_by_name(tmp_path, holder):
    """The message has the command and the number of the process."""
    says = rf"written by `isplit predict study` of \S+ \(process {holder.pid} on "
    with pytest.raises(StudyError, match=says), study_lock(tmp_path):
        pytest.fail("the lock was given twice")


def test_a_killed_holder_leaves_no_lock(tmp_path, holder):
    """The operating system lets go, and what the record says of the dead process means nothing."""
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with study_lock(tmp_path):
        assert os.getpid() == LockRecord.load(tmp_path).process


def test_the_same_process_may_take_it_again(tmp_path):
    """As `verify` does, which predicts; after the inner block it is still held."""
    with study_lock(tmp_path):
        with study_lock(tmp_path):
            pass
        refused = subprocess.run(
            [sys.executable, "-c", HOLD.format(directory=str(tmp_path))], capture_output=True, text=True, check=False
        )
    assert f"process {os.getpid()} on " in refused.stderr
    with study_lock(tmp_path):
        pass
