"""Find the compressed images that matter, without running the whole model on every setting and every image.

Two questions are asked of compressed images: which setting takes the fewest bytes within a given loss, and which one
compares with a split of similar accuracy. The search uses three facts. Within a format and size, fewer bytes never help
the model, so qualities are tried from the best one down until one is clearly worse. The first images are enough to see
that a setting is clearly worse. A setting that takes more bytes than one with a negligible loss answers neither
question.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isplit.design.kept_work import NOTHING_KEPT, KeptWork
from isplit.design.measure.compressed_images import CompressedImageTrial
from isplit.design.study import StudyView
from isplit.progress import Progress, silent
from isplit.records import (
    Compression,
    PartName,
    Precision,
    RemoteImage,
    SkippedCompression,
    compared_compressions,
)

CLEAR_LOSS = 0.05
"""A setting that surely loses more than this share of the images is clearly worse, and no verdict mentions it."""
NEGLIGIBLE_LOSS = 0.005
"""A setting that loses at most this share of the images makes all settings of more bytes pointless."""
_FIRST_IMAGES = 50


@dataclass(frozen=True, kw_only=True)
class RemoteSearch:
    """Hold the settings that were measured on all images, and those that were not, with the reason."""

    measured: tuple[RemoteImage, ...]
    skipped: tuple[SkippedCompression, ...]


def search_remote(
    view: StudyView,
    *,
    images: NDArray[np.int64],
    part: PartName,
    precision: Precision = "fp32",
    whole: NDArray[np.bool_] | None = None,
    kept: KeptWork = NOTHING_KEPT,
    progress: Progress = silent,
) -> RemoteSearch:
    """Measure the settings of the compressed image that a split is compared with, as far as they matter.

    WebP at the full size comes first, because it mostly needs the fewest bytes. A setting that is clearly worse is
    stopped after the first images and is not among the measured ones. All other settings are measured on all images.

    Args:
        view: The study, as a set of its classes sees it.
        images: Indices of the images.
        part: The part of the data that the images belong to.
        precision: The precision in which the whole model computes.
        whole: For each image whether the whole model is right about the original, where the caller knows; None computes
            it.
        kept: The store that keeps finished settings until the run is finished.
        progress: Called after each setting.

    """
    trial = CompressedImageTrial(view, images=images, part=part, precision=precision, whole=whole)
    search = _Search(view, trial, kept.with_inputs(images=images, part=part, precision=precision))
    families = _families()
    total = sum(map(len, families))
    for number, family in enumerate(families):
        search.family(family)
        progress("compressed images", sum(map(len, families[: number + 1])), total)
    order = {setting: place for place, setting in enumerate(compared_compressions())}
    return RemoteSearch(
        measured=tuple(sorted(search.measured, key=lambda row: order[_setting(row)])),
        skipped=tuple(sorted(search.skipped, key=lambda row: order[_setting(row)])),
    )


def _families() -> list[list[Compression]]:
    """Return the settings grouped by format and size: WebP before JPEG, large before small, the best quality first."""

    def family(setting: Compression) -> tuple[float, str]:
        return setting.scale, setting.format

    ordered = sorted(
        compared_compressions(), key=lambda setting: (*family(setting), setting.quality or 101), reverse=True
    )
    return [list(group) for _, group in itertools.groupby(ordered, key=family)]


def _setting(row: Compression) -> Compression:
    return Compression(format=row.format, quality=row.quality, scale=row.scale)


class _Search:
    """Collect the settings that were measured so far, and those that need not be measured."""

    def __init__(self, view: StudyView, trial: CompressedImageTrial, kept: KeptWork) -> None:
        self._view, self._trial, self._kept = view, trial, kept
        self.measured: list[RemoteImage] = []
        self.skipped: list[SkippedCompression] = []

    def family(self, settings: Sequence[Compression]) -> None:
        """Measure qualities from the best one down, until one is clearly worse."""
        for place, setting in enumerate(settings):
            if (reason := self._pointless(setting)) is not None:
                self._skip(setting, 0, reason)
                continue
            row, clear = self._measure(setting)
            seen = row.accuracy.images
            if seen == self._trial.images:
                self.measured.append(row)
            else:
                lost = -100 * row.against_whole.difference
                self._skip(setting, seen, f"it loses {lost:.0f} points on the first {seen} images: clearly worse")
            if clear:
                for worse in settings[place + 1 :]:
                    self._skip(worse, 0, f"quality {setting.quality} of this format and size is clearly worse already")
                return

    def _pointless(self, setting: Compression) -> str | None:
        """Say why a setting answers neither question of the search; return None if it may answer one."""
        cheap = [row for row in self.measured if row.against_whole.difference >= -NEGLIGIBLE_LOSS]
        if not cheap:
            return None
        least = min(cheap, key=lambda row: row.payload_bytes.mean)
        if self._trial.mean_bytes(setting) < least.payload_bytes.mean:
            return None
        return (
            f"it takes more bytes than {_setting(least).tag}, which loses at most {NEGLIGIBLE_LOSS:.1%} of the images"
        )

    def _skip(self, setting: Compression, images: int, reason: str) -> None:
        self.skipped.append(
            SkippedCompression(**setting.model_dump(), group=self._view.name, images=images, reason=reason)
        )

    def _measure(self, setting: Compression) -> tuple[RemoteImage, bool]:
        """Measure a setting on the first images and, unless it is clearly worse there, on all of them.

        Returns:
            The record, and whether the setting is clearly worse.

        """
        trial = self._trial
        for count in sorted({min(count, trial.images) for count in (_FIRST_IMAGES, 2 * _FIRST_IMAGES, trial.images)}):
            known = self._kept.load("compressed", setting=setting.tag, count=count)
            if known is not None:
                trial.resume(setting, known["right"])
            right = trial.right(setting, count)
            if known is None:
                self._kept.save({"right": right}, "compressed", setting=setting.tag, count=count)
            row = trial.row(setting, count)
            clear = row.against_whole.smallest_loss(count) > CLEAR_LOSS
            if clear or count == trial.images:
                return row, clear
        raise AssertionError
