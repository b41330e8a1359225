"""Record how a data set is read, before any long work: parts, classes beside the model's outputs, and samples."""

from typing import ClassVar

from isplit.records.base import Count, Part, Record
from isplit.records.study import PartName, Preprocessing


class ClassRow(Part):
    """One class: its name and title, the model's output that it is matched to, and its images by part.

    `output_name` is the model's own name of the output, if known.
    """

    name: str
    title: str
    output: Count
    output_name: str | None
    part_images: dict[PartName, Count]


class SampleImage(Part):
    """One image as the model sees it: a PNG file, base64, of the pixels before normalisation.

    `answer` is the title of the class that the model chooses among all of its outputs; None if that is none of the
    data's classes.
    """

    name: str
    title: str
    answer: str | None
    png_base64: str


class DataCheckRecord(Record):
    """The content of `isplit data`. `match_rule` says how classes and outputs were matched."""

    schema_name: ClassVar[str] = "isplit.data-check/1"
    file_name: ClassVar[str] = "data.json"

    model: str
    data: str
    part_images: dict[PartName, Count]
    part_rule: str
    preprocessing: Preprocessing
    num_outputs: Count
    match_rule: str
    classes: tuple[ClassRow, ...]
    samples: tuple[SampleImage, ...]
    notices: tuple[str, ...]
