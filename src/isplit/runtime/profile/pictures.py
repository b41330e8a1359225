"""Load the pictures for measurements: the user's own, or drawn ones that compress like photographs."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isplit.codec.bands import Picture, plain_picture
from isplit.errors import InputError
from isplit.records import Preprocessing
from isplit.runtime.edge.pictures import NoPicture, open_picture
from isplit.runtime.edge.sources import open_sources

PICTURES = 8


def load_pictures(sources: Sequence[str | Path], preprocessing: Preprocessing) -> tuple[list[Picture], str]:
    """Return pictures, and a description of their source.

    The time to compress or entropy-code an image depends on its content, and the time to resize it on its size, so
    give images that the device will really see.

    Args:
        sources: Image files or folders, of which the first eight images are taken; none to draw them.
        preprocessing: The model's; drawn pictures have the size that it resizes to.

    Raises:
        InputError: there is no such file or folder, or it has no image.
        DataError: an image cannot be read.

    """
    if not sources:
        return _drawn(preprocessing), "drawn pictures with the spectrum of photographs"
    pictures: list[Picture] = []
    for name, picture in itertools.islice(open_sources([str(source) for source in sources]), PICTURES):
        if isinstance(picture, NoPicture):
            continue
        pictures.append(open_picture(picture, name=name))
    if not pictures:
        msg = f"{', '.join(map(str, sources))} gave no image that can be read: give other files"
        raise InputError(msg)
    return pictures, f"{len(pictures)} of the user's own"


def _drawn(preprocessing: Preprocessing) -> list[Picture]:
    """Draw noise whose amplitude falls about as 1 over the frequency (Field, 1987), in similar colours."""
    height, width = preprocessing.image_size
    side = max(height, width, preprocessing.resize_size or 0)
    random = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = np.inf
    pictures: list[Picture] = []
    for _ in range(PICTURES):
        phases = np.exp(2j * np.pi * random.random((max(3, preprocessing.channels), *frequency.shape)))
        planes = np.fft.irfft2(phases / frequency**1.2, s=(side, side))
        planes = planes[:1] + 0.2 * planes
        planes = 128 + 48 * (planes - planes.mean()) / max(float(planes.std()), 1e-12)
        pixels = planes.clip(0, 255).astype(np.uint8)
        pictures.append(plain_picture(np.ascontiguousarray(pixels[: preprocessing.channels].transpose(1, 2, 0))))
    return pictures
