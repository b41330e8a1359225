"""The engine in this process: the right answers for every batch, and a file that cannot give them is found at once."""

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from isplit.errors import BundleError, EngineError
from isplit.runtime.providers import ProviderChoice
from isplit.runtime.server.engine import BatchCost, OnnxEngine, OnnxTail


class Counting(ThreadPoolExecutor):
    """Threads that know how often they were asked."""

    submitted = 0

    def submit(self, function, /, *arguments, **named):
        self.submitted += 1
        return super().submit(function, *arguments, **named)


@pytest.fixture
def tail(tiny):
    return OnnxTail(tiny.bundle.tail_path("stage.1"), input_shape=(4, 4, 4), outputs=5, threads=1)


@pytest.mark.parametrize("quick_rows", [0, 2, 24])
@pytest.mark.parametrize("rows", [1, 2, 24])
def test_any_batch(tiny, tail, rows, quick_rows):
    """Any number of rows gives that many answers, the same as alone, in a thread or, if it is quick, without one."""
    with Counting(1) as pool:
        engine = OnnxEngine(tail, executor=pool)
        engine.quick_rows = quick_rows
        logits = asyncio.run(engine.run(tiny.latents["stage.1"][:rows]))
    np.testing.assert_array_equal(tiny.logits[:rows], logits)
    assert (rows > quick_rows) == pool.submitted


@pytest.mark.parametrize(("row_s", "quick_rows"), [(0.00011, 4), (0.0004, 1), (0.002, 0)])
def test_quick_by_its_own_time(tail, monkeypatch, row_s, quick_rows):
    """Half a millisecond of work is quick: the time of one row says how many rows that is."""
    clock = itertools.count(step=row_s)
    monkeypatch.setattr("isplit.runtime.server.engine.time.thread_time", lambda: next(clock))

    with ThreadPoolExecutor(1) as pool:
        assert quick_rows == OnnxEngine(tail, executor=pool).quick_rows


@pytest.mark.parametrize(("threads", "clock"), [(1, "thread_time"), (2, "perf_counter")])
def test_time_of_a_batch(tiny, monkeypatch, threads, clock):
    """The processor time of one thread is measured, in which other programs do not count; of several, the time."""
    subject = OnnxTail(tiny.bundle.tail_path("stage.1"), input_shape=(4, 4, 4), outputs=5, threads=threads)
    readings = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(f"isplit.runtime.server.engine.time.{clock}", lambda: next(readings))
    assert [1.0, 2.0, 3.0] == subject.seconds(1)


@pytest.mark.parametrize(
    ("fixed_s", "row_s", "rows", "parts"),
    [
        (0.0, 1.0, 8, 4),  # 2 seconds
        (0.5, 1.0, 8, 4),  # 2 + 2
        (0.5, 1.0, 9, 3),  # 1.5 + 3; four parts, of which one has three rows: 2 + 3
        (1.0, 1.0, 8, 2),  # 2 + 4; three parts take as long
        (2.0, 1.0, 8, 2),  # 4 + 4; one part: 2 + 8
        (2.1, 1.0, 8, 1),  # 2.1 + 8; two parts save less than a fifth
        (4.0, 1.0, 8, 1),  # 4 + 8; two parts take as long
        (1.0, 0.0, 8, 1),
        (0.0, 0.0, 8, 1),
    ],
)
def test_parts_take_the_least_time(fixed_s, row_s, rows, parts):
    """Fixed parts are done one after the other, and rows side by side; of two equal times, fewer parts are taken.

    A batch stays whole if its parts do not save a fifth of its time.
    """
    assert parts == BatchCost(fixed_s=fixed_s, row_s=row_s).parts(rows, processors=4)


@pytest.mark.parametrize(("fixed_s", "row_s", "parts"), [(0.0, 1.0, 2), (1.0, 7.0, 2)])
def test_fewer_rows_than_processors(fixed_s, row_s, parts):
    """No part is empty."""
    assert parts == BatchCost(fixed_s=fixed_s, row_s=row_s).parts(2, processors=4)


def test_cost_of_a_batch(tail, monkeypatch):
    """The least times of one and of two rows say what a row adds, whatever disturbed the other measurements."""
    times = iter([[2.0, 5.0, 6.0], [3.5, 3.6, 9.0]])
    monkeypatch.setattr(tail, "seconds", lambda rows: next(times))
    with ThreadPoolExecutor(1) as pool:
        assert BatchCost(fixed_s=0.5, row_s=1.5) == OnnxEngine(tail, executor=pool).cost


@pytest.mark.parametrize(("provider", "concurrency"), [("cpu", 3), ("cuda", 1)])
def test_batches_at_once(tail, monkeypatch, provider, concurrency):
    """The processors of a CPU compute several batches at a time; another device computes one."""
    with ThreadPoolExecutor(1) as pool:
        engine = OnnxEngine(tail, executor=pool, at_once=3)
        monkeypatch.setattr(tail._session, "choice", ProviderChoice(name=provider, fallback=None))
        assert concurrency == engine.concurrency


def test_wrong_shape(tail):
    """What onnxruntime cannot compute is an error of ours, for whoever asked."""
    with ThreadPoolExecutor(1) as pool, pytest.raises(EngineError, match="shape"):
        asyncio.run(OnnxEngine(tail, executor=pool).run(np.zeros((1, 9, 9, 9), np.uint8)))


@pytest.mark.parametrize(("shape", "outputs"), [((6, 2, 2), 5), ((4, 4, 4), 6), ((64,), 5)])
def test_not_as_described(tiny, shape, outputs):
    """Another input shape or another number of classes than the file has."""
    with pytest.raises(BundleError, match="export the bundle again"):
        OnnxTail(tiny.bundle.tail_path("stage.1"), input_shape=shape, outputs=outputs, threads=1)


def test_head_for_tail(tiny):
    """A head, whose output is no float32, is no tail."""
    with pytest.raises(BundleError, match="uint8"):
        OnnxTail(tiny.bundle.head_path("stage.1"), input_shape=(8, 8, 3), outputs=5, threads=1)
