"""A request's attempts, on a transport that follows a script and a clock that moves with it."""

import numpy as np
import pytest

from isplit.runtime.edge.policy import BreakerSettings, Retry
from isplit.runtime.edge.sender import GaveUpError, Sender
from isplit.runtime.edge.transport import STATUSES, Reply, Request, TransportError

RETRYABLE = ["ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "UNKNOWN"]
FATAL = sorted(STATUSES - set(RETRYABLE))
REQUEST = Request(id="a-0", model="tiny.stage.1", tensor="payload", content=b"abc", shape=(1,))


class World:
    """A clock, and a transport whose every call takes the next step of a script: (ms, a status or "ok" or an id)."""

    def __init__(self, *steps):
        self.now_ms = 60_000.0  # a clock begins anywhere
        self.steps = list(steps)
        self.timeouts_ms = []
        self.waits_ms = []
        self.requests = []
        self.is_closed = False

    def infer(self, request, *, timeout_s):
        self.requests.append(request)
        self.timeouts_ms.append(round(timeout_s * 1000, 6))
        takes_ms, outcome = self.steps.pop(0)
        self.now_ms += takes_ms
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome in STATUSES:
            raise TransportError(outcome, "scripted")
        return Reply(id=request.id if outcome == "ok" else outcome, logits=np.zeros(5, np.float32))

    def close(self):
        self.is_closed = True

    def wait(self, seconds):
        self.waits_ms.append(round(seconds * 1000, 6))
        self.now_ms += seconds * 1000
        return False

    def sender(self, **options):
        chosen = {
            "retry": Retry(attempts=4, first_ms=20, max_ms=50),
            "breaker": BreakerSettings(failures=3, open_ms=100, max_open_ms=100),
            "attempt_timeout_ms": 1000.0,
        }
        return Sender(self, **(chosen | options), clock=lambda: self.now_ms / 1000, wait=self.wait, draw=lambda: 0.5)


def test_answered():
    """A reply comes back with its round trip, and nothing was lost."""
    world = World((7, "ok"))
    sent = world.sender().send(REQUEST, budget_ms=None)
    assert (1, 7, 0) == (sent.attempts, pytest.approx(sent.round_trip_ms), sent.retry_ms)
    assert [1000] == world.timeouts_ms
    assert [REQUEST] == world.requests


def test_the_last_of_a_budget():
    """Half a millisecond is enough to ask once; nothing is not."""
    world = World((0, "ok"))
    assert 1 == world.sender().send(REQUEST, budget_ms=0.5).attempts
    assert [0.5] == world.timeouts_ms
    with pytest.raises(GaveUpError, match="no time left") as gave_up:
        world.sender().send(REQUEST, budget_ms=0.0)
    assert (0, 0) == (gave_up.value.attempts, gave_up.value.retry_ms)


@pytest.mark.parametrize(("budget_ms", "expected"), [(None, 1000), (1500, 1000), (1000, 1000), (999, 999)])
def test_an_attempts_own_limit(budget_ms, expected):
    """No attempt takes longer than its own limit, or than the budget."""
    world = World((1, "ok"))
    world.sender().send(REQUEST, budget_ms=budget_ms)
    assert [expected] == world.timeouts_ms


@pytest.mark.parametrize("status", RETRYABLE)
def test_retried(status):
    """After a status that may pass, the same request is sent again, after 10 and then 20 ms."""
    world = World((3, status), (4, status), (5, "ok"))
    sent = world.sender(breaker=BreakerSettings(failures=9)).send(REQUEST, budget_ms=None)
    assert [10, 20] == world.waits_ms
    assert [REQUEST] * 3 == world.requests
    assert (3, 5, 37) == (sent.attempts, pytest.approx(sent.round_trip_ms), pytest.approx(sent.retry_ms))


@pytest.mark.parametrize("status", FATAL)
def test_refused(status):
    """A refusal is not argued with, and the server that refuses is there: the breaker stays closed."""
    world = World(*[(3, status)] * 5)
    sender = world.sender()
    for _ in range(5):
        with pytest.raises(GaveUpError, match=f"{status}: scripted") as gave_up:
            sender.send(REQUEST, budget_ms=None)
        assert (1, status) == (gave_up.value.attempts, gave_up.value.status)
    assert "closed" == sender.state(REQUEST.model)


def test_attempts_used_up():
    """After four attempts the last failure is the reason."""
    world = World((1, "UNAVAILABLE"), (1, "UNAVAILABLE"), (1, "UNAVAILABLE"), (1, "INTERNAL"))
    with pytest.raises(GaveUpError, match="INTERNAL") as gave_up:
        world.sender(breaker=BreakerSettings(failures=9)).send(REQUEST, budget_ms=None)
    assert (4, "INTERNAL") == (gave_up.value.attempts, gave_up.value.status)
    assert 4 + 10 + 20 + 25 == pytest.approx(gave_up.value.retry_ms)  # the third wait is half of 50, the largest


def test_budget_limits_attempts():
    """An attempt gets what is left of the budget, and no wait begins that would use it up."""
    world = World((30, "UNAVAILABLE"), (12, "UNAVAILABLE"))
    with pytest.raises(GaveUpError, match="UNAVAILABLE") as gave_up:
        world.sender().send(REQUEST, budget_ms=60)
    assert [60, 20] == world.timeouts_ms  # 60 - 30 - 10
    assert [10] == world.waits_ms  # the next would be 20, of 8 left
    assert 2 == gave_up.value.attempts


def test_budget_of_a_patient_caller():
    """What is left is exact to the millisecond, however long the attempts took: a wait of 10 of 10.5 ms is begun."""
    world = World((50_000, "UNAVAILABLE"), (0, "ok"))
    assert 2 == world.sender(attempt_timeout_ms=90_000.0).send(REQUEST, budget_ms=50_010.5).attempts
    assert [50_010.5, 0.5] == world.timeouts_ms


def test_no_budget():
    """With no time left nothing is sent, and the breaker does not hear of it."""
    world = World()
    with pytest.raises(GaveUpError, match="no time left") as gave_up:
        world.sender().send(REQUEST, budget_ms=-1)
    assert (0, None) == (gave_up.value.attempts, gave_up.value.status)


def test_circuit_opens_and_closes():
    """The third failure in a row stops this and other requests at once; the first after 100 ms is a probe."""
    world = World(*[(1, "UNAVAILABLE")] * 3, (1, "ok"), (1, "ok"))
    sender = world.sender()
    with pytest.raises(GaveUpError, match="circuit open: UNAVAILABLE") as gave_up:
        sender.send(REQUEST, budget_ms=None)
    assert (3, "UNAVAILABLE") == (gave_up.value.attempts, gave_up.value.status)
    with pytest.raises(GaveUpError, match="circuit open: UNAVAILABLE: scripted") as gave_up:
        sender.send(REQUEST, budget_ms=None)
    assert (0, None) == (gave_up.value.attempts, gave_up.value.status)
    world.now_ms += 100
    assert 1 == sender.send(REQUEST, budget_ms=None).attempts
    assert "closed" == sender.state(REQUEST.model)


def test_a_breaker_for_each_model():
    """That one model times out does not keep requests from another."""
    world = World(*[(1, "DEADLINE_EXCEEDED")] * 3, (1, "ok"))
    sender = world.sender()
    with pytest.raises(GaveUpError):
        sender.send(REQUEST, budget_ms=None)
    other = Request(id="a-1", model="tiny.remote", tensor="image", content=b"", shape=(1,))
    assert 1 == sender.send(other, budget_ms=None).attempts
    assert ("open", "closed") == (sender.state(REQUEST.model), sender.state(other.model))


def test_late_answer_to_another_request_is_dropped():
    """An answer with another request's id is no answer: it is dropped, and the request sent again."""
    world = World((1, "a-99"), (1, "ok"))
    sent = world.sender().send(REQUEST, budget_ms=None)
    assert ("a-0", 2) == (sent.reply.id, sent.attempts)


def test_answer_without_an_id():
    """Servers that do not repeat the id are believed: a call has one answer."""
    assert "" == World((1, "")).sender().send(REQUEST, budget_ms=None).reply.id


def test_a_fault_is_reported_to_the_breaker():
    """Whatever ends a probe, the breaker hears of it: it never waits for a probe that is gone."""
    world = World(*[(1, "UNAVAILABLE")] * 3, (1, KeyboardInterrupt()), (1, "ok"))
    sender = world.sender()
    with pytest.raises(GaveUpError):
        sender.send(REQUEST, budget_ms=None)
    world.now_ms += 100
    with pytest.raises(KeyboardInterrupt):
        sender.send(REQUEST, budget_ms=None)
    assert "open" == sender.state(REQUEST.model)
    world.now_ms += 100
    assert 1 == sender.send(REQUEST, budget_ms=None).attempts


def test_close():
    """Closing closes the transport, and nothing is tried again."""
    world = World((1, "CANCELLED"))
    sender = world.sender()
    sender.close()
    assert world.is_closed
    with pytest.raises(GaveUpError, match="CANCELLED") as gave_up:
        sender.send(REQUEST, budget_ms=None)
    assert 1 == gave_up.value.attempts
