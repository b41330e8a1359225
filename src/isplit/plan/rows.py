"""Collect all placements of a study as rows of one table, before machines and links are known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import hypot

from isplit.plan.compute import ModelShape
from isplit.plan.study_facts import ImageFacts, SplitFacts, StudyFacts
from isplit.records import FORMAT_NAMES, PlannedAccuracy
from isplit.records.plan import PlacementKind

CLASSIFIER_SHARE = 0.2
"""With the server in the middle, the device's last part has at most this share of the operations."""


@dataclass(frozen=True, kw_only=True)
class PlacementRow:
    """Describe a placement before machines and links are known.

    `second` is the cut at which the device takes over again. Placements that depend on the machines (on several tiers,
    or in segments one after the other) have `parts`, which name a machine and boundaries, and `fixed` costs by column.
    `blocks` maps the boundary at which a part begins to its divided layer, as name and number of blocks.
    """

    name: str
    kind: PlacementKind
    split: SplitFacts | None = None
    second: SplitFacts | None = None
    image: ImageFacts | None = None
    accuracy: PlannedAccuracy | None = None
    parts: tuple[tuple[int, int, int], ...] = ()
    fixed: Mapping[str, float] | None = None
    blocks: Mapping[int, tuple[str, int]] = field(default_factory=dict[int, tuple[str, int]])


def placement_rows(facts: StudyFacts, shape: ModelShape, *, middle: bool = False) -> tuple[PlacementRow, ...]:
    """Return local, each compressed image, each split, and with `middle` each with the classifier on the device."""
    rows = [PlacementRow(name="local", kind="local", accuracy=facts.whole)]
    rows += [
        PlacementRow(name=f"remote {image_text(image)}", kind="remote", image=image, accuracy=image.accuracy)
        for image in facts.images
    ]
    rows += [
        PlacementRow(name=split_text(split), kind="split", split=split, accuracy=split.accuracy)
        for split in facts.splits
    ]
    if middle:
        rows += _middle_rows(facts, shape)
    return tuple(rows)


def _middle_rows(facts: StudyFacts, shape: ModelShape) -> list[PlacementRow]:
    """Pair each split with the later one of the same budget that sends the fewest bytes near the end."""
    rows: list[PlacementRow] = []
    for split in facts.splits:
        start = shape.index(split.cut)
        late = [
            other
            for other in facts.splits
            if (other.budget, other.design) == (split.budget, split.design)
            and shape.index(other.cut) > start
            and 1 - shape.macs[shape.index(other.cut)] / shape.whole_macs <= CLASSIFIER_SHARE
        ]
        if late:
            second = min(late, key=lambda other: (other.payload_bytes, -shape.index(other.cut)))
            rows.append(
                PlacementRow(
                    name=f"{split_text(split)}, back at {second.cut}",
                    kind="middle",
                    split=split,
                    second=second,
                    accuracy=combined_accuracy(split.accuracy, second.accuracy),
                )
            )
    return rows


def combined_accuracy(first: PlannedAccuracy, second: PlannedAccuracy) -> PlannedAccuracy:
    """Add the losses of two bottlenecks that were measured one at a time, and their variances.

    The distances of the bounds from the losses add like standard errors (Zou and Donner 2008).
    """
    whole = first.accuracy - (first.difference or 0.0)
    difference = (first.difference or 0.0) + (second.difference or 0.0)
    stderr = hypot(first.stderr or 0.0, second.stderr or 0.0)
    accuracy = min(max(whole + difference, 0.0), 1.0)
    losses = [(-(entry.difference or 0.0), entry.largest_loss) for entry in (first, second)]
    distances = [bound - loss for loss, bound in losses if bound is not None]
    return PlannedAccuracy(
        accuracy=accuracy,
        low=max(accuracy - 2 * stderr, 0.0),
        high=min(accuracy + 2 * stderr, 1.0),
        difference=difference,
        stderr=stderr,
        largest_loss=-difference + hypot(*distances) if len(distances) == len(losses) else None,
        source="combined",
    )


def split_text(split: SplitFacts) -> str:
    """Name a split: "layer2.3 @ 512B"."""
    return f"{split.cut} @ {split.budget.tag}" + ("" if split.design == "linear" else f" {split.design}")


def image_text(image: ImageFacts) -> str:
    """Name an image setting, and the network that gets it: "WebP q65 x 0.5", "WebP q65 x 0.5, trained"."""
    setting = image.compression
    quality = "" if setting.quality is None else f" q{setting.quality}"
    scale = f" x {setting.scale:g}" if setting.scale != 1 else ""
    trained = ", trained" if image.trained else ""
    after = f" after {image.trained_after}" if image.trained_after else ""
    return f"{FORMAT_NAMES[setting.format]}{quality}{scale}{trained}{after}"
