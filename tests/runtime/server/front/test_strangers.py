"""Processor time for strangers, on a clock that the test moves."""

import time

import pytest

from isplit.runtime.server.front.strangers import KNOWN_RANK, StrangerTime


class Loop:
    """An event loop's clock and timers."""

    def __init__(self):
        self.now = 100.0
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, when, function, *arguments):
        self.timers.append((when, function, arguments))
        return self

    def cancel(self):
        self.timers.clear()

    def advance(self, seconds):
        end = self.now + seconds
        while self.timers and (due := min(self.timers, key=lambda timer: timer[0]))[0] <= end:
            self.timers.remove(due)
            self.now = max(self.now, due[0])
            due[1](*due[2])
        self.now = end


class Worker:
    def __init__(self, log, name, *, spent_s=0.0, busy_s=0.0, rank=0):
        self.log, self.name, self.spent_s, self.busy_s, self.rank = log, name, spent_s, busy_s, rank

    def work(self):
        self.log.append(self.name)
        end = time.thread_time() + self.busy_s
        while time.thread_time() < end:
            pass


@pytest.fixture
def loop():
    return Loop()


def test_at_once(loop):
    """While there is time, work is done where it is offered, and what it took is counted."""
    strangers, log = StrangerTime(0.1, loop), []
    worker = Worker(log, "a", busy_s=0.002)
    assert strangers.offer(worker)
    assert ["a"] == log
    assert worker.spent_s >= 0.002


@pytest.mark.parametrize(
    ("rank", "use", "share"),
    [
        (0, 0.0, 0.5),
        (0, 0.4, 0.3),
        (0, 0.95, 0.03),
        (0, 1.0, 0.03),
        (1, 0.0, 0.5),
        (1, 1.0, 0.02),
        (2, 0.0, 0.5),
        (KNOWN_RANK, 0.0, 0.03),
    ],
)
def test_share(loop, rank, use, share):
    """Each rank gets its part of the share, and strangers a share of the time that others leave."""
    strangers = StrangerTime(0.1, loop, thread_time=lambda: use * (loop.now - 100))
    for _ in range(100):  # until the average has followed
        loop.now += 0.05
        strangers.has_time(rank)
    strangers.spend(10.0, rank=rank)
    wait_s = strangers.wait_s(rank)
    assert (10 - 0.05) / share == pytest.approx(wait_s, rel=1e-3)
    loop.now += 0.999 * wait_s
    assert not strangers.has_time(rank)
    loop.now += 0.002 * wait_s
    assert strangers.has_time(rank)


@pytest.mark.parametrize("rank", [1, 2, KNOWN_RANK])
def test_newcomers_do_not_wait_for_what_others_cost(loop, rank):
    """A stranger of an address that has cost nothing is served while peers of other ranks wait."""
    strangers, log = StrangerTime(0.1, loop), []
    strangers.spend(100.0, rank=rank)
    assert not strangers.offer(Worker(log, "costly", rank=rank))
    loop.now += 0.01  # the pause after a slice of work
    assert strangers.offer(Worker(log, "newcomer"))
    assert ["newcomer"] == log


def test_a_newcomer_is_woken_first(loop):
    """Who waits for the end of a pause only is served then, though somebody else waits for hours."""
    strangers, log = StrangerTime(0.1, loop), []
    strangers.spend(1000.0, rank=KNOWN_RANK)
    strangers.offer(Worker(log, "costly", rank=KNOWN_RANK))
    assert not strangers.offer(Worker(log, "newcomer"))  # this is a pause
    loop.advance(0.01)
    assert ["newcomer"] == log


def test_rank_that_rose_while_it_waited(loop):
    """A stranger whose address has cost much meanwhile waits for the time of its new rank."""
    strangers, log = StrangerTime(0.1, loop), []
    strangers.spend(0.06, rank=0)
    strangers.spend(1000.0, rank=2)
    rising = Worker(log, "rising")
    strangers.offer(rising)
    rising.rank = 2
    loop.advance(10)
    assert [] == log


def test_strangers_work_is_no_use_by_others(loop):
    """The time that strangers cost themselves does not lower their share."""
    clock = [0.0]
    strangers = StrangerTime(0.1, loop, thread_time=lambda: clock[0])

    class Costly:
        spent_s, rank = 0.0, 0

        def work(self):
            clock[0] += 0.04

    for _ in range(50):
        loop.now += 0.1
        assert strangers.offer(Costly())
    strangers.spend(10.0, rank=0)
    assert 10.0 / 0.5 == pytest.approx(strangers.wait_s(0), rel=0.01)


def test_order(loop):
    """Of one rank, who has cost little comes before who has cost much; of equals the newest and the oldest in turn."""
    strangers, log = StrangerTime(0.1, loop), []
    strangers.spend(1.0, rank=0)
    for name, spent_s in (("costly", 0.5), ("oldest", 0.0), ("older", 0.001), ("newer", 0.0), ("newest", 0.001)):
        assert not strangers.offer(Worker(log, name, spent_s=spent_s))
    loop.advance(30)
    assert ["newest", "oldest", "newer", "older", "costly"] == log


def test_work_that_fails(loop):
    """A fault in the work of one shows, and the others that wait are served all the same."""
    strangers, log = StrangerTime(0.1, loop), []

    class Broken(Worker):
        def work(self):
            raise RuntimeError

    strangers.spend(0.1, rank=0)
    strangers.offer(Worker(log, "a"))
    strangers.offer(Broken(log, "newest"))
    with pytest.raises(RuntimeError):
        loop.advance(30)
    loop.advance(30)
    assert ["a"] == log


def test_squeezed(loop):
    """When the event loop itself is late, strangers get less than their share."""
    strangers, log = StrangerTime(0.5, loop), []
    strangers.spend(0.1, rank=0)
    strangers.offer(Worker(log, "a"))
    when, function, arguments = loop.timers.pop()
    loop.now = when + 1.0  # a second late
    function(*arguments)
    strangers.spend(1.0, rank=0)
    at_ease = StrangerTime(0.5, loop)
    at_ease.spend(1.0, rank=0)
    assert strangers.wait_s(0) > 1.9 * at_ease.wait_s(0)


def test_closed(loop):
    """What waits is dropped on closing."""
    strangers, log = StrangerTime(0.1, loop), []
    strangers.spend(1.0, rank=0)
    strangers.offer(Worker(log, "a"))
    strangers.close()
    loop.advance(60)
    assert [] == log
