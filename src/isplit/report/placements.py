"""Splits beside the compressed image and the whole model: ranks, what is efficient, and whether splitting is worth it.

Pure: from records to rows and sentences, for the terminal and for the page.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from isplit.records import Prediction, PredictionsRecord, RemoteImage

LOSSES = (0.01, 0.03)
"""How far below the whole model a placement may be, as shares, for the comparison in words."""

SMALL_HEAD = 0.5
"""The share of the MACs up to which a device is said to compute little."""

LARGEST_HEAD = 0.9
"""With a larger share the device might as well run the whole model, and needs no link at all."""


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


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The fewest bytes within a loss: of a split, of one with a small head, and of the image; None where none.

    Splits that leave the server less than a tenth of the MACs do not count.
    """

    loss: float
    split: Prediction | None
    small_head: Prediction | None
    remote: RemoteImage | None


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


def within(one: Prediction | RemoteImage, loss: float) -> bool:
    """Whether a placement's accuracy is at most `loss` below the whole model's on the same images."""
    against = one.against_whole if isinstance(one, RemoteImage) else one.measurement.against_whole
    return against.difference >= -loss - 1e-9


def verdict(record: PredictionsRecord, *, group: str, loss: float) -> Verdict:
    """Find the fewest bytes within a loss, among the splits of these classes and all compressed images."""
    splits = sorted(
        (
            one
            for one in record.predictions
            if one.group == group and within(one, loss) and one.measurement.head_mac_share <= LARGEST_HEAD
        ),
        key=lambda one: (one.measurement.payload_bytes.mean, one.measurement.head_mac_share),
    )
    images = [one for one in record.remote if one.group == group and within(one, loss)]
    return Verdict(
        loss=loss,
        split=next(iter(splits), None),
        small_head=next((one for one in splits if one.measurement.head_mac_share <= SMALL_HEAD), None),
        remote=min(images, key=lambda one: one.payload_bytes.mean, default=None),
    )


def image_setting(one: RemoteImage) -> str:
    """Name a setting: "WebP quality 35, side × 0.5"."""
    name = {"jpeg": "JPEG", "webp": "WebP"}[one.format]
    return f"{name} quality {one.quality}" + (f", side × {one.scale:g}" if one.scale != 1 else "")


def verdict_texts(record: PredictionsRecord, *, group: str) -> list[str]:
    """Say for each of the losses whether splitting is worth it; once where a larger loss changes nothing."""
    texts: list[str] = []
    before: Verdict | None = None
    for loss in LOSSES:
        found = verdict(record, group=group, loss=loss)
        if before is not None and replace(found, loss=before.loss) == before:
            texts.append(f"Within {_points(loss)}: the same.")
        else:
            texts.append(verdict_text(found))
        before = found
    return texts


def verdict_text(found: Verdict) -> str:
    """Say whether splitting is worth it within that loss."""
    points = _points(found.loss)
    image = "no compressed image stays that close"
    if found.remote is not None:
        size, setting = found.remote.payload_bytes.mean, image_setting(found.remote)
        image = f"the compressed image takes {size:,.0f} bytes ({setting})"
    if found.split is None:
        return f"Within {points} of the whole model no split stays at these budgets: try larger ones; {image}."
    text = f"Within {points} of the whole model a split sends {_where(found.split)}; {image}. "
    text += _worth(found.split, found.remote)
    if found.small_head is None:
        return f"{text} No split with at most {SMALL_HEAD:.0%} of the MACs on the device stays that close."
    if found.small_head is not found.split:
        factor = _factor(found.small_head, found.remote)
        text += f" With at most {SMALL_HEAD:.0%} of the MACs on the device: {_where(found.small_head)}"
        text += "." if factor is None else f", {factor:.2g} × the image."
    return text


def _points(loss: float) -> str:
    return f"{100 * loss:g} point{'' if loss == 0.01 else 's'}"


def _where(one: Prediction) -> str:
    measured = one.measurement
    return (
        f"{measured.payload_bytes.mean:,.0f} bytes after {one.cut} "
        f"({measured.head_mac_share:.0%} of the MACs on the device)"
    )


def _factor(one: Prediction, image: RemoteImage | None) -> float | None:
    return None if image is None else one.measurement.payload_bytes.mean / image.payload_bytes.mean


def _worth(one: Prediction, image: RemoteImage | None) -> str:
    factor = _factor(one, image)
    if factor is None:
        return "Only a split comes that close with so few bytes."
    worth = "Worth it" if factor < 1 else "Not worth it"
    return f"{worth} for the bytes alone: the split sends {factor:.2g} × the image."
