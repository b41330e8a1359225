"""Images as callers have them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isplit.codec.image import decode_image
from isplit.errors import DataError

Picture = Path | str | bytes | Image.Image | NDArray[np.uint8]
"""An image file, its content, or its pixels: a PIL image, or uint8 of H×W, H×W×1 or H×W×3 (RGB)."""


def open_picture(picture: Picture, *, name: str) -> Image.Image:
    """Return the picture decoded; pixels are taken as they are.

    Raises:
        DataError: not an image, damaged, too large, or an array of another kind.

    """
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, np.ndarray):
        return _from_array(picture, name=name)
    return decode_image(io.BytesIO(picture) if isinstance(picture, bytes) else Path(picture), name=name)


def _from_array(pixels: NDArray[Any], *, name: str) -> Image.Image:
    grey = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 1)
    if pixels.dtype != np.uint8 or not (grey or (pixels.ndim == 3 and pixels.shape[2] == 3)) or 0 in pixels.shape:
        msg = f"{name} is {pixels.dtype} of shape {pixels.shape}: give uint8, H×W (grey) or H×W×3 (RGB)"
        raise DataError(msg)
    return Image.fromarray(pixels[:, :, 0] if grey and pixels.ndim == 3 else pixels)
