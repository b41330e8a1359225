"""Hold the state of one image in the client, and make its answer."""

import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isplit.errors import IsplitError
from isplit.records import Answer, AnswerSource, Timings
from isplit.runtime.edge.device import Wire
from isplit.runtime.edge.transport import Reply
from isplit.runtime.lean.server_frames import best_classes
from isplit.runtime.providers import ProviderChoice
from isplit.text import utf8_text


@dataclass(kw_only=True)
class Job:
    """Hold the state of one image. Only one thread at a time works on it.

    `pixels` (H, W, C) are set once the image was read, `wire` once there is something to send, and `logits` or `best`
    once there is an answer, which holds at most `best_count` of the most probable classes. `ran_on` is the execution
    provider of the last model that ran here. `reason` says why the answer does not come from the requested placement.
    `parts_ms` has the keys of `Timings`.
    """

    id: str
    index: int
    image: str
    placement: str
    deadline_ms: float | None
    started_unix_s: float
    started_s: float = field(default_factory=time.perf_counter)
    pixels: NDArray[np.uint8] | None = None
    wire: Wire | None = None
    best_count: int = 1
    logits: NDArray[np.float32] | None = None
    best: tuple[tuple[int, float], ...] = ()
    source: AnswerSource = "failed"
    reason: str | None = None
    attempts: int = 0
    server_batch: int | None = None
    ran_on: ProviderChoice | None = None
    server_provider: str | None = None
    parts_ms: dict[str, float | None] = field(default_factory=dict[str, float | None])

    @contextmanager
    def timed(self, part: str) -> Generator[None]:
        """Measure a part of the work."""
        begun_s = time.perf_counter()
        try:
            yield
        finally:
            self.parts_ms[part] = (time.perf_counter() - begun_s) * 1000

    @property
    def remaining_ms(self) -> float | None:
        """The time until the deadline in ms: negative once it has passed, None without a deadline."""
        return None if self.deadline_ms is None else self.deadline_ms - (time.perf_counter() - self.started_s) * 1000

    @property
    def is_answered(self) -> bool:
        """Whether there is an answer."""
        return self.logits is not None or bool(self.best)

    def heard(self, reply: Reply, *, round_trip_ms: float) -> None:
        """Store a server's logits or best classes, and its timings."""
        self.logits, self.best = reply.logits, reply.best
        self.server_batch = reply.batch_size if reply.batch_size and reply.batch_size > 0 else None
        self.server_provider = reply.provider
        server_ms = _duration_ms(reply.server_ms)
        # Only durations are compared, never the clocks of two machines.
        self.parts_ms |= {
            "wire_ms": max(0.0, round_trip_ms - (server_ms or 0.0)),
            "server_queue_ms": _duration_ms(reply.queue_ms),
            "server_decode_ms": _duration_ms(reply.decode_ms),
            "server_infer_ms": _duration_ms(reply.infer_ms),
            "server_ms": server_ms,
        }

    def failed(self, reason: str) -> None:
        """Add a reason why there is no answer to the known ones."""
        self.reason = reason if self.reason is None else f"{self.reason}; {reason}"

    def answer(self, classes: tuple[str, ...]) -> Answer:
        """Return the answer; its total time is taken now."""
        best = self.best if self.logits is None else best_classes(self.logits, self.best_count)
        label, probability = best[0] if best else (None, None)
        total_ms = (time.perf_counter() - self.started_s) * 1000
        return Answer(
            id=self.id,
            index=self.index,
            image=utf8_text(self.image),
            placement=self.placement,
            source=self.source,
            reason=None if self.reason is None else utf8_text(self.reason),
            label=label,
            class_name=None if label is None else classes[label],
            probability=probability,
            best=best,
            logits=None if self.logits is None else tuple(self.logits.tolist()),
            deadline_ms=self.deadline_ms,
            late=self.deadline_ms is not None and total_ms > self.deadline_ms,
            attempts=self.attempts,
            payload_bytes=None if self.wire is None else len(self.wire.content),
            server_batch=self.server_batch,
            provider=None if self.ran_on is None else self.ran_on.name,
            provider_fallback=None if self.ran_on is None else self.ran_on.fallback,
            server_provider=None if self.server_provider is None else utf8_text(self.server_provider),
            started_unix_s=self.started_unix_s,
            timings=Timings(total_ms=total_ms, **self.parts_ms),
        )


def _duration_ms(reported_ms: float | None) -> float | None:
    """Return a duration that a server reports; None if it cannot be a duration."""
    return reported_ms if reported_ms is not None and 0 <= reported_ms < math.inf else None


def fault_of(error: Exception) -> str:
    """Return the reason why an image failed, for its answer."""
    if isinstance(error, IsplitError):
        return str(error)
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"this is a fault of isplit, please report it: {what}"
