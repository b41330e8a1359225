"""Record splits that were built: their construction, their accuracy, and the bytes that cross."""

import builtins
import hashlib
import math
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from isplit.records.base import Amount, Axis, ComputedOn, Count, Extent, Part, Record, Seed, Share
from isplit.records.budget import RecordedBudget
from isplit.records.compression import Compression
from isplit.records.curve import Precision
from isplit.records.link import WireBytes, WireOverhead, wire_overhead
from isplit.records.paired import Paired
from isplit.records.study import Accuracy, PartName
from isplit.records.tables import TableRecord

Design = Literal["linear", "pca", "undercomplete", "identity"]
CoderName = Literal["raw", "zstd", "rle", "rans"]


class PayloadBytes(Part):
    """The bytes of an image that cross, header included: mean, 95th percentile and largest over a number of images."""

    mean: float = Field(ge=0)
    p95: float = Field(ge=0)
    max: Count
    images: Count

    @classmethod
    def from_lengths(cls, lengths: ArrayLike) -> "PayloadBytes":
        """Summarise the payloads' lengths."""
        values = np.asarray(lengths)
        return cls(
            mean=float(values.mean()),
            p95=float(np.percentile(values, 95)),
            max=int(values.max()),
            images=len(values),
        )


class BottleneckSpec(Part):
    """How to build a bottleneck before its weights are loaded.

    `design` is the name of a built-in design (`Design`), or of a class of the user's own, which `source` says where to
    find, as `./file.py:name` or `package.module:name`; such code is never run because a record names it.
    `ranks` are latents per vector: of the grid's map, or of the prefix tokens' map and the grid's. `patch` is the side
    of the linear designs' patches; `joint` is how many latents stand for those of all positions together, 0 where each
    position has its own. `widths` are the channels of `undercomplete`, outermost first.
    """

    design: str
    source: str | None = None
    shape: tuple[Extent, ...]
    channel_axis: Axis
    prefix: Count = 0
    patch: Annotated[int, Field(ge=1, le=64)] = 1
    ranks: tuple[Count, ...] = ()
    joint: Count = 0
    widths: tuple[Count, ...] = ()


def closeness(accuracy: float, divergence_nats: float) -> float:
    """Return how close a split is to the whole model, to rank splits by: accuracy + e^(-divergence).

    Accuracy counts answers, and hardly tells splits apart that have almost all of them right. The divergence tells
    those apart, and says little of splits that have most answers wrong. At equal bytes, the sum ranked cuts before
    training at least as well as the accuracy. At one in 64 of the elements, payloads differ and many answers are lost,
    and the accuracy ranked cuts better (docs/experiments.md).
    """
    return accuracy + math.exp(-divergence_nats)


class Measurement(Part):
    """A split measured on a part of the data: its accuracy with an interval, its bytes, and the device's computation.

    `against_whole` pairs the whole model (first) with the split (second) on the same images. `head_macs` are those of
    the device, encoder included; `head_mac_share` is over the whole model's. `elements` are numbers in the latent.
    `clipped_share` counts latents beyond the quantiser's range. `divergence_nats` is the mean Kullback-Leibler
    divergence of the split's class probabilities from the whole model's; None in records before it was measured.
    `precision` is that of head, tail and whole model; the bottleneck computes in float32.
    """

    part: PartName
    precision: Precision = "fp32"
    accuracy: Accuracy
    whole: Accuracy
    against_whole: Paired
    per_class: dict[str, Accuracy]
    payload_bytes: PayloadBytes
    divergence_nats: Amount | None = None
    elements: Count
    clipped_share: float = Field(ge=0, le=1)
    encoder_macs: Count
    encoder_parameters: Count
    decoder_macs: Count
    decoder_parameters: Count
    head_macs: Count
    head_mac_share: float = Field(ge=0)

    @property
    def closeness(self) -> float | None:
        """How close the split is to the whole model (see `closeness`); None in records without a divergence."""
        return None if self.divergence_nats is None else closeness(self.accuracy.accuracy, self.divergence_nats)

    @property
    def wire_bytes(self) -> WireBytes:
        """The mean bytes of an image on the wire, including the protocol, for each direction."""
        return wire_overhead(len(self.per_class)).of_split(self.payload_bytes.mean)

    def row(self) -> dict[str, Any]:
        """Return the most important figures as one row of a table."""
        return {
            "part": self.part,
            **accuracy_row(self.accuracy, self.against_whole, self.payload_bytes, wire_bytes=self.wire_bytes),
            "head_mac_share": self.head_mac_share,
        }


