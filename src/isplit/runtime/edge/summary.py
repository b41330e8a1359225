"""Summarise answers: where they came from, and the median and 95th percentile of every part's time."""

from array import array
from collections import Counter
from dataclasses import dataclass

import numpy as np

from isplit.records import Answer, AnswerSource, Timings


@dataclass(frozen=True, kw_only=True)
class PartTime:
    """One part's time in milliseconds, over the `answers` that have it."""

    name: str
    answers: int
    median_ms: float
    p95_ms: float


class Summary:
    """Add up answers. Only numbers are kept, so that a camera may run for days."""

    def __init__(self) -> None:
        self.sources: Counter[AnswerSource] = Counter()
        self.late = 0
        self.last_reason: str | None = None
        """The reason of the last answer that failed or did not come from the requested placement."""
        self.provider_fallbacks: Counter[str] = Counter()
        """The number of answers from a model that did not run on the requested provider, by the reason."""
        self.payload_bytes = array("d")
        self._parts = {name: array("d") for name in Timings.model_fields}

    @property
    def answers(self) -> int:
        """The number of answers."""
        return self.sources.total()

    @property
    def amiss(self) -> int:
        """The number of answers that failed or came from a fallback."""
        return self.sources["failed"] + self.sources["local-fallback"]

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        self.sources[answer.source] += 1
        self.late += answer.late
        self.last_reason = answer.reason or self.last_reason
        if answer.provider_fallback is not None:
            self.provider_fallbacks[answer.provider_fallback] += 1
        if answer.payload_bytes is not None:
            self.payload_bytes.append(answer.payload_bytes)
        for name, times in self._parts.items():
            time_ms: float | None = getattr(answer.timings, name)
            if time_ms is not None:
                times.append(time_ms)

    def parts(self) -> tuple[PartTime, ...]:
        """Return the parts that took place, in their order; the total comes last."""
        return tuple(
            PartTime(
                name=name.removesuffix("_ms"),
                answers=len(times),
                median_ms=float(np.median(times)),
                p95_ms=float(np.percentile(times, 95)),
            )
            for name, times in self._parts.items()
            if times
        )
