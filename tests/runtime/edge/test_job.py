"""One image's times, and the answer that becomes of it, by hand and on a clock that the test moves."""

import math

import numpy as np
import pytest

from isplit.runtime.edge import job as module
from isplit.runtime.edge.device import Wire
from isplit.runtime.edge.job import Job
from isplit.runtime.edge.transport import Reply
from isplit.runtime.providers import ProviderChoice


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands at 10 s; a test sets `clock.now_s`."""

    class Clock:
        now_s = 10.0

        def perf_counter(self):
            return self.now_s

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def a_job(*, started_s=10.0, deadline_ms=None, **fields):
    fixed = {"id": "a-0", "index": 0, "image": "a", "placement": "stage.1", "started_unix_s": 1e9}
    return Job(**fixed, deadline_ms=deadline_ms, started_s=started_s, **fields)


def test_given_by_name():
    """A job's fields are given by name."""
    with pytest.raises(TypeError):
        Job("a-0", 0, "a", "stage.1", None, 1e9)


def test_a_part(clock):
    """A part of the work is measured in milliseconds, and so is one that fails."""
    job = a_job()
    with job.timed("head_ms"):
        clock.now_s += 0.25

    def fail():
        with job.timed("encode_ms"):
            clock.now_s += 0.5
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {"head_ms": 250.0, "encode_ms": 500.0} == job.parts_ms


@pytest.mark.parametrize(("deadline_ms", "expected"), [(None, None), (500.0, 250.0), (250.0, 0.0), (125.0, -125.0)])
def test_time_that_is_left(clock, deadline_ms, expected):
    """What is left of a deadline is below zero once it has passed."""
    job = a_job(deadline_ms=deadline_ms)
    clock.now_s += 0.25
    assert expected == job.remaining_ms


@pytest.mark.parametrize(("deadline_ms", "late"), [(None, False), (250.5, False), (250.0, False), (249.5, True)])
def test_late(clock, deadline_ms, late):
    """An answer is late when it took longer than its deadline; the time counts from when the image was handed over."""
    job = a_job(deadline_ms=deadline_ms)
    clock.now_s += 0.25
    answer = job.answer(("x",))
    assert (250.0, late, deadline_ms) == (answer.timings.total_ms, answer.late, answer.deadline_ms)


@pytest.mark.parametrize(
    ("logits", "label", "probability"),
    [
        ([0.0, 0.0], 0, 0.5),
        ([1.0, 1.0 + math.log(3)], 1, 0.75),
        ([-3e38, 3e38], 1, 1.0),
        ([-1000.0, -1000.0], 0, 0.5),
    ],
)
def test_probability(logits, label, probability):
    """The answer is the first largest logit, with its softmax, whatever the logits' size."""
    answer = a_job(logits=np.array(logits, np.float32), source="split").answer(("x", "y"))
    assert (label, "xy"[label]) == (answer.label, answer.class_name)
    assert probability == pytest.approx(answer.probability)


def test_no_answer():
    """Without logits there is no label; the reasons are kept in their order."""
    job = a_job()
    job.failed("first")
    job.failed("second")
    answer = job.answer(("x",))
    assert ("failed", None, None, None) == (answer.source, answer.label, answer.class_name, answer.probability)
    assert ("first; second", None, None, 0) == (answer.reason, answer.payload_bytes, answer.provider, answer.attempts)


@pytest.mark.parametrize(
    ("round_trip_ms", "server_ms", "wire_ms"),
    [(10.0, 4.0, 6.0), (10.0, None, 10.0), (10.0, 12.0, 0.0), (1.5, 0.0, 1.5)],
)
def test_the_wire(round_trip_ms, server_ms, wire_ms):
    """The wire took what the server did not, and no less than nothing."""
    job = a_job(wire=Wire(tensor="payload", content=b"abc", shape=(1,)), ran_on=ProviderChoice(name="cpu"))
    reply = Reply(id="", logits=np.zeros(1, np.float32), server_ms=server_ms, batch_size=1, provider="cuda\udcff")
    job.heard(reply, round_trip_ms=round_trip_ms)
    answer = job.answer(("x",))
    assert (wire_ms, server_ms, 1, 3) == (
        *(answer.timings.wire_ms, answer.timings.server_ms),
        *(answer.server_batch, answer.payload_bytes),
    )
    assert ("cpu", None, "cuda\\xff") == (answer.provider, answer.provider_fallback, answer.server_provider)


@pytest.mark.parametrize("reported_ms", [math.inf, math.nan, -0.5])
def test_durations_that_are_none(reported_ms):
    """What can be no duration is left out."""
    job = a_job()
    job.heard(Reply(id="", logits=np.zeros(1, np.float32), queue_ms=reported_ms), round_trip_ms=1.0)
    assert job.parts_ms["server_queue_ms"] is None


@pytest.mark.parametrize(("batch", "expected"), [(None, None), (-1, None), (0, None), (1, 1), (7, 7)])
def test_batch(batch, expected):
    """A batch has at least one image, or its size is not known."""
    job = a_job()
    job.heard(Reply(id="", logits=np.zeros(1, np.float32), batch_size=batch), round_trip_ms=1.0)
    assert expected == job.server_batch
