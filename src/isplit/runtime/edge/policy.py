"""Decide what a device does when a request fails: try again, fail fast, or run the model itself.

    closed --several failures in a row--> open --after a pause--> half-open --the probe succeeds--> closed
                                           ^                         |
                                           +----the probe fails------+   (and the pause doubles, up to a limit)

Nothing in this module waits, sends, or reads a clock of its own.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from isplit.errors import InputError
from isplit.runtime.edge.transport import Status
from isplit.setting_checks import check_types

RETRYABLE: frozenset[Status] = frozenset(
    # A server that dies or drains during a request shows as any of the last four, depending on how far it had got.
    ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "CANCELLED", "ABORTED", "INTERNAL", "UNKNOWN")
)
"""Statuses after which the same request may succeed. Sending it again is safe, since classifying changes nothing."""

BreakerState = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Define how often and how soon a failed request is sent again.

    The n-th wait is drawn uniformly from 0 to `first_ms` x 2^(n - 1), at most `max_ms` ("full jitter": clients that
    failed together do not come back together).

    Raises:
        InputError: on construction, if a number is out of range.

    """

    attempts: int = 4
    first_ms: float = 25.0
    max_ms: float = 400.0

    def __post_init__(self) -> None:
        check_types(self)
        if self.attempts < 1 or not 0 <= self.first_ms <= self.max_ms:
            msg = f"{self}: give at least one attempt, and 0 <= first_ms <= max_ms"
            raise InputError(msg)

    def delay_ms(self, failures: int, *, remaining_ms: float | None, draw: float) -> float | None:
        """Return how long to wait after this many failures, in ms, or None to give up.

        `remaining_ms` is the time left (None: no limit), and `draw` a random number in [0, 1).
        """
        if failures >= self.attempts:
            return None
        doublings = min(failures - 1, 64)  # larger exponents reach any limit, and finally overflow a float
        delay = draw * min(self.max_ms, self.first_ms * 2.0**doublings)
        return None if remaining_ms is not None and delay >= remaining_ms else delay


@dataclass(frozen=True, kw_only=True)
class BreakerSettings:
    """Define when a circuit breaker opens, and for how long.

    Raises:
        InputError: on construction, if a number is out of range.

    """

    failures: int = 5
    open_ms: float = 100.0
    max_open_ms: float = 500.0

    def __post_init__(self) -> None:
        check_types(self)
        if self.failures < 1 or not 0 < self.open_ms <= self.max_open_ms:
            msg = f"{self}: give at least one failure, and 0 < open_ms <= max_open_ms"
            raise InputError(msg)


class Breaker:
    """Stop sending to a server that fails, and admit one request at a time to test whether it is back.

    `clock` returns seconds. A breaker may be shared between threads. The thread that got a request admitted reports
    its outcome once, so the failure of an earlier request does not end the probe of another thread.
    """

    def __init__(self, settings: BreakerSettings, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0  # consecutive failures while closed; reset when it closes
        self._open_ms = settings.open_ms
        self._probe_at_s: float | None = None  # the time at which a probe may go; None while closed
        self._probing = False  # reset when it opens

    @property
    def state(self) -> BreakerState:
        """The state of the breaker now."""
        with self._lock:
            if self._probe_at_s is None:
                return "closed"
            return "half-open" if self._probing or self._clock() >= self._probe_at_s else "open"

    def admit(self) -> bool:
        """Return whether a request may be sent. In the half-open state, the first request is the probe."""
        with self._lock:
            if self._probe_at_s is None:
                return True
            if self._probing or self._clock() < self._probe_at_s:
                return False
            self._probing = True
            self._probe_thread = threading.get_ident()
            return True

    def succeeded(self) -> None:
        """Report that the server answered, even if it refused."""
        with self._lock:
            self._failures = 0
            self._open_ms = self._settings.open_ms
            self._probe_at_s = None

    def failed(self) -> None:
        """Report that the server did not answer. While open, requests that were sent earlier do not count."""
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
