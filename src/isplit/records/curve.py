"""Record how important each cut's tensor is for the decision: one value per cut, overall and per class."""

from typing import ClassVar, Literal

from pydantic import Field

from isplit.records.base import Amount, ComputedOn, Count, Part
from isplit.records.tables import TableRecord

Target = Literal["correct", "predicted"]
Precision = Literal["fp32", "bf16"]

METHOD_TITLES = {
    "cui": "CUI",
    "gradient-activation": "|gradient × activation|",
    "gradient-energy": "gradient energy",
}
"""The titles of isplit's importance methods; a user's own method is shown by its name."""


def method_title(name: str) -> str:
    """Return the title of an importance method in tables and plots."""
    return METHOD_TITLES.get(name, name)


class CurvePoint(Part):
    """The importance at one cut.

    `cui` is the mean of the class means (for methods other than CUI, their own score), and `stderr` its standard
    error. `step_stderr` is the standard error of the *paired* difference to the point before (None at the first). The
    same images are seen at every cut, so neighbours are compared far more precisely than their own errors suggest. A
    value is None (null) if any image gave NaN or infinity; `non_finite` counts those images.
    """

    cut: str
    cui: float | None
    stderr: Amount | None
    step_stderr: Amount | None
    image_mean: float | None
    per_class: dict[str, float | None]
    per_class_stderr: dict[str, Amount | None]
    non_finite: Count = 0


class SubsetCurve(Part):
    """The curve for a subset of the classes, and the number of images behind it."""

    name: str
    classes: tuple[str, ...]
    images: Count
    points: tuple[CurvePoint, ...]


class CurveRecord(TableRecord):
    """curve.json: the importance curve over the cuts that have a spatial or token axis."""

    schema_name: ClassVar[str] = "isplit.curve/1"
    file_name: ClassVar[str] = "curve.json"
    rows_field: ClassVar[str] = "points"

    method: str
    target: Target
    precision: Precision
    device: ComputedOn = None
    images: Count
    images_per_class: dict[str, Count]
    stopped: str = Field(description="why no more images were taken, in words")
    points: tuple[CurvePoint, ...]
    subsets: tuple[SubsetCurve, ...]
