"""What is asked of a server, how long it gets, and what is learned from what it does: its sender follows a script."""

from types import SimpleNamespace

import numpy as np
import pytest

from isplit.errors import ServerError
from isplit.runtime.edge.device import Wire
from isplit.runtime.edge.job import Job
from isplit.runtime.edge.reserve import Reserve
from isplit.runtime.edge.sender import GaveUpError, Sent
from isplit.runtime.edge.server_side import CHECK_MS, ServerSide
from isplit.runtime.edge.transport import Reply

RECORD = SimpleNamespace(
    name="tiny",
    group=SimpleNamespace(classes=("x", "y")),
    remote=SimpleNamespace(file="whole.onnx"),
    cut=lambda name: SimpleNamespace(tail=f"{name}.tail.onnx"),
    files={
        "whole.onnx": SimpleNamespace(sha256="w"),
        "a.tail.onnx": SimpleNamespace(sha256="a"),
        "b.tail.onnx": SimpleNamespace(sha256="b"),
    },
)
WIRE = Wire(tensor="payload", content=b"abc", shape=(1,))
LOGITS = np.array([0, 1], np.float32)


class Sender:
    """Gives what the script says: logits, or a status, after so many milliseconds; keeps requests and budgets."""

    def __init__(self, clock, *script):
        self.clock, self.script = clock, list(script)
        self.requests, self.budgets_ms, self.closed = [], [], False

    def send(self, request, *, budget_ms):
        self.requests.append(request)
        self.budgets_ms.append(budget_ms)
        takes_ms, outcome, attempts = self.script.pop(0)
        self.clock.now_ms += takes_ms
        if isinstance(outcome, str) or outcome is None:
            raise GaveUpError(str(outcome), attempts=attempts, retry_ms=takes_ms, status=outcome)
        return Sent(reply=Reply(id="", logits=outcome), attempts=attempts, round_trip_ms=5.0, retry_ms=7.0)

    def state(self, model):
        return f"state of {model}"

    def close(self):
        self.closed = True


class Clock:
    now_ms = 0.0


class TimedJob(Job):
    """A job whose deadline is on the test's clock."""

    clock = None

    @property
    def remaining_ms(self):
        return None if self.deadline_ms is None else self.deadline_ms - self.clock.now_ms


def ask(server, clock, *, deadline_ms=None, placement="a"):
    clock.now_ms = 0.0
    job = TimedJob(id="1", index=0, image="i", placement=placement, deadline_ms=deadline_ms, started_unix_s=0.0)
    job.clock = clock
    server.ask(job, WIRE)
    return job


def side(*script, reserve=None):
    clock = Clock()
    sender = Sender(clock, *script)
    return ServerSide(sender, RECORD, reserve=reserve), sender, clock


def known(local_ms):
    """A reserve that holds back so much, and 7 ms for the timer and the margin."""
    reserve = Reserve()
    for _ in range(128):
        reserve.note_local(local_ms / (1 + 0.5 / 128))
    assert local_ms + 7 == pytest.approx(reserve.held_back_ms())
    return reserve


@pytest.mark.parametrize(("placement", "source"), [("a", "split"), ("remote", "remote")])
def test_answered(placement, source):
    """A reply becomes the job's logits; what earlier attempts took is kept where there were some."""
    server, sender, clock = side((3, LOGITS, 1), (3, LOGITS, 2))
    first, second = (ask(server, clock, placement=placement) for _ in range(2))
    assert [source] * 2 == [first.source, second.source]
    assert [1, 2] == [first.attempts, second.attempts]
    assert (None, 7.0) == (first.parts_ms.get("retry_ms"), second.parts_ms.get("retry_ms"))
    assert (5.0, [0.0, 1.0]) == (first.parts_ms["wire_ms"], first.logits.tolist())
    assert [None, None] == sender.budgets_ms
    (request, _) = sender.requests
    assert ("1", f"tiny.{placement}", "payload", b"abc", (1,), None) == (
        *(request.id, request.model, request.tensor, request.content, request.shape, request.model_sha256),
    )


