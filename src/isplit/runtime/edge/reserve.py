"""Decide how much of a deadline the server may use, so that a fallback on the device still finishes in time.

    |<------------------ time left until the deadline ------------------>|
    |<-- the server's budget -->|<- timer's lateness ->|<- local model ->|
                                |<--------- held back by `Reserve` ----->|

Nothing in this module waits, or reads a clock of its own.
"""

import math
import threading
from collections import deque
from collections.abc import Iterable

WINDOW = 128
"""The number of latest measurements that count."""
QUANTILE = 0.99
FIRST_LATENESS_MS = 6.0
"""The assumed lateness of a timer before any was measured."""
MARGIN_MS = 1.0
_SMALL_SAMPLE = 0.5
"""How much more than the quantile of a sample is reserved: this share, divided by the number of measurements.

The largest of few measurements is not a high quantile of those to come.
"""
FULL_TRY_EVERY = 100
"""After a timeout, one in this many images gives the server the whole deadline, to see whether it is back."""


class Reserve:
    """Estimate from measurements how long a fallback will take, and how late a timer will fire.

    Each estimate is a high quantile of the latest measurements, because with the mean every second answer would be
    late. It may be shared between threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._local_ms: deque[float] = deque(maxlen=WINDOW)
        self._lateness_ms: deque[float] = deque((FIRST_LATENESS_MS,), maxlen=WINDOW)

    def note_local(self, elapsed_ms: float) -> None:
        """Record how long the whole model took on the device, including its answer."""
        with self._lock:
            self._local_ms.append(elapsed_ms)

    def note_lateness(self, elapsed_ms: float) -> None:
        """Record how long after the end of its budget a request to the server was given up."""
        with self._lock:
            self._lateness_ms.append(elapsed_ms)

    def held_back_ms(self) -> float | None:
        """Return how long before the deadline a fallback has to begin; None while no local time was measured."""
        with self._lock:
            if not self._local_ms:
                return None
            local_ms = high_quantile(self._local_ms) * (1 + _SMALL_SAMPLE / len(self._local_ms))
            return local_ms + high_quantile(self._lateness_ms) + MARGIN_MS


def high_quantile(values: Iterable[float]) -> float:
    """Return the value that `QUANTILE` of the values do not exceed; for fewer than 100 values, the largest."""
    ordered = sorted(values)
    return ordered[math.ceil(QUANTILE * len(ordered)) - 1]


class Doubt:
    """Remember whether a server that timed out has answered since. It may be shared between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: int | None = None  # images since the server last had the whole deadline; None without doubt

    def of_next(self) -> bool:
        """Return whether the next image must be answered in time at any cost; call it once for each image."""
        with self._lock:
            if self._since is None:
                return False
            self._since += 1
            return self._since < FULL_TRY_EVERY

    def tried(self) -> None:
        """Note that a request with the whole deadline was sent; the next one is due in `FULL_TRY_EVERY` images."""
        with self._lock:
            if self._since is not None:
                self._since = 0

    def timed_out(self) -> None:
        """Note that the server did not answer in time."""
        with self._lock:
            if self._since is None:
                self._since = 0

    def answered(self) -> None:
        """Note that the server answered in time."""
        with self._lock:
            self._since = None


def server_budget_ms(remaining_ms: float | None, *, held_back_ms: float | None, doubtful: bool) -> float | None:
    """Return how much of the remaining time the server may take.

    `held_back_ms` is the time that a fallback needs; None if there is no fallback or its time is not known. That much
    is held back. If it is more than half of the remaining time, a server that has been answering gets all of it,
    because it is more likely to answer. A server that timed out gets only the rest, which may be nothing (0). Without
    a limit, there is none for the server.
    """
    if remaining_ms is None or held_back_ms is None:
        return remaining_ms
    if not doubtful and held_back_ms > remaining_ms / 2:
        return remaining_ms
    return max(0.0, remaining_ms - held_back_ms)
