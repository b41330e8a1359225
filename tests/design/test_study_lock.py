"""Two writers of one study are kept apart, and the second is told who the first is."""

import os
import signal
import subprocess
import sys

import pytest

from isplit.design import study_lock as study_lock_module
from isplit.design.fit import fit, fit_task, run_fit, trained_directory
from isplit.design.predict import predict
from isplit.design.study import open_study
from isplit.design.study_lock import LockRecord, study_lock
from isplit.design.verify import verify
from isplit.errors import StudyError
from isplit.records import Budget
from isplit.report import write_report

BUDGET = Budget(payload_bytes=60)
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


@pytest.fixture
def held(study, holder_of):
    """A study whose lock another process holds."""
    holder_of(study.directory)
    return study


@pytest.fixture
def holder_of():
    """Return a function that starts a process which holds the lock of a folder, and returns it."""
    processes = []

    def hold(directory):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(directory=str(directory))], stdout=subprocess.PIPE
        )
        processes.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield hold
    for process in processes:
        process.kill()
        process.communicate()


def analyse_again(study):
    from isplit.design.analyze import analyze

    analyze(study.model, study.data, study.directory)


def fit_on_ray_again(study):
    from isplit.design.fit_on_ray import fit_on_ray
    from isplit.design.settings import FitRequest, FitSettings

    fit_on_ray(FitRequest(directory=study.directory, budget=BUDGET, settings=FitSettings()), ["pool1"])


WRITERS = {
    "analyze": analyse_again,
    "predict": lambda study: predict(study, [BUDGET], cuts=["pool1"]),
    "predict by path": lambda study: predict(study.directory, [BUDGET], cuts=["pool1"]),
    "fit": lambda study: fit(study, "pool1", BUDGET),
    "verify": lambda study: verify(study, BUDGET, cuts=["pool1", "pool2"]),
    "fit_on_ray": fit_on_ray_again,
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_writer_is_kept_apart(held, write):
    """Whatever writes into a study is refused while another process does, and nothing is written."""
    before = {path: path.stat().st_mtime_ns for path in held.directory.rglob("*")}
    with pytest.raises(StudyError, match=r"is being written by `isplit predict study` of .*: wait for it to end"):
        write(held)
    assert before == {path: path.stat().st_mtime_ns for path in held.directory.rglob("*")}


def test_readers_are_not_blocked(held):
    """The study opens and its report is drawn while another process writes into it."""
    assert held.record == open_study(held.directory, allow_code=True).record
    write_report(held.directory)


def test_two_trainings_of_one_split(study, fast, holder_of):
    """Workers that share a study, on Ray, are kept apart by the lock of the split's folder; other splits are free."""
    task = fit_task(study, "pool1", BUDGET, settings=fast(epochs=0))
    directory = trained_directory(task)
    directory.mkdir(parents=True)
    holder_of(directory)
    with pytest.raises(StudyError, match="is being written by"):
        run_fit(task)
    run_fit(fit_task(study, "pool2", BUDGET, settings=fast(epochs=0)))


def test_a_study_that_was_analysed_again_is_not_written(study):
    """What was opened before is not written into a study of other input, which is another study."""
    study.record.model_copy(update={"seed": 7}).save(study.directory)
    with pytest.raises(StudyError, match="was analysed again with other input since it was opened"):
        predict(study, [BUDGET], cuts=["pool1"])


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_no_lock_where_there_is_no_study(tmp_path, name):
    """A folder that holds no study is neither made nor written into."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyError, match="study"):
        predict(tmp_path / name, [BUDGET])
    assert ["empty"] == [path.name for path in tmp_path.rglob("*")]


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """The message says that the disk has no locks."""

    class NoLock:
        def __init__(self, *args, **kwargs):
            pass

        def acquire(self):
            raise NotImplementedError("no flock")

    monkeypatch.setattr(study_lock_module, "FileLock", NoLock)
    with pytest.raises(StudyError, match="its file system has no locks"), study_lock(tmp_path):
        pytest.fail("there is a lock")
