"""Say whether trained splits are worth it, compared with a network that was trained on compressed images.

Trained networks are measured on the test part and judged like untrained ones (see `isplit.plan.verdict`): by the
one-sided 95 % bound of the paired difference, and by the bytes on the wire.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from isplit.plan.verdict import LARGEST_HEAD, LOSSES, image_setting, points_text, within
from isplit.records import (
    PredictionsRecord,
    RemoteImage,
    SplitRecord,
    TrainedRemote,
    WireBytes,
    WireOverhead,
    wire_overhead,
)

ASK_FOR_OPPONENT = (
    "No network was trained on compressed images, so splits are compared with the network as it is, which flatters "
    "them: train one, for example with `isplit fit STUDY --remote webp:50@0.5`."
)


@dataclass(frozen=True, kw_only=True)
class TrainedVerdict:
    """Hold the fewest bytes on the wire within a loss, of a trained split and of the image; None where there is none.

    `image_is_trained` says whether the image's network was trained on such images. An untrained network was measured on
    the select part instead of the test part.
    """

    loss: float
    split: SplitRecord | None
    image: RemoteImage | None
    image_bytes: WireBytes | None
    image_is_trained: bool

    @property
    def factors(self) -> tuple[float, float] | None:
        """The split's bytes divided by the image's, up and in both directions; None where either is missing."""
        if self.split is None or self.image_bytes is None:
            return None
        return self.split.measurement.wire_bytes.over(self.image_bytes)


def trained_verdict(
    splits: Sequence[SplitRecord],
    remotes: Sequence[TrainedRemote],
    predictions: PredictionsRecord | None,
    *,
    group: str,
    loss: float,
) -> TrainedVerdict:
    """Find the fewest bytes within a loss among trained splits, and among networks trained on compressed images.

    Args:
        splits: Records of splits. Those that were not trained, or belong to other classes, do not count.
        remotes: The trained opponents. Where there is none for these classes, the untrained images of `predictions`
            take their place.
        predictions: The measurements of `predict`. None where it was not run.
        group: The set of classes.
        loss: The largest loss of accuracy below the whole model, as a share.

    """
    candidates = [
        split
        for split in splits
        if split.training is not None
        and split.group == group
        and split.measurement.head_mac_share <= LARGEST_HEAD
        and within(split, loss)
    ]
    trained = [remote.measurement for remote in remotes if remote.group == group]
    untrained = [image for image in predictions.remote if image.group == group] if predictions else []
    images = [image for image in trained or untrained if within(image, loss)]
    split = min(candidates, key=lambda split: split.measurement.payload_bytes.mean, default=None)
    image = min(images, key=lambda image: image.payload_bytes.mean, default=None)
    return TrainedVerdict(
        loss=loss,
        split=split,
        image=image,
        image_bytes=None if image is None else _overhead(splits, group).of_image(image.payload_bytes.mean),
        image_is_trained=bool(trained),
    )


def trained_verdict_texts(
    splits: Sequence[SplitRecord],
    remotes: Sequence[TrainedRemote],
    predictions: PredictionsRecord | None,
    *,
    group: str,
) -> list[str]:
    """Say for each loss whether trained splits are worth it and against which opponent, or nothing without splits.

    The arguments are those of `trained_verdict`.
    """
    of_group = [split for split in splits if split.group == group and split.training is not None]
    if not of_group:
        return []
    verdicts = [trained_verdict(of_group, remotes, predictions, group=group, loss=loss) for loss in LOSSES]
    texts = [_text(verdict) for verdict in verdicts]
    return texts if verdicts[0].image_is_trained else [*texts, ASK_FOR_OPPONENT]


def _overhead(splits: Sequence[SplitRecord], group: str) -> WireOverhead:
    counts = [len(split.measurement.per_class) for split in splits if split.group == group]
    return wire_overhead(max(counts, default=0))


def _text(verdict: TrainedVerdict) -> str:
    return f"Within {points_text(verdict.loss)} of the whole model, {_split_text(verdict)}; {_image_text(verdict)}."


def _split_text(verdict: TrainedVerdict) -> str:
    if verdict.split is None:
        return "no trained split is sure to stay"
    measured = verdict.split.measurement
    return (
        f"a trained split sends {measured.wire_bytes.up:,.0f} bytes up (payload {measured.payload_bytes.mean:,.0f}) "
        f"after {verdict.split.cut} ({measured.head_mac_share:.0%} of the MACs on the device)"
    )


def _image_text(verdict: TrainedVerdict) -> str:
    state = "with a network trained on such images" if verdict.image_is_trained else "with the network as it is"
    if verdict.image is None or verdict.image_bytes is None:
        return f"{state}, no compressed image that was measured is sure to stay that close"
    text = (
        f"the compressed image {state} takes {verdict.image_bytes.up:,.0f} bytes up "
        f"(payload {verdict.image.payload_bytes.mean:,.0f}; {image_setting(verdict.image)})"
    )
    factors = verdict.factors
    if factors is None:
        return text
    worth = "worth it" if factors[1] < 1 else "not worth it"
    return (
        f"{text}. The split is {worth} for the bytes alone: it takes {factors[0]:.2g} × the image's bytes up, and "
        f"{factors[1]:.2g} × in both directions together"
    )
