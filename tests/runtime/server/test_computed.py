"""The logits of a batch, and what its callers ask of them."""

import numpy as np

from isplit.runtime.lean.server_frames import best_classes_of_rows
from isplit.runtime.server.computed import BatchLogits, Computed


class TestBatchLogits:
    """What a batch computes once for all of its callers."""

    def test_rows_beside_one_that_is_not_finite(self):
        """A row of NaN is its caller's fault alone: the others are finite, and have their best classes."""
        batch = BatchLogits(np.array([[1, 3, 2], [np.nan, 0, 0], [9, 0, 0]], np.float32))
        callers = [Computed(batch=batch, first=row, rows=1, queue_ms=0.0, infer_ms=0.0) for row in range(3)]

        assert [True, False, True] == [caller.are_finite for caller in callers]
        assert [[1, 2], [0, 1]] == [[label for label, _ in batch.best(row, 2)] for row in (0, 2)]

    def test_callers_want_several_numbers_of_classes(self):
        """Each caller gets as many classes as it asks for, and the rows are its own."""
        batch = BatchLogits(np.array([[1, 3, 2], [5, 0, 1]], np.float32))
        assert [1, 2] == [label for label, _ in batch.best(0, 2)]
        assert [0] == [label for label, _ in batch.best(1, 1)]
        assert [0, 2, 1] == [label for label, _ in batch.best(1, 3)]

    def test_a_batch_is_sorted_once(self, monkeypatch):
        """Callers who each want another number of classes do not make the server sort the whole batch again."""
        sorted_rows = []

        def counted(logits, count):
            sorted_rows.append(len(logits))
            return best_classes_of_rows(logits, count)

        monkeypatch.setattr("isplit.runtime.server.computed.best_classes_of_rows", counted)
        batch = BatchLogits(np.arange(12, dtype=np.float32).reshape(3, 4))
        assert [2, 1, 4] == [len(batch.best(row, count)) for row, count in ((0, 2), (1, 1), (2, 4))]
        assert [3] == sorted_rows

    def test_rows_of_a_caller(self):
        """Logits are the rows of the caller, and the size is that of the whole batch."""
        batch = BatchLogits(np.arange(8, dtype=np.float32).reshape(4, 2))
        caller = Computed(batch=batch, first=1, rows=2, queue_ms=0.0, infer_ms=0.0)
        assert [[2, 3], [4, 5]] == caller.logits.tolist()
        assert 4 == caller.batch_size
