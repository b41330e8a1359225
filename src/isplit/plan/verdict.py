"""Say whether splitting is worth it for the bytes alone: the fewest bytes on the wire within a loss.

Whether a split or a compressed image stays within the loss is decided by the one-sided 95 % bound of the paired
difference to the whole model, not by the difference itself: on few images a difference says little.

This needs neither a device nor a link, so that `predict` can say it. `isplit.plan.planner` answers in milliseconds.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from isplit.plan.choose import SMALLEST_SERVER_SHARE
from isplit.records import (
    FORMAT_NAMES,
    MEASURED_WIRE_OVERHEAD,
    Paired,
    Prediction,
    PredictionsRecord,
    RemoteImage,
    SplitRecord,
    WireBytes,
    WireOverhead,
)

_Row = TypeVar("_Row", Prediction, RemoteImage)

LOSSES = (0.01, 0.03)
"""How far below the whole model a placement may be, as shares."""

SMALL_HEAD = 0.5
"""The share of the operations up to which a device is said to compute little."""

LARGEST_HEAD = 1 - SMALLEST_SERVER_SHARE
"""With a larger share the device might as well run the whole model, and needs no link at all."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Hold the fewest bytes on the wire within a loss: of a split, of a split with a small head, and of the image.

    A field is None where no placement stays within the loss. Splits that leave the server less than a tenth of the
    operations do not count. `open_split` and `open_image` have fewer bytes still, but these images cannot tell whether
    they stay within the loss. `overhead` is what the protocol adds to payloads.
    """

    loss: float
    split: Prediction | None
    small_head: Prediction | None
    remote: RemoteImage | None
    open_split: Prediction | None = None
    open_image: RemoteImage | None = None
    overhead: WireOverhead = MEASURED_WIRE_OVERHEAD

    def image_bytes(self) -> WireBytes | None:
        """Return the bytes of the image up and down, protocol included."""
        return None if self.remote is None else self.overhead.of_image(self.remote.payload_bytes.mean)

    def factors(self, split: Prediction) -> tuple[float, float] | None:
        """Return a split's bytes over the image's: up, and in both directions."""
        image = self.image_bytes()
        return None if image is None else split.measurement.wire_bytes.over(image)


def within(placement: Prediction | SplitRecord | RemoteImage, loss: float) -> bool:
    """Say whether a placement's accuracy is at most `loss` below the whole model's, with 95 % confidence."""
    against, images = _paired(placement)
    return against.largest_loss(images) <= loss + 1e-9


def is_open(placement: Prediction | SplitRecord | RemoteImage, loss: float) -> bool:
    """Say whether these images cannot tell if a placement stays within `loss`."""
    against, images = _paired(placement)
    return against.smallest_loss(images) <= loss < against.largest_loss(images) - 1e-9


def _paired(placement: Prediction | SplitRecord | RemoteImage) -> tuple[Paired, int]:
    if isinstance(placement, RemoteImage):
        return placement.against_whole, placement.accuracy.images
    return placement.measurement.against_whole, placement.measurement.accuracy.images


def verdict(record: PredictionsRecord, *, group: str, loss: float) -> Verdict:
    """Find the fewest bytes within a loss, among the splits of these classes and all compressed images."""
    candidates = sorted(
        (
            split
            for split in record.predictions
            if split.group == group and split.measurement.head_mac_share <= LARGEST_HEAD
        ),
        key=lambda split: (split.measurement.payload_bytes.mean, split.measurement.head_mac_share),
    )
    splits = [split for split in candidates if within(split, loss)]
    every_image = sorted(
        (image for image in record.remote if image.group == group), key=lambda image: image.payload_bytes.mean
    )
    best_split = next(iter(splits), None)
    best_image = next((image for image in every_image if within(image, loss)), None)
    return Verdict(
        loss=loss,
        split=best_split,
        small_head=next((split for split in splits if split.measurement.head_mac_share <= SMALL_HEAD), None),
        remote=best_image,
        open_split=next((split for split in _before(candidates, best_split) if is_open(split, loss)), None),
        open_image=next((image for image in _before(every_image, best_image) if is_open(image, loss)), None),
        overhead=record.wire_overhead(group),
    )


@dataclass(frozen=True, kw_only=True)
class OpenQuestion:
    """Whether a placement stays within a loss, where the images that it was measured on cannot tell."""

    loss: float
    placement: Prediction | RemoteImage

    @property
    def text(self) -> str:
        """The question as a sentence, with the images that leave it open."""
        images = _paired(self.placement)[1]
        return f"Not settled on {images:,} images: whether {self._subject} stays within {points_text(self.loss)}."

    def answer(self, record: PredictionsRecord) -> str | None:
        """Return the answer of a later record as a sentence.

        None where it leaves the question open, too, or holds the image's setting no longer: on more images, another one
        may have made it pointless.
        """
        rows = {_place(row): row for row in (*record.predictions, *record.remote)}
        now = rows.get(_place(self.placement))
        if now is None or is_open(now, self.loss):
            return None
        (_, before), (against, images) = _paired(self.placement), _paired(now)
        stays = within(now, self.loss)
        bound = against.largest_loss(images) if stays else against.smallest_loss(images)
        return (
            f"Settled on {images:,} images, open on {before:,}: {self._subject} "
            f"{'stays' if stays else 'does not stay'} within {points_text(self.loss)} "
            f"(it loses {'at most' if stays else 'at least'} {100 * bound:.1f} with 95 % confidence)."
        )

    @property
    def _subject(self) -> str:
        if isinstance(self.placement, RemoteImage):
            return f"the image ({image_setting(self.placement)})"
        return f"the split after {self.placement.cut} at {self.placement.budget.tag}"


def open_questions(
    record: PredictionsRecord, *, group: str, losses: Sequence[float] = LOSSES
) -> tuple[OpenQuestion, ...]:
    """Return what is open in the verdicts of these classes."""
    return tuple(
        OpenQuestion(loss=loss, placement=placement)
        for loss in losses
        for result in (verdict(record, group=group, loss=loss),)
        for placement in (result.open_split, result.open_image)
        if placement is not None
    )


def images_to_settle(questions: Iterable[OpenQuestion]) -> int | None:
    """Return about how many images would settle all questions; None where there is none."""
    wanted: list[int] = []
    for question in questions:
        against, images = _paired(question.placement)
        # Where hardly any number is enough, twice as many images at least narrow the bound.
        wanted.append(against.images_to_settle(images, question.loss) or 2 * images)
    return max(wanted, default=None)


def _place(row: Prediction | RemoteImage) -> tuple[object, ...]:
    """Return what tells a split or a setting of the image from all others, on whatever images it was measured."""
    if isinstance(row, RemoteImage):
        return row.group, row.tag
    return row.group, row.cut, row.budget, row.design


def _before(rows: Sequence[_Row], end: _Row | None) -> Iterator[_Row]:
    """Yield the rows before the given one, or all rows where it is None."""
    return itertools.takewhile(lambda row: row is not end, rows)


def verdict_texts(record: PredictionsRecord, *, group: str, losses: Sequence[float] = LOSSES) -> list[str]:
    """Say for each loss whether splitting is worth it. Losses that change nothing are named together."""
    texts: list[str] = []
    before: Verdict | None = None
    for loss in losses:
        result = verdict(record, group=group, loss=loss)
        if before is not None and replace(result, loss=before.loss) == before:
            texts.append(f"Within {points_text(loss)}: the same.")
        else:
            texts.append(verdict_text(result))
        before = result
    return texts


def verdict_text(result: Verdict) -> str:
    """Say whether splitting is worth it within that loss, on bytes up the wire with the protocol included."""
    return f"{_settled_text(result)}{_open_text(result)}"


def _open_text(result: Verdict) -> str:
    """Say what these images cannot tell, and how many would."""
    texts: list[str] = []
    for placement, name in (
        (result.open_split, None if result.open_split is None else _where(result.open_split)),
        (result.open_image, None if result.open_image is None else f"the image ({image_setting(result.open_image)})"),
    ):
        if placement is None:
            continue
        against, images = _paired(placement)
        wanted = against.images_to_settle(images, result.loss)
        settle = "no number of images is likely to tell" if wanted is None else f"about {wanted:,} images would tell"
        texts.append(
            f" Not settled on {images:,} images: whether {name} stays that close too "
            f"(it loses {max(0.0, -100 * against.difference):.1f} points, at most "
            f"{100 * against.largest_loss(images):.1f} with 95 % confidence); {settle}."
        )
    return "".join(texts)


def _settled_text(result: Verdict) -> str:
    points = points_text(result.loss)
    image, sent = "no compressed image is sure to stay that close", result.image_bytes()
    if result.remote is not None and sent is not None:
        payload = result.remote.payload_bytes.mean
        setting = image_setting(result.remote)
        image = f"the compressed image takes {sent.up:,.0f} bytes up (payload {payload:,.0f}; {setting})"
    if result.split is None:
        return (
            f"Within {points} of the whole model, no split is sure to stay at these budgets: try larger ones, or more "
            f"images; {image}."
        )
    text = f"Within {points} of the whole model, a split sends {_where(result.split)}; {image}. "
    text += _worth(result, result.split)
    if result.small_head is None:
        return f"{text} No split with at most {SMALL_HEAD:.0%} of the MACs on the device is sure to stay that close."
    if result.small_head is not result.split:
        factors = result.factors(result.small_head)
        text += f" With at most {SMALL_HEAD:.0%} of the MACs on the device: {_where(result.small_head)}"
        text += "." if factors is None else f", {factors[0]:.2g} × the image."
    return text


def image_setting(image: RemoteImage) -> str:
    """Name a setting: "WebP quality 35, side × 0.5"."""
    name = FORMAT_NAMES[image.format]
    return f"{name} {'lossless' if image.quality is None else f'quality {image.quality}'}" + (
        f", side × {image.scale:g}" if image.scale != 1 else ""
    )


def points_text(loss: float) -> str:
    """Write a share of the images as points: "1 point", "3 points"."""
    return f"{100 * loss:g} point{'' if loss == 0.01 else 's'}"


def _where(split: Prediction) -> str:
    measured = split.measurement
    return (
        f"{measured.wire_bytes.up:,.0f} bytes up (payload {measured.payload_bytes.mean:,.0f}) after {split.cut} "
        f"({measured.head_mac_share:.0%} of the MACs on the device)"
    )


def _worth(result: Verdict, split: Prediction) -> str:
    factors = result.factors(split)
    if factors is None:
        return "Only a split comes that close with so few bytes."
    worth = "Worth it" if factors[1] < 1 else "Not worth it"
    return (
        f"{worth} for the bytes alone: the split takes {factors[0]:.2g} × the image's bytes up, and {factors[1]:.2g} × "
        "in both directions together."
    )
