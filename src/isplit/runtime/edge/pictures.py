"""Open images in any form that callers have them."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isplit.codec.bands import Picture as DecodedPicture
from isplit.codec.bands import plain_picture
from isplit.codec.image import damage_as_data_error, decode_image
from isplit.errors import DataError

Picture = os.PathLike[str] | str | bytes | Image.Image | NDArray[np.uint8]
"""An image file, its content, or its pixels: a PIL image, or uint8 of H×W (grey) or H×W×C (3: RGB)."""


@dataclass(frozen=True, kw_only=True)
class NoPicture:
    """A placeholder for an image that its source could not give; its answer is "failed", with this reason."""

    reason: str


def open_picture(picture: Picture | NoPicture, *, name: str) -> DecodedPicture:
    """Return the decoded picture; pixels are taken as they are.

    Raises:
        DataError: there is no such file; it is not an image, or is damaged or too large; or the object is not a
            picture.

    """
    if isinstance(picture, NoPicture):
        raise DataError(picture.reason)
    if isinstance(picture, Image.Image):
        with damage_as_data_error(name):
            picture.load()  # Pillow reads a file's pixels only when they are needed.
        return picture
    if isinstance(picture, np.ndarray):
        return _from_array(picture, name=name)
    if isinstance(picture, bytes):
        return decode_image(io.BytesIO(picture), name=name)
    try:
        path = Path(picture)
    except TypeError as error:
        msg = f"{name} is a {type(picture).__name__}: give a path, a file's content as bytes, a PIL image, or an array"
        raise DataError(msg) from error
    return decode_image(path, name=name)


def _from_array(pixels: NDArray[Any], *, name: str) -> DecodedPicture:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
        msg = f"{name} is {pixels.dtype} of shape {pixels.shape}: give uint8, H×W (grey) or H×W×C (3: RGB)"
        raise DataError(msg)
    return plain_picture(pixels)
