"""What a device decides when a request fails: try again, fail fast, or stop and run the model itself.

    closed --so many failures in a row--> open --after a while--> half-open --the probe succeeds--> closed
                                            ^                         |
                                            +----the probe fails------+   (and the while is twice as long, to a limit)

Nothing here waits, sends or reads a clock of its own.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from isplit.errors import InputError
from isplit.runtime.edge.transport import Status

RETRYABLE: frozenset[Status] = frozenset(
    # A server that dies or drains under a request shows as any of the last four, depending on how far it had got.
    ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "CANCELLED", "ABORTED", "INTERNAL", "UNKNOWN")
)
"""Statuses after which the same request may succeed. It may be sent again: to classify an image changes nothing."""

BreakerState = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often and how soon a failed request is sent again.

    The n-th wait is drawn evenly from 0 to `first_ms` x 2^(n - 1), at most `max_ms` ("full jitter": clients that
    failed together do not come back together).

    Raises:
        InputError: on construction, where a number makes no sense.

    """

    attempts: int = 4
    first_ms: float = 25.0
    max_ms: float = 400.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first_ms <= self.max_ms:
            msg = f"{self}: give at least one attempt, and 0 <= first_ms <= max_ms"
            raise InputError(msg)

    def delay_ms(self, failures: int, *, remaining_ms: float | None, draw: float) -> float | None:
        """Return how long to wait after so many failures, or None to give up.

        `remaining_ms` is the time left (None: no limit), `draw` a random number in [0, 1).
        """
        if failures >= self.attempts:
            return None
        doublings = min(failures - 1, 64)  # beyond that any limit is reached, and in the end the float's range
        delay = draw * min(self.max_ms, self.first_ms * 2.0**doublings)
        return None if remaining_ms is not None and delay >= remaining_ms else delay


@dataclass(frozen=True, kw_only=True)
class BreakerSettings:
    """When a circuit breaker opens, and for how long.

    Raises:
        InputError: on construction, where a number makes no sense.

    """

    failures: int = 5
    open_ms: float = 100.0
    max_open_ms: float = 500.0

    def __post_init__(self) -> None:
        if self.failures < 1 or not 0 < self.open_ms <= self.max_open_ms:
            msg = f"{self}: give at least one failure, and 0 < open_ms <= max_open_ms"
            raise InputError(msg)


class Breaker:
    """Stops sending to a server that fails, and lets one request at a time through to see whether it is back.

    `clock` returns seconds. Safe to share between threads. Every request that was admitted is reported, once, by the
    thread that asked to admit it: so the failure of an earlier request does not end the probe of another thread.
    """

    def __init__(self, settings: BreakerSettings, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0  # in a row, while closed; begun anew when it closes
        self._open_ms = settings.open_ms
        self._probe_at_s: float | None = None  # when a probe may go; None while closed
        self._probing = False  # begun anew when it opens

    @property
    def state(self) -> BreakerState:
        """Where the breaker stands now."""
        with self._lock:
            if self._probe_at_s is None:
                return "closed"
            return "half-open" if self._probing or self._clock() >= self._probe_at_s else "open"

    def admit(self) -> bool:
        """Say whether a request may be sent. Half-open, the first to ask is the probe."""
        with self._lock:
            if self._probe_at_s is None:
                return True
            if self._probing or self._clock() < self._probe_at_s:
                return False
            self._probing = True
            self._probe_thread = threading.get_ident()
            return True

    def succeeded(self) -> None:
        """Report that the server answered, be it to refuse: it is there."""
        with self._lock:
            self._failures = 0
            self._open_ms = self._settings.open_ms
            self._probe_at_s = None

    def failed(self) -> None:
        """Report that the server did not answer. While open, stragglers that were sent before count for nothing."""
        with self._lock:
            if self._probe_at_s is None:
                self._failures += 1
                if self._failures < self._settings.failures:
                    return
            elif self._probing and self._probe_thread == threading.get_ident():
                self._open_ms = min(2 * self._open_ms, self._settings.max_open_ms)
            else:
                return
            self._probing = False
            self._probe_at_s = self._clock() + self._open_ms / 1000