def accuracy_row(
    accuracy: Accuracy, against_whole: Paired, payload_bytes: PayloadBytes, *, wire_bytes: WireBytes
) -> dict[str, Any]:
    """Return an accuracy with its interval, its difference to the whole model's, and bytes, as one row of a table."""
    return {
        "images": accuracy.images,
        "accuracy": accuracy.accuracy,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "against_whole": against_whole.difference,
        "against_whole_stderr": against_whole.stderr,
        "payload_bytes": payload_bytes.mean,
        "payload_bytes_p95": payload_bytes.p95,
        "wire_up_bytes": wire_bytes.up,
        "wire_down_bytes": wire_bytes.down,
    }


class TrainingEpoch(Part):
    """One pass over the training images.

    Epoch 0 of a stage is its starting point. `losses` are means over the epoch by name. `select_accuracy` and
    `payload_bytes` (mean, header included, on images of the fit part) are those of the split as it would be kept then;
    they are None if a stage trains without a quantiser.
    """

    stage: Literal["features", "task"]
    epoch: Count
    losses: dict[str, float]
    select_accuracy: Share | None
    payload_bytes: Amount | None
    seconds: Amount


class Training(Part):
    """How a split was trained: its trainable parts, its images, when it stopped, and its accuracy before.

    `best_epoch` is the epoch of the second stage whose weights were best, 0 for those it started from. `kept` says
    whether the record's split is that one, or the closed form, because no epoch was as accurate on the select part.
    `select` is the trained split on the select part, `closed_form_select` the closed form on the same images, and
    `before` the closed form on the same images as the record's own measurement; the last two are None for a random
    start. `budget_note` says why the mean payload on the select part is not within 2 % of the budget; None where it
    is.
    """

    start: Literal["closed-form", "random"]
    trained: tuple[str, ...]
    part: PartName
    images: Count
    epochs: Count
    best_epoch: Count
    seconds: Amount
    settings: dict[str, float | int | str | bool | None]
    threads: Count | None = None
    curve: tuple[TrainingEpoch, ...] = ()
    select: Measurement | None = None
    closed_form_select: Measurement | None = None
    before: Measurement | None = None
    kept: Literal["trained", "closed-form"] = "trained"
    budget_note: str | None = None


class SplitFile(Part):
    """A file beside split.json: its name, which contains the first digits of its hash, its size, and its SHA-256."""

    name: str = Field(pattern=r"^(weights|codec)-[0-9a-f]{16}\.(safetensors|npz)$")
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @classmethod
    def of(cls, content: builtins.bytes, *, part: str, suffix: str) -> "SplitFile":
        """Describe a file of this content."""
        sha256 = hashlib.sha256(content).hexdigest()
        return cls(name=f"{part}-{sha256[:16]}{suffix}", bytes=len(content), sha256=sha256)


class SplitRecord(Record):
    """split.json beside a split's weights: its construction and its measurements.

    `weights` and `codec` are the files that belong to it; None in records of earlier versions, whose files are called
    weights.safetensors and codec.npz.

    `coder` is the entropy coder. `statistics_images` are those of the closed form's moments; `samples_per_dimension`
    below 5 means that it leans on its shrinkage.
    """

    schema_name: ClassVar[str] = "isplit.split/1"
    file_name: ClassVar[str] = "split.json"
    remedy: ClassVar[str] = "delete the folder {directory}; `isplit predict` or `isplit fit` makes the split again"

    isplit_version: str
    versions: dict[str, str]
    device: ComputedOn = None
    model: str
    cut: str
    group: str
    budget: RecordedBudget
    bottleneck: BottleneckSpec
    coder: CoderName = "rans"
    statistics_images: Count
    samples_per_dimension: Amount | None
    shrinkage: Amount
    training: Training | None
    seed: Seed
    measurement: Measurement
    weights: SplitFile | None = None
    codec: SplitFile | None = None

    def __repr__(self) -> str:
        state = "closed form" if self.training is None else "trained"
        measured = self.measurement
        return (
            f"<SplitRecord: {self.cut} at {self.budget.tag}, {self.bottleneck.design} ({state}), accuracy "
            f"{measured.accuracy.accuracy:.1%} on {measured.accuracy.images} images of the {measured.part} part, "
            f"{measured.payload_bytes.mean:.0f} bytes>"
        )

    __str__ = __repr__


