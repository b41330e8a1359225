"""Rank splits, and leave out the image settings that others beat, for the terminal and for the page.

Whether splitting is worth it is said in `isplit.plan.verdict`.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isplit.records import Prediction, RemoteImage


@dataclass(frozen=True, kw_only=True)
class SplitRow:
    """A predicted split with its ranks among those of the same classes, design and budget; equals share a rank.

    `accuracy_rank` is by the closed form's accuracy, `cui_rank` by importance (None off the curve), `size_rank` by the
    size of what crosses as fp32, the smallest first.
    """

    prediction: Prediction
    accuracy_rank: int
    cui_rank: int | None
    size_rank: int


def split_rows(predictions: Sequence[Prediction]) -> tuple[SplitRow, ...]:
    """Rank predictions within classes, design and budget; their order stays."""
    fields: dict[tuple[str, str, str], list[Prediction]] = defaultdict(list)
    for one in predictions:
        fields[one.group, one.design, one.budget.tag].append(one)

    def rank(one: Prediction, score: Callable[[Prediction], float]) -> int:
        return 1 + sum(score(other) > score(one) for other in fields[one.group, one.design, one.budget.tag])

    return tuple(
        SplitRow(
            prediction=one,
            accuracy_rank=rank(one, lambda other: other.measurement.accuracy.accuracy),
            cui_rank=None if one.cui is None else rank(one, _importance),
            size_rank=rank(one, lambda other: -other.bytes),
        )
        for one in predictions
    )


def _importance(one: Prediction) -> float:
    return float("-inf") if one.cui is None else one.cui


def efficient(images: Sequence[RemoteImage]) -> tuple[RemoteImage, ...]:
    """Return the settings that no other of the same classes beats with fewer bytes, smallest first."""
    kept: list[RemoteImage] = []
    for one in sorted(images, key=lambda one: (one.payload_bytes.mean, -one.accuracy.accuracy)):
        if all(one.accuracy.accuracy > other.accuracy.accuracy for other in kept if other.group == one.group):
            kept.append(one)
    return tuple(kept)
