"""Decode compressed images from the wire to pixels, after checking what the file claims to be."""

import io
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isplit.codec.image import decode_image, restore
from isplit.errors import DataError
from isplit.records import ImageFormat, Preprocessing, RemotePlacement
from isplit.runtime.server.refusal import RefusedError, invalid

_PILLOW_NAMES: dict[ImageFormat, str] = {"jpeg": "JPEG", "webp": "WEBP", "png": "PNG"}


def picture_pixels(content: bytes | memoryview, remote: RemotePlacement, preprocessing: Preprocessing) -> int:
    """Return the number of pixels of a compressed image, from its header alone.

    Raises:
        RefusedError: INVALID_ARGUMENT, because it is not an image, has a format that is not accepted, or is larger
            than the bundle allows, before or after resizing.

    """
    with _refusing(remote):
        with Image.open(io.BytesIO(content), formats=[_PILLOW_NAMES[name] for name in remote.accepted_formats]) as file:
            width, height = file.size
        _check_size(width, height, remote, preprocessing)
        return width * height


def decode_picture(
    content: bytes | memoryview, remote: RemotePlacement, preprocessing: Preprocessing
) -> NDArray[np.uint8]:
    """Return the model's pixels, H×W×C, of a compressed image.

    Raises:
        RefusedError: INVALID_ARGUMENT, because it is not an image, is damaged, has a format that is not accepted, or
            is larger than the bundle allows, before or after resizing.

    """
    picture_pixels(content, remote, preprocessing)
    with _refusing(remote):
        return restore(decode_image(io.BytesIO(content), name="the image"), preprocessing)


@contextmanager
def _refusing(remote: RemotePlacement) -> Generator[None]:
    """Turn exceptions of a decoder into a refusal."""
    try:
        yield
    except RefusedError:
        raise
    except DataError as error:
        raise invalid(str(error)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        msg = f"the image is larger than {remote.max_image_pixels} pixels: make it smaller"
        raise invalid(msg) from error
    except OSError as error:  # UnidentifiedImageError is an OSError
        msg = f"the image cannot be read: give {', '.join(remote.accepted_formats)}"
        raise invalid(msg) from error
    except MemoryError:
        raise
    except Exception as error:
        # Pillow's parsers raise any exception when headers are inconsistent.
        msg = f"the image is damaged ({type(error).__name__})"
        raise invalid(msg) from error


def _check_size(width: int, height: int, remote: RemotePlacement, preprocessing: Preprocessing) -> None:
    """Refuse too many pixels, and a shape so elongated that resizing its short side would give too many."""
    pixels, short, long = width * height, min(width, height), max(width, height)
    resized = (preprocessing.resize_size or 0) ** 2 * long // max(short, 1)
    if not 0 < max(pixels, resized) <= remote.max_image_pixels or short == 0:
        msg = (
            f"the image has {width} x {height} pixels, allowed are {remote.max_image_pixels} before and after resizing"
        )
        raise invalid(msg)
