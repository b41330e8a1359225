"""Decide how much of a deadline the server may use, so that a fallback on the device still comes in time.

    |<------------------ time left until the deadline ------------------>|
    |<-- the server's budget -->|<- timer's lateness ->|<- local model ->|
                                |<--------- held back by `Reserve` ----->|

Nothing here waits or reads a clock of its own.
"""

import math
import threading
from collections import deque
from collections.abc import Iterable

WINDOW = 128
"""So many of the latest measurements count."""
QUANTILE = 0.99
FIRST_LATENESS_MS = 6.0
"""What a timer is taken to be late by before any was measured."""
MARGIN_MS = 1.0
_SMALL_SAMPLE = 0.5
"""How much more than the quantile of a sample is held back: this share, divided by the number of measurements.

The largest of few measurements is no high quantile of those to come.
"""
FULL_TRY_EVERY = 100
"""After a timeout, one image in so many gives the server the whole deadline, to see whether it is back."""


class Reserve:
    """Estimates from past measurements how long a fallback will take, and how late a timer will fire.

    It is a high quantile of the latest measurements of either, for a mean would make every second answer late. Safe to
    share between threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._local_ms: deque[float] = deque(maxlen=WINDOW)
        self._lateness_ms: deque[float] = deque((FIRST_LATENESS_MS,), maxlen=WINDOW)

    def note_local(self, elapsed_ms: float) -> None:
        """Take in how long the whole model took on the device, its answer included."""
        with self._lock:
            self._local_ms.append(elapsed_ms)

    def note_lateness(self, elapsed_ms: float) -> None:
        """Take in how long after its budget had ended a request to the server was given up."""
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
    """Return the value that `QUANTILE` of the values do not exceed: the largest of fewer than 100."""
    ordered = sorted(values)
    return ordered[math.ceil(QUANTILE * len(ordered)) - 1]


class Doubt:
    """Remembers whether a server that timed out has answered since. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: int | None = None  # images since the server last had the whole deadline; None without doubt

    def of_next(self) -> bool:
        """Say whether the next image should be answered in time at any cost; call it once for each image."""
        with self._lock:
            if self._since is None:
                return False
            self._since += 1
            return self._since < FULL_TRY_EVERY

    def tried(self) -> None:
        """Note that a request that had the whole deadline was sent: the next one is due in `FULL_TRY_EVERY` images."""
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
    """Return how much of the time left the server may take.

    `held_back_ms` is what a fallback needs, None where there is none or its time is not known. That much is held back.
    Where it is more than half of the time left, a server that has been answering gets everything, as the better hope;
    one that timed out gets the rest only, which may be nothing (0). No limit stays none.
    """
    if remaining_ms is None or held_back_ms is None:
        return remaining_ms
    if not doubtful and held_back_ms > remaining_ms / 2:
        return remaining_ms
    return max(0.0, remaining_ms - held_back_ms)
