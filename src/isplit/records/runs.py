"""What placements did over a real link: accuracy, bytes and the time of every part, summed up from the answers."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from isplit.records.answers import Answer, AnswerSource, Timings
from isplit.records.base import Amount, Count, Part, Share
from isplit.records.splits import PayloadBytes
from isplit.records.study import Accuracy
from isplit.records.tables import TableRecord


class PlacementRun(Part):
    """One placement's answers to some images.

    `accuracy` is None where the images' classes are not known. `part_ms` is the median of each part of the time in the
    order in which they take place (see `Timings`), of those that took place; medians do not add up to the total's.

    `isplit bench` adds what it measured beside: wire bytes of one image in either direction (protocol included, TCP and
    IP headers not), processor time of the device's process for one image, and its peak resident memory. `predicted_ms`
    is the median that the plan said, and `predicted_accuracy` its accuracy; None where the plan has no such placement.
    A plan's latency begins with the decoded picture: `from_picture_median_ms` and `from_picture_p95_ms` are what was
    measured from there on.
    """

    placement: str
    images: Count
    accuracy: Accuracy | None
    sources: dict[AnswerSource, Count]
    payload_bytes: PayloadBytes | None
    total_median_ms: Amount
    total_p95_ms: Amount
    part_ms: dict[str, Amount]
    wire_up_bytes: Amount | None = None
    wire_down_bytes: Amount | None = None
    device_cpu_ms: Amount | None = None
    device_peak_bytes: Count | None = None
    from_picture_median_ms: Amount | None = None
    from_picture_p95_ms: Amount | None = None
    predicted_ms: Amount | None = None
    predicted_accuracy: Share | None = None

    @classmethod
    def from_answers(
        cls, placement: str, answers: Sequence[Answer], *, classes: Mapping[str, str] | None = None
    ) -> "PlacementRun":
        """Sum up answers, at least one; `classes` gives the true class of each image by its name."""
        totals = [answer.timings.total_ms for answer in answers]
        from_picture = [answer.timings.total_ms - (answer.timings.decode_image_ms or 0.0) for answer in answers]
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
            from_picture_median_ms=float(np.median(from_picture)),
            from_picture_p95_ms=float(np.percentile(from_picture, 95)),
            part_ms=median_parts_ms(answers),
        )


def median_parts_ms(answers: Sequence[Answer]) -> dict[str, float]:
    """Return the median of each part of the time, of those that took place, by its name in `Timings` without "_ms"."""
    parts: dict[str, float] = {}
    for name in Timings.model_fields:
        times = [time for answer in answers if (time := getattr(answer.timings, name)) is not None]
        if times and name != "total_ms":
            parts[name.removesuffix("_ms")] = float(np.median(times))
    return parts


class RunsRecord(TableRecord):
    """runs.json: placements beside each other over the same link.

    `link_bits_per_s` is None where nothing limited the rate (loopback). `link` says in words what the link was.
    `shaping` says how the link was made: by "namespaces" of Linux, by a "proxy" of ours, or not at all (None).
    """

    schema_name: ClassVar[str] = "isplit.runs/1"
    file_name: ClassVar[str] = "runs.json"
    remedy: ClassVar[str] = "delete the file; `isplit demo` and `isplit bench` write it"
    rows_field: ClassVar[str] = "runs"

    link: str
    link_bits_per_s: Count | None
    runs: tuple[PlacementRun, ...]
    shaping: Literal["namespaces", "proxy"] | None = None
