"""Which compression a bundle recommends for images that go to the server whole, and what splits compete with."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isplit.codec.image import compress
from isplit.design.remote_settings import read_compression
from isplit.design.study import StudyView
from isplit.errors import InputError
from isplit.plan.verdict import LOSSES, within
from isplit.records import (
    ImageSetting,
    PayloadBytes,
    RemoteImage,
    RemotePlacement,
    TrainedOpponent,
    TrainedRemote,
    remote_records,
)

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
    return _setting(best)


def _setting(measured: RemoteImage) -> ImageSetting:
    return ImageSetting(
        format=measured.format,
        quality=measured.quality,
        scale=measured.scale,
        accuracy=measured.accuracy,
        part=measured.part,
        against_whole=measured.against_whole,
        payload_bytes_mean=measured.payload_bytes.mean,
        payload_bytes_p95=measured.payload_bytes.p95,
    )


def trained_opponents(view: StudyView) -> tuple[TrainedOpponent, ...]:
    """Describe the networks that the study's model was trained to on compressed images of these classes."""
    return tuple(
        TrainedOpponent(**_setting(record.measurement).model_dump(), after=record.after, epochs=record.epochs)
        for record in _records(view)
    )


def _records(view: StudyView) -> list[TrainedRemote]:
    return [
        record
        for record in remote_records(view.study.directory)
        if (record.model, record.group) == (view.fingerprint, view.name)
    ]


def find_remote_network(view: StudyView, setting: str) -> TrainedRemote:
    """Return the record of the network that was trained on images of a setting; of several, the most accurate one.

    Raises:
        InputError: the setting is not understood, the server does not accept its format, or no network was trained on
            such images.

    """
    compression = read_compression(setting)
    if compression.format not in ACCEPTED_FORMATS:
        msg = (
            f"`remote_network={setting}`: a bundle's server accepts {', '.join(ACCEPTED_FORMATS)}; give a network that "
            "was trained on one of these formats"
        )
        raise InputError(msg)
    records = _records(view)
    matching = [record for record in records if record.compression.tag == compression.tag]
    if not matching:
        known = ", ".join(sorted({record.compression.tag for record in records})) or "none"
        msg = (
            f"`remote_network={setting}`: no network of the study was trained on such images (there are: {known}); "
            f"train it with `isplit fit STUDY --remote {setting}`"
        )
        raise InputError(msg)
    return max(matching, key=lambda record: record.measurement.accuracy.accuracy)


def trained_placement(record: TrainedRemote, file: str) -> RemotePlacement:
    """Describe the remote placement with a network that was trained on compressed images; its check comes later."""
    return RemotePlacement(
        file=file, accepted_formats=ACCEPTED_FORMATS, recommended=_setting(record.measurement), trained=True
    )


def _careful(pixels: NDArray[np.uint8]) -> ImageSetting:
    setting = ImageSetting(
        format="jpeg", quality=_QUALITY, accuracy=None, payload_bytes_mean=0.0, payload_bytes_p95=0.0
    )
    lengths = PayloadBytes.from_lengths([len(compress(image, setting)) for image in pixels])
    return setting.model_copy(update={"payload_bytes_mean": lengths.mean, "payload_bytes_p95": lengths.p95})
