"""Is splitting worth it for the bytes alone: the fewest bytes on the wire within a loss, of splits and of images.

This needs neither a device nor a link, so that `predict` can say it. `isplit.plan.planner` answers in milliseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from isplit.plan.choose import SMALLEST_SERVER_SHARE
from isplit.records import MEASURED_WIRE_OVERHEAD, Prediction, PredictionsRecord, RemoteImage, WireOverhead

LOSSES = (0.01, 0.03)
"""How far below the whole model a placement may be, as shares."""

SMALL_HEAD = 0.5
"""The share of the operations up to which a device is said to compute little."""

LARGEST_HEAD = 1 - SMALLEST_SERVER_SHARE
"""With a larger share the device might as well run the whole model, and needs no link at all."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The fewest bytes on the wire within a loss: of a split, of one with a small head, and of the image.

    None where there is none. Splits that leave the server less than a tenth of the operations do not count. `overhead`
    is what the protocol adds to payloads.
    """

    loss: float
    split: Prediction | None
    small_head: Prediction | None
    remote: RemoteImage | None
    overhead: WireOverhead = MEASURED_WIRE_OVERHEAD

    def split_bytes(self, split: Prediction) -> tuple[float, float]:
        """Return the bytes of a split up and down, protocol included."""
        up = split.measurement.payload_bytes.mean + self.overhead.split_up_bytes
        return up, float(self.overhead.split_down_bytes)

    def image_bytes(self) -> tuple[float, float] | None:
        """Return the bytes of the image up and down, protocol included."""
        if self.remote is None:
            return None
        return self.remote.payload_bytes.mean + self.overhead.image_up_bytes, float(self.overhead.image_down_bytes)

    def factors(self, split: Prediction) -> tuple[float, float] | None:
        """Return a split's bytes over the image's: up, and in both directions."""
        image = self.image_bytes()
        if image is None:
            return None
        sent = self.split_bytes(split)
        return sent[0] / image[0], sum(sent) / sum(image)


def within(placement: Prediction | RemoteImage, loss: float) -> bool:
    """Say whether a placement's accuracy is at most `loss` below the whole model's on the same images."""
    against = placement.against_whole if isinstance(placement, RemoteImage) else placement.measurement.against_whole
    return against.difference >= -loss - 1e-9


def verdict(record: PredictionsRecord, *, group: str, loss: float) -> Verdict:
    """Find the fewest bytes within a loss, among the splits of these classes and all compressed images."""
    splits = sorted(
        (
            split
            for split in record.predictions
            if split.group == group and within(split, loss) and split.measurement.head_mac_share <= LARGEST_HEAD
        ),
        key=lambda split: (split.measurement.payload_bytes.mean, split.measurement.head_mac_share),
    )
    images = [image for image in record.remote if image.group == group and within(image, loss)]
    return Verdict(
        loss=loss,
        split=next(iter(splits), None),
        small_head=next((split for split in splits if split.measurement.head_mac_share <= SMALL_HEAD), None),
        remote=min(images, key=lambda image: image.payload_bytes.mean, default=None),
    )


def verdict_texts(record: PredictionsRecord, *, group: str, losses: Sequence[float] = LOSSES) -> list[str]:
    """Say for each of the losses whether splitting is worth it; once where a larger loss changes nothing."""
    texts: list[str] = []
    before: Verdict | None = None
    for loss in losses:
        result = verdict(record, group=group, loss=loss)
        if before is not None and replace(result, loss=before.loss) == before:
            texts.append(f"Within {_points(loss)}: the same.")
        else:
            texts.append(verdict_text(result))
        before = result
    return texts


def verdict_text(result: Verdict) -> str:
    """Say whether splitting is worth it within that loss, on bytes up the wire with the protocol included."""
    points = _points(result.loss)
    image, sent = "no compressed image stays that close", result.image_bytes()
    if result.remote is not None and sent is not None:
        payload = result.remote.payload_bytes.mean
        setting = image_setting(result.remote)
        image = f"the compressed image takes {sent[0]:,.0f} bytes up (payload {payload:,.0f}; {setting})"
    if result.split is None:
        return f"Within {points} of the whole model no split stays at these budgets: try larger ones; {image}."
    text = f"Within {points} of the whole model a split sends {_where(result, result.split)}; {image}. "
    text += _worth(result, result.split)
    if result.small_head is None:
        return f"{text} No split with at most {SMALL_HEAD:.0%} of the MACs on the device stays that close."
    if result.small_head is not result.split:
        factors = result.factors(result.small_head)
        text += f" With at most {SMALL_HEAD:.0%} of the MACs on the device: {_where(result, result.small_head)}"
        text += "." if factors is None else f", {factors[0]:.2g} × the image."
    return text


def image_setting(image: RemoteImage) -> str:
    """Name a setting: "WebP quality 35, side × 0.5"."""
    name = {"jpeg": "JPEG", "webp": "WebP", "png": "PNG"}[image.format]
    return f"{name} quality {image.quality}" + (f", side × {image.scale:g}" if image.scale != 1 else "")


def _points(loss: float) -> str:
    return f"{100 * loss:g} point{'' if loss == 0.01 else 's'}"


def _where(result: Verdict, split: Prediction) -> str:
    measured = split.measurement
    return (
        f"{result.split_bytes(split)[0]:,.0f} bytes up (payload {measured.payload_bytes.mean:,.0f}) after {split.cut} "
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
