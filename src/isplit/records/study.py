"""Record where a study's model and data came from, to repeat it and to refuse a changed input."""

from math import prod, sqrt
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from isplit.records.base import ComputedOn, Count, Part, Record, Seed, Share, Side

LARGEST_INPUT = 2**28
"""Most numbers in one input of a model: 9,459 x 9,459 pixels in RGB, as 1 GiB of 32-bit numbers."""

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
PartName = Literal["fit", "select", "test"]


class Preprocessing(Part):
    """The steps from an image file to the model's input.

    Resize so that the shorter side is `resize_size` pixels (None: both sides straight to `image_size`), crop the
    middle `image_size` (height, width), convert to `channels` (1 grey, 3 RGB; of any other
    number a picture has to have as many), scale to [0, 1], subtract `mean`,
    divide by `std`.
    """

    image_size: tuple[Side, Side]
    resize_size: Side | None
    interpolation: Interpolation
    channels: int = Field(ge=1, le=1024)
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        values = prod(self.image_size) * self.channels
        if values > LARGEST_INPUT:
            height, width = self.image_size
            msg = (
                f"an input of {height} x {width} pixels and {self.channels} channels has more than {LARGEST_INPUT:,} "
                "values: give smaller images"
            )
            raise ValueError(msg)
        return self


class ModelSource(Part):
    """The source of the model.

    `fingerprint` is the SHA-256 over the names, shapes and bytes of its state. `output` names the one of several
    outputs that is taken for the logits, and `extra_inputs` holds the constants for further inputs.
    """

    spec: str
    weights: str | None
    weights_sha256: str | None
    fingerprint: str
    num_outputs: Count
    parameters: Count
    output: str | None = None
    extra_inputs: dict[str, JsonValue] = Field(default_factory=dict)


class DataSource(Part):
    """The source of the data, and the division of its images.

    `sha256` is over the data file where there is one (idx: over both files' hashes); for a folder, over its files'
    names, sizes and labels, and their contents (beyond 2 GiB, the contents of every n-th); for other sets, over labels
    and pixels (all where they are held in memory, else of a few items). `class_outputs` gives the model output of each
    class. `part_rule` says in words how the parts were made.
    """

    spec: str
    split: str | None
    sha256: str
    classes: tuple[str, ...]
    class_titles: tuple[str, ...]
    class_outputs: tuple[Count, ...]
    part_images: dict[PartName, Count]
    part_rule: str


class Accuracy(Part):
    """A share of correct answers with its 95 % Wilson score interval (Wilson 1927), all in [0, 1]."""

    correct: Count
    images: Count
    accuracy: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)

    @classmethod
    def from_counts(cls, correct: int, images: int) -> "Accuracy":
        """Compute the share and its interval; with no images, the interval is [0, 1]."""
        if images == 0:
            return cls(correct=0, images=0, accuracy=0.0, low=0.0, high=1.0)
        z = 1.959963984540054  # the 97.5 % quantile of the normal distribution
        share = correct / images
        centre = (share + z * z / (2 * images)) / (1 + z * z / images)
        half = z / (1 + z * z / images) * sqrt(share * (1 - share) / images + z * z / (4 * images * images))
        return cls(
            correct=correct,
            images=images,
            accuracy=share,
            # At 0 and 1, rounding could put the share itself outside the interval.
            low=min(share, max(0.0, centre - half)),
            high=max(share, min(1.0, centre + half)),
        )

    def may_be_guessing(self, chance: float) -> bool:
        """Return whether the interval reaches down to what always guessing the most frequent class gets right."""
        return self.low <= chance


class ClassGroup(Part):
    """A named set of classes that an application has to tell apart.

    `members` gives the data's classes behind each: one, or several that count as one ("pneumonia" for bacteria and
    virus). Logits of merged classes are joined by logsumexp.
    """

    name: str
    classes: tuple[str, ...]
    members: tuple[tuple[str, ...], ...]


class StudyRecord(Record):
    """study.json: the analysed model and data. Every later step checks its input against it.

    `graph_sha256` is over the captured operations and their arguments, because a model's code may change without its
    weights. `warnings` say why results may be misleading; `notices` say what was done or assumed so that the model and
    the data can be used.
    """

    schema_name: ClassVar[str] = "isplit.study/1"
    file_name: ClassVar[str] = "study.json"

    isplit_version: str
    versions: dict[str, str]
    device: ComputedOn = None
    model: ModelSource
    data: DataSource
    preprocessing: Preprocessing
    graph_sha256: str
    groups: tuple[ClassGroup, ...] = Field(description="what is told apart: first the study's classes, then subsets")
    seed: Seed
    base_accuracy: Accuracy
    chance_accuracy: Share
    warnings: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
