"""Send a request until it is answered or given up, with retries, waits, and a circuit breaker for each model."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from isplit.errors import IsplitError
from isplit.runtime.edge.policy import RETRYABLE, Breaker, BreakerSettings, BreakerState, Retry
from isplit.runtime.edge.transport import Reply, Request, Status, Transport, TransportError


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A reply, the number of attempts, the round trip of the last one, and the time lost before it."""

    reply: Reply
    attempts: int
    round_trip_ms: float
    retry_ms: float


class GaveUpError(IsplitError):
    """A request was given up. The error holds the reason, the number of attempts, and the time that they took.

    `status` is the status of the last attempt; None if nothing was sent.
    """

    def __init__(self, reason: str, *, attempts: int, retry_ms: float, status: Status | None) -> None:
        super().__init__(reason)
        self.attempts = attempts
        self.retry_ms = retry_ms
        self.status: Status | None = status


class Sender:
    """Send requests through a transport. It may be shared between threads.

    No attempt takes longer than `attempt_timeout_ms`; without it and without a deadline, a link that drops everything
    would hold a request for ever. `clock` returns seconds. `wait` waits for a number of seconds, and returns whether
    the sender was closed meanwhile. `draw` returns a random number in [0, 1).
    """

    def __init__(
        self,
        transport: Transport,
        *,
        retry: Retry,
        breaker: BreakerSettings,
        attempt_timeout_ms: float,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._transport = transport
        self._retry = retry
        self._breaker_settings = breaker
        self._attempt_timeout_ms = attempt_timeout_ms
        self._clock = clock
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        self._draw = draw
        self._lock = threading.Lock()
        self._breakers: dict[str, Breaker] = {}
        self._last_failure: dict[str, str] = {}  # by model: why its circuit is open

    def send(self, request: Request, *, budget_ms: float | None) -> Sent:
        """Return the reply to a request.

        A refusal is final. Other failures are retried while the policy, the budget and the breaker allow it.

        Raises:
            GaveUpError: the server refused, the attempts or the budget are used up, the breaker is open, or the sender
                was closed.

        """
        breaker = self._breaker(request.model)
        begun_s = self._clock()
        attempts = 0
        reason = ""
        status: Status | None = None
        while True:
            used_ms = (self._clock() - begun_s) * 1000
            left_ms = None if budget_ms is None else budget_ms - used_ms
            if left_ms is not None and left_ms <= 0:
                why = reason or "no time left to ask the server"
                raise GaveUpError(why, attempts=attempts, retry_ms=used_ms, status=status)
            if not breaker.admit():
                why = f"circuit open: {reason or self._last_failure.get(request.model, 'the server fails')}"
                raise GaveUpError(why, attempts=attempts, retry_ms=used_ms, status=status)
            attempts += 1
            asked_s = self._clock()
            try:
                reply = self._attempt(request, breaker, left_ms)
            except TransportError as error:
                reason, status = str(error), error.status
                self._last_failure[request.model] = reason
                delay_ms = self._delay_ms(error, attempts, budget_ms, begun_s)
                if delay_ms is None or self._closed.is_set() or self._wait(delay_ms / 1000):
                    used_ms = (self._clock() - begun_s) * 1000
                    raise GaveUpError(reason, attempts=attempts, retry_ms=used_ms, status=status) from None
            else:
                answered_s = self._clock()
                return Sent(
                    reply=reply,
                    attempts=attempts,
                    round_trip_ms=(answered_s - asked_s) * 1000,
                    retry_ms=(asked_s - begun_s) * 1000,
                )

    def state(self, model: str) -> BreakerState:
        """Return the state of a model's breaker."""
        return self._breaker(model).state

    def close(self) -> None:
        """Give up waiting requests, and close the transport."""
        self._closed.set()
        self._transport.close()

    def _attempt(self, request: Request, breaker: Breaker, left_ms: float | None) -> Reply:
        """Send once, and always report the outcome to the breaker."""
        limit_ms = self._attempt_timeout_ms
        timeout_ms = limit_ms if left_ms is None else min(limit_ms, left_ms)
        answered = False
        try:
            reply = self._transport.infer(request, timeout_s=timeout_ms / 1000)
            if reply.id not in ("", request.id):
                # This is the late answer to another image. The right answer may still come, but could not be told
                # apart.
                raise TransportError("UNKNOWN", f"the answer to {reply.id} came for {request.id}, and was dropped")
            answered = True
            return reply
        except TransportError as error:
            answered = error.status not in RETRYABLE
            raise
        finally:
            if answered:
                breaker.succeeded()
            else:
                breaker.failed()

    def _delay_ms(self, error: TransportError, attempts: int, budget_ms: float | None, begun_s: float) -> float | None:
        if error.status not in RETRYABLE:
            return None
        left_ms = None if budget_ms is None else budget_ms - (self._clock() - begun_s) * 1000
        return self._retry.delay_ms(attempts, remaining_ms=left_ms, draw=self._draw())

    def _breaker(self, model: str) -> Breaker:
        with self._lock:
            if model not in self._breakers:
                self._breakers[model] = Breaker(self._breaker_settings, clock=self._clock)
            return self._breakers[model]
