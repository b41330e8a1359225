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


@pytest.mark.parametrize(("use", "share"), [(0.0, 0.5), (0.4, 0.3), (0.9, 0.1), (1.0, 0.1)])
def test_share(loop, use, share):
    """Strangers get half of the time that the loop does not use for others, and never less than their share."""
    strangers = StrangerTime(0.1, loop, thread_time=lambda: use * (loop.now - 100))
    for _ in range(100):  # until the average has followed
        loop.now += 0.05
        strangers.has_time()
    strangers.spend(10.0)
    wait_s = strangers.wait_s()
    assert (10 - 0.05) / share == pytest.approx(wait_s, rel=1e-3)
    loop.now += 0.999 * wait_s
    assert not strangers.has_time()
    loop.now += 0.002 * wait_s
    assert strangers.has_time()


def test_share_of_known_peers(loop):
    """Peers with the token that wait because of what they cost get the least share, until a stranger comes."""
    strangers, log = StrangerTime(0.1, loop, thread_time=lambda: 0.0), []
    strangers.spend(10.0)
    strangers.offer(Worker(log, "known", rank=KNOWN_RANK))
    assert (10 - 0.05) / 0.1 == pytest.approx(strangers.wait_s(), rel=1e-3)
    strangers.offer(Worker(log, "stranger", rank=2))
    assert (10 - 0.05) / 0.5 == pytest.approx(strangers.wait_s(), rel=1e-3)


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
    strangers.spend(10.0)
    assert 10.0 / 0.5 == pytest.approx(strangers.wait_s(), rel=0.01)


def test_order(loop):
    """Whoever has cost little comes before whoever has cost much, first by address, and the newest among equals."""
    strangers, log = StrangerTime(0.1, loop), []
    strangers.spend(1.0)
    for name, spent_s in (("costly", 0.5), ("old", 0.0), ("new", 0.001)):
        assert not strangers.offer(Worker(log, name, spent_s=spent_s))
    assert not strangers.offer(Worker(log, "of a costly address", rank=1))
    loop.advance(30)
    assert ["new", "old", "costly", "of a costly address"] == log


def test_squeezed(loop):
    """When the event loop itself is late, strangers get less than their share."""
    strangers, log = StrangerTime(0.5, loop), []
    strangers.spend(0.1)
    strangers.offer(Worker(log, "a"))
    when, function, arguments = loop.timers.pop()
    loop.now = when + 1.0  # a second late
    function(*arguments)
    strangers.spend(1.0)
    at_ease = StrangerTime(0.5, loop)
    at_ease.spend(1.0)
    assert strangers.wait_s() > 1.9 * at_ease.wait_s()


def test_closed(loop):
    """What waits is dropped on closing."""
    strangers, log = StrangerTime(0.1, loop), []
    strangers.spend(1.0)
    strangers.offer(Worker(log, "a"))
    strangers.close()
    loop.advance(60)
    assert [] == log
