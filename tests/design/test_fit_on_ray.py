"""Several cuts on Ray."""

import contextlib
import os
import signal
import sys
import threading
import time

import pytest

from isplit.design.fit import fit_task, run_fit
from isplit.design.fit_on_ray import FitRequest, fit_on_ray
from isplit.errors import InputError, MissingExtraError
from isplit.records import Budget, SplitRecord

BUDGET = Budget(payload_bytes=30)
CUTS = ["relu1", "pool1", "pool2"]


@pytest.fixture
def sweep(study, fast):
    return FitRequest(directory=study.directory, budget=BUDGET, settings=fast(epochs=1), allow_code=True)


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of one processor, so that cuts are trained one after the other."""
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def workers():
    """Return the processes of this test's cluster that train, by number: children of our own child, the raylet."""
    import psutil

    training = []
    for child in psutil.Process().children(recursive=True):
        # Ray ends its helpers at any time, and a process that has just ended has no command line.
        with contextlib.suppress(psutil.NoSuchProcess):
            if "fit_one" in " ".join(child.cmdline()[:1]):
                training.append(child.pid)
    return training


def kill_second(directory, killed):
    """Kill the worker as soon as one cut is finished and it has begun the next."""
    for _ in range(3000):
        finished = list(directory.glob("splits/*/split.json"))
        if finished and (pids := workers()):
            killed.append((finished[0], finished[0].stat().st_mtime_ns))
            os.kill(pids[0], signal.SIGKILL)
            return
        time.sleep(0.02)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.ray
def test_lost_worker(study, sweep, cluster):
    """A worker that is killed loses no finished cut, and the cut it was at is trained by another."""
    killed = []
    killer = threading.Thread(target=kill_second, args=(study.directory, killed))
    killer.start()
    records = fit_on_ray(sweep, CUTS, threads=1)
    killer.join()
    assert CUTS == [record.cut for record in records]
    ((path, changed),) = killed
    assert changed == path.stat().st_mtime_ns
    assert 3 == len(list(study.directory.glob("splits/*/split.json")))
    # The same as without Ray, but for how long it took.
    again = run_fit(fit_task(study, "pool1", BUDGET, settings=sweep.settings), directory=study.directory / "here")
    assert again.measurement == records[1].measurement
    # What a task refuses is said here as it was said there.
    with pytest.raises(InputError, match="has no cut 'pool9'"):
        fit_on_ray(sweep, ["pool9"], threads=1)
    assert records == [SplitRecord.load(next(study.directory.glob(f"splits/*{cut}@*"))) for cut in CUTS]


@pytest.mark.ray
def test_no_cluster_there(sweep):
    """An address where nothing listens is refused at once."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    with pytest.raises(InputError, match="ray start --head"):
        fit_on_ray(sweep, CUTS, address="127.0.0.1:9")


def test_without_ray(sweep, monkeypatch):
    """Without the extra, the message says which to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"isplit\[ray\]"):
        fit_on_ray(sweep, CUTS)
