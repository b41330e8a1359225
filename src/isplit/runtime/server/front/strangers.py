"""Processor time for peers that have not shown who they are: a small share for all of them together.

A TLS handshake, a flood of frames or of refused calls costs processor time, whatever is refused. While the share is
used up, nothing more is read from strangers; the kernel's buffers fill, and TCP tells them to wait. Who has cost little
comes before who has cost much, and the newest before those that have waited, so that a newcomer is not queued behind
those that flood.
"""

import asyncio
import heapq
import itertools
import time
from typing import Protocol

_BURST_S = 0.05
"""What may be used at once after a time of rest: the handshakes of some thirty newcomers."""
_PAUSE_S = 0.002
_LATE_S = 0.01
_MAX_SQUEEZE = 8.0
_LITTLE_S = 0.008
"""Of one stranger: a TLS handshake and a first call take less."""
_SHARE_AT_REST = 0.5
"""Of the time while nobody else asks: a fleet that was switched on joins quickly."""
_REST_S = 1.0


class Stranger(Protocol):
    """Somebody whose bytes wait to be looked at."""

    spent_s: float

    def work(self) -> None:
        """Look at them."""
        ...


class StrangerTime:
    """Shares processor time out among strangers. `share` is of the event loop's time while others ask, too."""

    def __init__(self, share: float, loop: asyncio.AbstractEventLoop) -> None:
        self._share = share
        self._loop = loop
        self._credit_s = _BURST_S
        self._refilled_at = loop.time()
        self._queue: list[tuple[int, int, Stranger]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._squeeze = 1.0
        self.useful_at = -_REST_S
        """When a call was answered last."""

    def offer(self, stranger: Stranger) -> bool:
        """Do a stranger's work now if there is time for it, and return whether; otherwise it comes to its turn."""
        if not self._queue and self.has_time():
            self._do(stranger)
            return True
        heapq.heappush(self._queue, (int(stranger.spent_s / _LITTLE_S), -next(self._order), stranger))
        self._wait()
        return False

    def has_time(self) -> bool:
        """Say whether the share has time left."""
        now = self._loop.time()
        self._credit_s = min(_BURST_S, self._credit_s + (now - self._refilled_at) * self._rate(now))
        self._refilled_at = now
        return self._credit_s > 0

    def spend(self, seconds: float) -> None:
        """Count processor time that strangers cost."""
        self._credit_s -= seconds

    def wait_s(self) -> float:
        """Return how long it takes until there is time again."""
        return max(_PAUSE_S, -self._credit_s / self._rate(self._loop.time()))

    def close(self) -> None:
        """Drop what waits."""
        self._queue.clear()
        if self._timer:
            self._timer.cancel()

    def _rate(self, now: float) -> float:
        share = self._share if now - self.useful_at < _REST_S else max(self._share, _SHARE_AT_REST)
        return share / self._squeeze

    def _do(self, stranger: Stranger) -> None:
        started = time.thread_time()
        stranger.work()
        spent_s = time.thread_time() - started
        stranger.spent_s += spent_s
        self.spend(spent_s)

    def _wait(self) -> None:
        if self._timer is None:
            due_at = self._loop.time() + self.wait_s()
            self._timer = self._loop.call_at(due_at, self._take_turns, due_at)

    def _take_turns(self, due_at: float) -> None:
        self._timer = None
        # Where others compete for the processors, a share of the clock's time is a larger one of what we get.
        is_late = self._loop.time() - due_at > _LATE_S
        self._squeeze = min(_MAX_SQUEEZE, self._squeeze * 2) if is_late else max(1.0, self._squeeze * 0.95)
        while self._queue and self.has_time():
            self._do(heapq.heappop(self._queue)[2])
        if self._queue:
            self._wait()
