"""Rank splits, and leave out image settings that others beat, for the terminal and the page.

`isplit.plan.verdict` decides whether splitting is worth it.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isplit.records import Prediction, RemoteImage


@dataclass(frozen=True, kw_only=True)
class SplitRow:
    """A predicted split with its ranks among those of the same classes, design and budget; equals share a rank.

    `accuracy_rank` is by the closed form's accuracy, `cui_rank` by importance (None off the curve), and `size_rank` by
    the size of the crossing tensors as fp32, the smallest first.
    """

    prediction: Prediction
    accuracy_rank: int
    cui_rank: int | None
    size_rank: int


def split_rows(predictions: Sequence[Prediction]) -> tuple[SplitRow, ...]:
    """Rank predictions within classes, design and budget, without changing their order."""
    fields: dict[tuple[str, str, str], list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        fields[_field(prediction)].append(prediction)

    def rank(prediction: Prediction, score: Callable[[Prediction], float]) -> int:
        return 1 + sum(score(other) > score(prediction) for other in fields[_field(prediction)])

    return tuple(
        SplitRow(
            prediction=prediction,
            accuracy_rank=rank(prediction, lambda other: other.measurement.accuracy.accuracy),
            cui_rank=None if prediction.cui is None else rank(prediction, _importance),
            size_rank=rank(prediction, lambda other: -other.bytes),
        )
        for prediction in predictions
    )


def _field(prediction: Prediction) -> tuple[str, str, str]:
    """Return the properties that predictions share which are ranked together."""
    return prediction.group, prediction.design, prediction.budget.tag


def _importance(prediction: Prediction) -> float:
    return float("-inf") if prediction.cui is None else prediction.cui


def efficient(images: Sequence[RemoteImage]) -> tuple[RemoteImage, ...]:
    """Return the settings that no other of the same classes beats with fewer bytes, smallest first."""
    kept: list[RemoteImage] = []
    for image in sorted(images, key=lambda image: (image.payload_bytes.mean, -image.accuracy.accuracy)):
        if all(image.accuracy.accuracy > other.accuracy.accuracy for other in kept if other.group == image.group):
            kept.append(image)
    return tuple(kept)
