"""A small record."""

from isplit.records import CurvePoint, CurveRecord


def small_curve(**changes):
    """Return the curve of one cut; the changes are those of its point."""
    fields = {"cut": "a", "cui": 0.5, "stderr": 0.1, "step_stderr": None, "image_mean": 0.5, "per_class": {"x": 0.5}}
    point = CurvePoint(**{**fields, "per_class_stderr": {"x": 0.1}, **changes})
    return CurveRecord(
        method="cui",
        target="correct",
        precision="fp32",
        images=3,
        images_per_class={"x": 3},
        stopped="all seen",
        points=(point,),
        subsets=(),
    )
