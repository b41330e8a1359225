"""A quick run of analyze: few images, and a stop as soon as the first choice is settled."""

from dataclasses import replace

from isplit.design.inputs.data import Dataset
from isplit.design.settings import AnalyzeSettings
from isplit.records import PartName

QUICK_SHARE = 4
"""A quick run takes one in so many images at most."""
QUICK_TOLERANCE = 0.05


def quick_settings(settings: AnalyzeSettings, data: Dataset) -> AnalyzeSettings:
    """Return settings of a quick run: a quarter of the images, and a tolerance so that it stops earlier if it can."""

    def quarter(count: int | None, part: PartName) -> int:
        available = len(data.parts[part])
        return max(1, (available if count is None else min(count, available)) // QUICK_SHARE)

    return replace(
        settings,
        images=quarter(settings.images, "fit"),
        test_images=quarter(settings.test_images, "test"),
        tolerance=settings.tolerance or QUICK_TOLERANCE,
    )