@pytest.mark.parametrize(("attempts", "retry_ms"), [(0, None), (1, 3), (2, 3)])
def test_given_up(attempts, retry_ms):
    """Why there is no reply is the job's reason, and what the attempts took is kept where there were some."""
    server, _, clock = side((3, "UNAVAILABLE", attempts))
    job = ask(server, clock)
    assert ("UNAVAILABLE", None, attempts, retry_ms) == (
        *(job.reason, job.logits, job.attempts),
        job.parts_ms.get("retry_ms"),
    )


def test_a_fallback_is_held_back_for():
    """Of 100 ms the server gets what a fallback of 20, the timer and the margin leave; without a fallback, all."""
    server, sender, clock = side((1, LOGITS, 1), reserve=known(20))
    ask(server, clock, deadline_ms=100)
    assert [pytest.approx(73)] == sender.budgets_ms
    server, sender, clock = side((1, LOGITS, 1))
    ask(server, clock, deadline_ms=100)
    assert [100] == sender.budgets_ms


def test_a_late_timer_is_learned():
    """How long after its budget a request was given up is held back the next time; one that ended early is not."""
    reserve = known(20)
    server, sender, clock = side((85, "DEADLINE_EXCEEDED", 1), (10, "UNAVAILABLE", 1), (1, LOGITS, 1), reserve=reserve)
    ask(server, clock, deadline_ms=100)  # a budget of 73, ended after 85: 12 too late
    assert 20 + 12 + 1 == pytest.approx(reserve.held_back_ms())
    ask(server, clock, deadline_ms=100)
    ask(server, clock, deadline_ms=100)
    assert [pytest.approx(value) for value in (73, 67, 67)] == sender.budgets_ms


def test_a_timer_that_is_hardly_late_is_learned():
    """After as many good measurements, the first guess and the margin are all that is left of caution."""
    reserve = known(20)
    server, _, clock = side(*[(73.5, "DEADLINE_EXCEEDED", 1)] * 127, (85, "DEADLINE_EXCEEDED", 1), reserve=reserve)
    for _ in range(127):
        clock.now_ms = 0.0
        budget_ms = 100 - reserve.held_back_ms()
        server._sender.script[0] = (budget_ms + 0.5, "DEADLINE_EXCEEDED", 1)
        ask(server, clock, deadline_ms=100)
    assert 20 + 0.5 + 1 == pytest.approx(reserve.held_back_ms())


@pytest.mark.parametrize("deadline_ms", [None, 100])
def test_nothing_is_learned_without_a_deadline_or_a_fallback(deadline_ms):
    """Without a deadline no timer is late, and without a fallback nobody asks."""
    reserve = known(20) if deadline_ms is None else None
    server, _, clock = side((5000, "DEADLINE_EXCEEDED", 1), reserve=reserve)
    assert ask(server, clock, deadline_ms=deadline_ms).reason == "DEADLINE_EXCEEDED"
    assert reserve is None or 27 == pytest.approx(reserve.held_back_ms())


def test_a_server_that_timed_out_gets_the_rest():
    """A server gets everything where the fallback takes most of it, until it times out, and again once it answers."""
    outcomes = [(100, "DEADLINE_EXCEEDED", 1), (1, "UNAVAILABLE", 1), (1, LOGITS, 1), (1, LOGITS, 1)]
    server, sender, clock = side(*outcomes, reserve=known(60))
    for _ in range(4):
        ask(server, clock, deadline_ms=100)
    assert [pytest.approx(value) for value in (100, 33, 33, 100)] == sender.budgets_ms


def test_each_placement_is_trusted_for_itself():
    """That one placement timed out says nothing of another, which may send a tenth of the bytes."""
    server, sender, clock = side((100, "DEADLINE_EXCEEDED", 1), (1, LOGITS, 1), (1, LOGITS, 1), reserve=known(60))
    for placement in ("a", "b", "a"):
        ask(server, clock, deadline_ms=100, placement=placement)
    assert [pytest.approx(value) for value in (100, 100, 33)] == sender.budgets_ms


