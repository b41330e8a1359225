"""What a batch gave, and each caller's part of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from isplit.runtime.lean.server_frames import best_classes, best_classes_of_rows


class BatchLogits:
    """The logits of a batch, N×K, and what its callers ask of them, computed once for all."""

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self.logits = logits
        self._best: list[tuple[tuple[int, float], ...]] = []
        self._best_count = 0

    @cached_property
    def are_finite(self) -> bool:
        """Whether no caller's logits are NaN or infinite."""
        return bool(np.isfinite(self.logits).all())

    def best(self, row: int, count: int) -> tuple[tuple[int, float], ...]:
        """Return the best classes of a row, whose logits are finite, with their probabilities."""
        if not self.are_finite:
            return best_classes(self.logits[row], count)
        if not self._best:
            self._best, self._best_count = best_classes_of_rows(self.logits, count), count
        if count > self._best_count:
            # The batch is sorted once: callers who all want another number must not sort it once for each of them.
            return best_classes(self.logits[row], count)
        return self._best[row][:count]


@dataclass(kw_only=True, slots=True)
class Computed:
    """A caller's rows of a batch, from `first` on, and the time in the queue and in the engine."""

    batch: BatchLogits
    first: int
    rows: int
    queue_ms: float
    infer_ms: float

    @property
    def logits(self) -> NDArray[np.float32]:
        """The caller's logits, N×K."""
        return self.batch.logits[self.first : self.first + self.rows]

    @property
    def batch_size(self) -> int:
        """The number of rows in the batch."""
        return len(self.batch.logits)

    @property
    def are_finite(self) -> bool:
        """Whether the caller's logits are neither NaN nor infinite."""
        return self.batch.are_finite or bool(np.isfinite(self.logits).all())