class Prediction(Part):
    """What is known of a split before training: the measured accuracy of its closed form.

    `predicted_accuracy` is that of the split after training, by the calibration named in the record; None without one.
    It is never above the whole model's accuracy. 90 % of splits lie between `predicted_low` and `predicted_high` (None
    in records of earlier versions), and `predicted_stderr` is the standard error that corresponds to this width. `cui`
    is the importance of the cut (None if the curve does not cover it), and `bytes` its size as fp32.
    """

    cut: str
    group: str
    budget: RecordedBudget
    design: Design
    cui: float | None
    bytes: Count
    measurement: Measurement
    predicted_accuracy: Share | None = None
    predicted_stderr: Amount | None = None
    predicted_low: Share | None = None
    predicted_high: Share | None = None


class RemoteImage(Compression):
    """The whole model on images that were compressed on the device: the alternative to a split."""

    group: str
    part: PartName
    accuracy: Accuracy
    against_whole: Paired
    payload_bytes: PayloadBytes


class SkippedCompression(Compression):
    """A setting of the compressed image that was not measured on all images, and the reason in words.

    `images` is the number that it was seen on: 0, or the first few, where it was clearly worse already.
    """

    group: str
    images: Count = 0
    reason: str


class PredictionsRecord(TableRecord):
    """predictions.json: splits before training at every cut, and beside them the compressed image.

    `remote` holds the settings of the compressed image that were measured on all images; `remote_skipped` those that
    were not, with the reason, since none of them needs the fewest bytes within a loss of up to five points.
    `warnings` say in whole sentences why the figures of the last run are less certain than they look.
    """

    schema_name: ClassVar[str] = "isplit.predictions/1"
    file_name: ClassVar[str] = "predictions.json"
    remedy: ClassVar[str] = "delete the file and run `isplit predict {directory}` again"
    rows_field: ClassVar[str] = "predictions"

    calibration: str | None
    statistics_images: Count
    images: Count
    seconds: Amount
    device: ComputedOn = None
    predictions: tuple[Prediction, ...]
    remote: tuple[RemoteImage, ...]
    remote_skipped: tuple[SkippedCompression, ...] = ()
    warnings: tuple[str, ...] = ()

    def wire_overhead(self, group: str) -> WireOverhead:
        """Return the bytes that the protocol adds to a payload, for answers of these classes."""
        counts = [len(row.measurement.per_class) for row in self.predictions if row.group == group]
        return wire_overhead(max(counts, default=0))

    def _rows(self) -> list[dict[str, Any]]:
        """Return one row for each predicted split, then one for each setting of the compressed image."""
        return [
            {
                "placement": "split",
                "group": row.group,
                "cut": row.cut,
                "budget": row.budget.tag,
                "design": row.design,
                **row.measurement.row(),
                "predicted_accuracy": row.predicted_accuracy,
                "predicted_low": row.predicted_low,
                "predicted_high": row.predicted_high,
                "cui": row.cui,
            }
            for row in self.predictions
        ] + [
            {
                "placement": f"{row.format} q{row.quality} at {row.scale:g}",
                "group": row.group,
                "part": row.part,
                **accuracy_row(
                    row.accuracy,
                    row.against_whole,
                    row.payload_bytes,
                    wire_bytes=self.wire_overhead(row.group).of_image(row.payload_bytes.mean),
                ),
                "head_mac_share": 0.0,
            }
            for row in self.remote
        ]
