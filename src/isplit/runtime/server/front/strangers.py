"""Bound the processor time that peers cost which have not shown who they are.

A TLS handshake, a flood of frames and a flood of refused calls cost processor time, even if every call is refused. All
strangers together get a small share of the event loop's time, and up to half of the time that nobody else uses. While
they have used it up, the server reads nothing more from strangers; the kernel's buffers fill, and TCP tells them to
wait. Peers with the token that wait here because their calls cost much are treated in the same way.

The share is divided by how much the addresses of the peers have cost, and each part has an account of its own. A
newcomer from an address that has cost nothing therefore never waits for time that costly peers have used up. Within a
part, strangers that have cost little themselves come first.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
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
_MEMORY_S = 0.1
"""Span over which the use by others is averaged."""


KNOWN_RANK = 3
"""The rank of peers with the token whose calls cost much and are not answered."""

_PARTS = ((0.3, 0.5), (0.2, 0.5), (0.2, 0.5), (0.3, 0.0))
"""For each rank its part of the share, and its share of the event loop's idle time. Idle time lets a fleet join
quickly, and a newcomer in a flood. Costly addresses get it too, because a rightful newcomer may have the same address:
with 0.15 it waited for 0.9 s (95th percentile), and two of 40 newcomers gave up."""


class Stranger(Protocol):
    """A peer whose bytes wait for their turn."""

    spent_s: float

    @property
    def rank(self) -> int:
        """How much its address has cost, up to `KNOWN_RANK`; the lowest rank comes first."""
        ...

    def work(self) -> None:
        """Process the bytes."""
        ...


class _Queue:
    """Hold the peers of one rank that wait, those that have cost little themselves before the others.

    Of several that have cost as much, the newest and the oldest come in turn. The newest always would serve most of
    them at once, and in a flood a few never; the oldest always would let each wait for all others.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, deque[Stranger]] = {}
        self._takes_newest = True

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def push(self, stranger: Stranger) -> None:
        """Add a peer."""
        self._waiting.setdefault(int(stranger.spent_s / LITTLE_S), deque()).append(stranger)

    def pop(self) -> Stranger:
        """Remove the peer whose turn it is, and return it."""
        cost = min(self._waiting)
        equals = self._waiting[cost]
        stranger = equals.pop() if self._takes_newest else equals.popleft()
        self._takes_newest = not self._takes_newest
        if not equals:
            del self._waiting[cost]
        return stranger

    def clear(self) -> None:
        """Remove all peers."""
        self._waiting.clear()


@dataclass
class _Account:
    """The time that the peers of one rank have left, and the peers that wait for it."""

    share: float
    idle_share: float
    credit_s: float = _BURST_S
    queue: _Queue = field(default_factory=_Queue)

    def rate(self, use: float) -> float:
        """Return the seconds that it earns each second while others use so much of the event loop's time."""
        return max(self.share, self.idle_share * (1 - use))


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
        self._loop = loop
        self._thread_time = thread_time
        self._accounts = tuple(_Account(share * part, idle_share) for part, idle_share in _PARTS)
        self._slice_s = 0.0
        self._pause_ends_at = loop.time()
        self._refilled_at = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._squeeze = 1.0
        self._used_s: float | None = None
        """The thread's processor time when it was read last, strangers' work left out; None before the first time."""
        self._use = 0.0
        """Share of the time that the loop spends on others than strangers."""

    def offer(self, stranger: Stranger) -> bool:
        """Do a stranger's work now if there is time for it, and return whether; otherwise queue it."""
        rank = stranger.rank
        account = self._accounts[rank]
        if not account.queue and self.has_time(rank):
            self._do(stranger, rank)
            return True
        self._queue(stranger, rank)
        self._wait()
        return False

    def has_time(self, rank: int) -> bool:
        """Say whether peers of a rank have time left."""
        self._refill()
        return self._accounts[rank].credit_s > 0 and self._loop.time() >= self._pause_ends_at

    def spend(self, seconds: float, *, rank: int) -> None:
        """Count processor time that peers of a rank cost."""
        self._accounts[rank].credit_s -= seconds
        self._slice_s += seconds
        if self._slice_s >= _SLICE_S:
            self._slice_s = 0.0
            self._pause_ends_at = self._loop.time() + _PAUSE_S

    def wait_s(self, rank: int) -> float:
        """Return the seconds until there is time for peers of a rank again."""
        account = self._accounts[rank]
        earning_s = -account.credit_s * self._squeeze / account.rate(self._use)
        return max(_PAUSE_S, self._pause_ends_at - self._loop.time(), earning_s)

    def close(self) -> None:
        """Drop the queued work."""
        for account in self._accounts:
            account.queue.clear()
        if self._timer:
            self._timer.cancel()

    def _refill(self) -> None:
        now = self._loop.time()
        elapsed_s = now - self._refilled_at
        if elapsed_s > 0:
            self._follow_use(elapsed_s)
            for account in self._accounts:
                earned_s = elapsed_s * account.rate(self._use) / self._squeeze
                account.credit_s = min(_BURST_S, account.credit_s + earned_s)
            self._refilled_at = now

    def _follow_use(self, elapsed_s: float) -> None:
        used_s = self._thread_time()
        use = 0.0 if self._used_s is None else min(1.0, (used_s - self._used_s) / elapsed_s)
        self._use += min(1.0, elapsed_s / _MEMORY_S) * (use - self._use)
        self._used_s = used_s

    def _queue(self, stranger: Stranger, rank: int) -> None:
        self._accounts[rank].queue.push(stranger)

    def _do(self, stranger: Stranger, rank: int) -> None:
        started_s = self._thread_time()
        stranger.work()
        spent_s = self._thread_time() - started_s
        stranger.spent_s += spent_s
        if self._used_s is not None:
            self._used_s += spent_s
        self.spend(spent_s, rank=rank)

    def _wait(self) -> None:
        """Wake up when the first of those that wait has time; a newcomer may have it before the others."""
        wait_s = min(self.wait_s(rank) for rank, account in enumerate(self._accounts) if account.queue)
        due_at = self._loop.time() + wait_s
        if self._timer is not None:
            if self._timer_at <= due_at:
                return
            self._timer.cancel()
        self._timer_at = due_at
        self._timer = self._loop.call_at(due_at, self._take_turns, due_at)

    def _take_turns(self, due_at: float) -> None:
        self._timer = None
        # If other processes compete for the processors, a share of wall-clock time is a larger share of the time that
        # we get.
        is_late = self._loop.time() - due_at > _LATE_S
        self._squeeze = min(_MAX_SQUEEZE, self._squeeze * 2) if is_late else max(1.0, self._squeeze * 0.95)
        try:
            while (rank := self._next_rank()) is not None:
                stranger = self._accounts[rank].queue.pop()
                if stranger.rank > rank:  # its address has cost much while it waited
                    self._queue(stranger, stranger.rank)
                else:
                    self._do(stranger, rank)
        finally:  # A fault in one's work must not leave the others waiting.
            if any(account.queue for account in self._accounts):
                self._wait()

    def _next_rank(self) -> int | None:
        """Return the lowest rank of which somebody waits and there is time."""
        ranks = (rank for rank, account in enumerate(self._accounts) if account.queue and self.has_time(rank))
        return next(ranks, None)
