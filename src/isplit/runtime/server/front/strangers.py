"""Bound the processor time that peers cost which have not shown who they are.

A TLS handshake, a flood of frames and a flood of refused calls cost processor time, even if every call is refused. All
strangers together get a small share of the event loop's time, and half of the time that nobody else uses. While they
have used it up, the server reads nothing more from strangers; the kernel's buffers fill, and TCP tells them to wait.
Strangers from addresses that have cost little come before those from addresses that have cost much. Among them,
strangers that have cost little themselves come first, and then newcomers before those that have waited, so that a
rightful newcomer is not queued behind a flood. Peers with the token that wait here because their calls cost much come
last.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol

_BURST_S = 0.05
"""Time that strangers may use at once after a quiet time; some thirty handshakes take it."""
_SLICE_S = 0.001
"""Time after which strangers pause, so that a call of somebody else waits for one slice and not for a whole burst."""
_PAUSE_S = 0.001
_LATE_S = 0.01
_MAX_SQUEEZE = 8.0
LITTLE_S = 0.008
"""Time that one stranger may cost and still count as cheap; a TLS handshake and a first call take less."""
_IDLE_SHARE = 0.5
"""Share of the event loop's idle time, so that a fleet joins quickly, and a newcomer in a flood."""
_MEMORY_S = 0.1
"""Span over which the use by others is averaged."""


KNOWN_RANK = 3
"""The rank of peers with the token whose calls cost much and are not answered. They get nothing of the idle time."""


class Stranger(Protocol):
    """A peer whose bytes wait for their turn."""

    spent_s: float

    @property
    def rank(self) -> int:
        """How much its address has cost; the lowest rank comes first."""
        ...

    def work(self) -> None:
        """Process the bytes."""
        ...


class StrangerTime:
    """Distribute processor time among strangers.

    Args:
        share: The part of the event loop's time that strangers may always use.
        loop: The event loop, for its clock and timers.
        thread_time: The clock of the processor time, in seconds, that the event loop's thread has used.

    """

    def __init__(
        self,
        share: float,
        loop: asyncio.AbstractEventLoop,
        *,
        thread_time: Callable[[], float] = time.thread_time,
    ) -> None:
        self._share = share
        self._loop = loop
        self._thread_time = thread_time
        self._credit_s = _BURST_S
        self._slice_s = 0.0
        self._pause_ends_at = loop.time()
        self._refilled_at = loop.time()
        self._queue: list[tuple[int, int, int, Stranger]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._squeeze = 1.0
        self._used_s: float | None = None
        """The thread's processor time when it was read last, strangers' work left out; None before the first time."""
        self._use = 0.0
        """Share of the time that the loop spends on others than strangers."""

    def offer(self, stranger: Stranger) -> bool:
        """Do a stranger's work now if there is time for it, and return whether; otherwise queue it."""
        if not self._queue and self.has_time():
            self._do(stranger)
            return True
        spent = int(stranger.spent_s / LITTLE_S)
        heapq.heappush(self._queue, (stranger.rank, spent, -next(self._order), stranger))
        self._wait()
        return False

    def has_time(self) -> bool:
        """Say whether strangers have time left."""
        now = self._loop.time()
        elapsed_s = now - self._refilled_at
        if elapsed_s > 0:
            self._follow_use(elapsed_s)
            self._credit_s = min(_BURST_S, self._credit_s + elapsed_s * self._rate())
            self._refilled_at = now
        return self._credit_s > 0 and now >= self._pause_ends_at

    def spend(self, seconds: float) -> None:
        """Count processor time that strangers cost."""
        self._credit_s -= seconds
        self._slice_s += seconds
        if self._slice_s >= _SLICE_S:
            self._slice_s = 0.0
            self._pause_ends_at = self._loop.time() + _PAUSE_S

    def wait_s(self) -> float:
        """Return the seconds until there is time again."""
        return max(_PAUSE_S, self._pause_ends_at - self._loop.time(), -self._credit_s / self._rate())

    def close(self) -> None:
        """Drop the queued work."""
        self._queue.clear()
        if self._timer:
            self._timer.cancel()

    def _rate(self) -> float:
        is_idle_shared = not self._queue or self._queue[0][0] < KNOWN_RANK
        return max(self._share, _IDLE_SHARE * (1 - self._use) * is_idle_shared) / self._squeeze

    def _follow_use(self, elapsed_s: float) -> None:
        used_s = self._thread_time()
        use = 0.0 if self._used_s is None else min(1.0, (used_s - self._used_s) / elapsed_s)
        self._use += min(1.0, elapsed_s / _MEMORY_S) * (use - self._use)
        self._used_s = used_s

    def _do(self, stranger: Stranger) -> None:
        started_s = self._thread_time()
        stranger.work()
        spent_s = self._thread_time() - started_s
        stranger.spent_s += spent_s
        if self._used_s is not None:
            self._used_s += spent_s
        self.spend(spent_s)

    def _wait(self) -> None:
        if self._timer is None:
            due_at = self._loop.time() + self.wait_s()
            self._timer = self._loop.call_at(due_at, self._take_turns, due_at)

    def _take_turns(self, due_at: float) -> None:
        self._timer = None
        # If other processes compete for the processors, a share of wall-clock time is a larger share of the time that
        # we get.
        is_late = self._loop.time() - due_at > _LATE_S
        self._squeeze = min(_MAX_SQUEEZE, self._squeeze * 2) if is_late else max(1.0, self._squeeze * 0.95)
        while self._queue and self.has_time():
            self._do(heapq.heappop(self._queue)[3])
        if self._queue:
            self._wait()