def test_other_failures_are_no_doubt():
    """A server that refuses or is gone fails at once, and costs no time: it goes on having everything."""
    server, sender, clock = side((1, "UNAVAILABLE", 4), (1, "NOT_FOUND", 1), (1, None, 0), reserve=known(60))
    for _ in range(3):
        ask(server, clock, deadline_ms=100)
    assert [100] * 3 == sender.budgets_ms


def test_every_hundredth_image_gives_everything():
    """In doubt, the hundredth image gives the server everything again; one that was not sent does not count as one."""
    outcomes = [(100, "DEADLINE_EXCEEDED", 1), *[(1, None, 0)] * 99]
    outcomes += [(1, None, 0), (100, "DEADLINE_EXCEEDED", 1), (1, None, 0)]
    server, sender, clock = side(*outcomes, reserve=known(60))
    for _ in outcomes:
        ask(server, clock, deadline_ms=100)
    budgets = [round(budget) for budget in sender.budgets_ms]
    assert [100, *[33] * 99, 100, 100, 33] == budgets


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        (np.zeros(3, np.float32), "gives 3 logits, this bundle has 2 classes: it serves another bundle"),
        (np.zeros(1, np.float32), "gives 1 logits"),
        (np.array([0, np.nan], np.float32), "gives logits that are not finite"),
    ],
)
def test_replies_that_are_none(logits, words):
    """Logits that cannot be this bundle's are no answer, to an image or to a check."""
    server, _, clock = side((1, logits, 1), (1, logits, 1))
    job = ask(server, clock)
    assert ("failed", None) == (job.source, job.logits)
    assert words in job.reason
    with pytest.raises(ServerError, match=r"the server cannot be used for tiny\.a: the server's tiny\.a gives"):
        server.check("a", WIRE)


def test_check():
    """A check says which file is meant, and has ten seconds."""
    server, sender, _ = side(*[(1, LOGITS, 1)] * 3)
    for placement in ("a", "b", "remote"):
        server.check(placement, WIRE)
    assert ["a", "b", "w"] == [request.model_sha256 for request in sender.requests]
    assert [10_000.0] * 3 == sender.budgets_ms == [CHECK_MS] * 3


@pytest.mark.parametrize(
    ("status", "words"),
    [("UNAVAILABLE", r": UNAVAILABLE; is `isplit serve` running there"), ("ABORTED", ": ABORTED$"), (None, ": None$")],
)
def test_check_that_fails(status, words):
    """What a check failed with is said, and what to do about it where there is something."""
    server, _, _ = side((1, status, 1))
    with pytest.raises(ServerError, match=r"^the server cannot be used for tiny\.a" + words):
        server.check("a", WIRE)


def test_the_rest():
    """State and closing are the sender's."""
    server, sender, _ = side()
    assert "state of tiny.b" == server.state("b")
    server.close()
    assert sender.closed


def test_a_timer_that_is_on_time_is_no_late_one():
    """Only what came after the budget's end is noted: not a failure at its very end, and none before it."""
    noted = []

    class Noting(Reserve):
        def note_lateness(self, elapsed_ms):
            noted.append(elapsed_ms)

    reserve = Noting()
    reserve.note_local(36.0)  # the server may take 64 - 36 * 1.5 - 5 - 2 ms
    budget_ms = 128.0 - reserve.held_back_ms()
    takes_ms = (budget_ms, budget_ms - 1, budget_ms + 4)
    server, sender, clock = side(*[(ms, "DEADLINE_EXCEEDED", 1) for ms in takes_ms], reserve=reserve)
    for _ in takes_ms:
        ask(server, clock, deadline_ms=128.0)

    assert [budget_ms] * 3 == sender.budgets_ms
    assert [4.0] == noted
