"""Which compression a bundle recommends for images that go to the server whole."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isplit.codec.image import compress
from isplit.design.study import StudyView
from isplit.records import ImageSetting, PayloadBytes, RemoteImage, RemotePlacement

ACCEPTED_FORMATS = ("jpeg", "webp", "png")
_WORTH = 0.01
"""A recommended setting costs at most so much accuracy."""
_QUALITY = 90
"""Of JPEG where nothing was measured."""


def remote_placement(view: StudyView, file: str, *, pixels: NDArray[np.uint8]) -> RemotePlacement:
    """Describe the remote placement: the smallest setting within a point of the whole model, where `predict` measured.

    Where it did not, a careful one is recommended, its accuracy unknown and its bytes those of `pixels`.
    """
    predictions = view.study.predictions
    measured = [row for row in predictions.remote if row.group == view.name] if predictions else []
    return RemotePlacement(
        file=file,
        accepted_formats=ACCEPTED_FORMATS,
        recommended=_recommend(measured) if measured else _careful(pixels),
    )


def _recommend(measured: Sequence[RemoteImage]) -> ImageSetting:
    good = [measurement for measurement in measured if measurement.against_whole.difference >= -_WORTH]
    if good:
        best = min(good, key=lambda measurement: measurement.payload_bytes.mean)
    else:
        best = max(measured, key=lambda measurement: (measurement.accuracy.accuracy, -measurement.payload_bytes.mean))
    return ImageSetting(
        format=best.format,
        quality=best.quality,
        scale=best.scale,
        accuracy=best.accuracy,
        payload_bytes_mean=best.payload_bytes.mean,
        payload_bytes_p95=best.payload_bytes.p95,
    )


def _careful(pixels: NDArray[np.uint8]) -> ImageSetting:
    setting = ImageSetting(
        format="jpeg", quality=_QUALITY, accuracy=None, payload_bytes_mean=0.0, payload_bytes_p95=0.0
    )
    lengths = PayloadBytes.from_lengths([len(compress(image, setting)) for image in pixels])
    return setting.model_copy(update={"payload_bytes_mean": lengths.mean, "payload_bytes_p95": lengths.p95})
