"""Which compression a bundle recommends for images that go to the server whole."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isplit.codec.image import compress
from isplit.design.study import StudyView
from isplit.plan.verdict import LOSSES, within
from isplit.records import ImageSetting, PayloadBytes, RemoteImage, RemotePlacement

ACCEPTED_FORMATS = ("jpeg", "webp", "png")
_QUALITY = 90
"""Of JPEG where nothing was measured."""


def remote_placement(view: StudyView, file: str, *, pixels: NDArray[np.uint8]) -> RemotePlacement:
    """Describe the remote placement: the smallest setting that stays within a point of the whole model.

    Whether a setting does is decided by the one-sided bound of the paired difference that `predict` measured, as in
    verdicts; where none surely does, the most accurate is recommended. Where nothing was measured, a careful setting is
    recommended, its accuracy unknown and its bytes those of `pixels`.
    """
    predictions = view.study.predictions
    measured = [row for row in predictions.remote if row.group == view.name] if predictions else []
    return RemotePlacement(
        file=file,
        accepted_formats=ACCEPTED_FORMATS,
        recommended=recommend_image(measured) if measured else _careful(pixels),
    )


def recommend_image(measured: Sequence[RemoteImage]) -> ImageSetting:
    """Return the smallest setting that surely stays within a point, or the most accurate where none does."""
    good = [measurement for measurement in measured if within(measurement, LOSSES[0])]
    if good:
        best = min(good, key=lambda measurement: measurement.payload_bytes.mean)
    else:
        best = max(measured, key=lambda measurement: (measurement.accuracy.accuracy, -measurement.payload_bytes.mean))
    return ImageSetting(
        format=best.format,
        quality=best.quality,
        scale=best.scale,
        accuracy=best.accuracy,
        part=best.part,
        against_whole=best.against_whole,
        payload_bytes_mean=best.payload_bytes.mean,
        payload_bytes_p95=best.payload_bytes.p95,
    )


def _careful(pixels: NDArray[np.uint8]) -> ImageSetting:
    setting = ImageSetting(
        format="jpeg", quality=_QUALITY, accuracy=None, payload_bytes_mean=0.0, payload_bytes_p95=0.0
    )
    lengths = PayloadBytes.from_lengths([len(compress(image, setting)) for image in pixels])
    return setting.model_copy(update={"payload_bytes_mean": lengths.mean, "payload_bytes_p95": lengths.p95})
