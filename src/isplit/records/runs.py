"""What placements did over a real link: accuracy, bytes and the time of every part, summed up from the answers."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from isplit.records.answers import Answer, AnswerSource, Timings
from isplit.records.base import Part
from isplit.records.splits import PayloadBytes
from isplit.records.study import Accuracy
from isplit.records.tables import TableRecord


class PlacementRun(Part):
    """One placement's answers to some images.

    `accuracy` is None where the images' classes are not known. `part_ms` is the median of each part of the time in the
    order in which they take place (see `Timings`), of those that took place; medians do not add up to the total's.
    """

    placement: str
    images: int
    accuracy: Accuracy | None
    sources: dict[AnswerSource, int]
    payload_bytes: PayloadBytes | None
    total_median_ms: float
    total_p95_ms: float
    part_ms: dict[str, float]

    @classmethod
    def from_answers(
        cls, placement: str, answers: Sequence[Answer], *, classes: Mapping[str, str] | None = None
    ) -> "PlacementRun":
        """Sum up answers, at least one; `classes` gives the true class of each image by its name."""
        totals = [answer.timings.total_ms for answer in answers]
        parts: dict[str, float] = {}
        for name in Timings.model_fields:
            times = [time for answer in answers if (time := getattr(answer.timings, name)) is not None]
            if times and name != "total_ms":
                parts[name.removesuffix("_ms")] = float(np.median(times))
        sources: dict[AnswerSource, int] = {}
        for answer in answers:
            sources[answer.source] = sources.get(answer.source, 0) + 1
        sizes = [answer.payload_bytes for answer in answers if answer.payload_bytes is not None]
        right = sum(answer.class_name == classes[answer.image] for answer in answers) if classes else 0
        return cls(
            placement=placement,
            images=len(answers),
            accuracy=Accuracy.from_counts(right, len(answers)) if classes else None,
            sources=sources,
            payload_bytes=PayloadBytes.from_lengths(sizes) if sizes else None,
            total_median_ms=float(np.median(totals)),
            total_p95_ms=float(np.percentile(totals, 95)),
            part_ms=parts,
        )


class RunsRecord(TableRecord):
    """runs.json: placements beside each other over the same link.

    `link_bits_per_s` is None where nothing limited the rate (loopback). `link` says in words what the link was.
    """

    schema_name: ClassVar[str] = "isplit.runs/1"
    file_name: ClassVar[str] = "runs.json"
    remedy: ClassVar[str] = "delete the file; `isplit demo` and `isplit bench` write it"
    rows_field: ClassVar[str] = "runs"

    link: str
    link_bits_per_s: int | None
    runs: tuple[PlacementRun, ...]
