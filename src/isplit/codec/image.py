"""Turn an image file into the model's pixels with one resize for design and runtime, using Pillow and numpy only.

    file --decode_image--> PIL image --preprocess--> (H, W, C) uint8 --(x / 255 - mean) / std--> the model
                                                         |
                                                         +--compress--> a small file --restore--> (H, W, C) uint8

Whoever runs the model does the last step: the data loader in training, the exported head on a device.
"""

import errno
import importlib
import io
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError, features

from isplit.codec.bands import Picture, bands, has_bands, plain_picture, stacked, unstacked
from isplit.codec.image_kinds import HEAD_BYTES, unread_kind
from isplit.codec.image_modes import check_mode, grey_to_eight_bits, stored_pixels, to_eight_bits, upright
from isplit.errors import DataError, InputError
from isplit.records import Compression, ImageFormat, Interpolation, Preprocessing
from isplit.records.files import LARGEST_IMAGE_BYTES, too_large

MAX_PIXELS = 89_478_485
"""The largest image that is decoded, in pixels; it is where Pillow begins to warn of a decompression bomb."""

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif", ".jpe", ".jfif", ".apng", ".pbm",
    ".pnm",
)  # fmt: skip
"""The files of a folder that count as images, in a study and on a device; the case of the letters does not matter."""

# Only formats of pixels are accepted. Pillow's others bring parsers that are not needed here; EPS would even start
# Ghostscript.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")

_DEVICE_FAULTS = frozenset((errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE))
"""Errors of the operating system when a disk fails. Other errors while decoding come from a damaged file's offsets."""

_FILTERS: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def decode_image(file: BinaryIO | Path, *, name: str) -> Image.Image:
    """Decode an image file completely, and return it upright, with 8 bits per sample.

    Of a file with several pictures (an animation, a TIFF of several pages) the first is taken. The image is turned as
    EXIF says. Grey of 12 or 16 bits keeps its upper eight.

    Args:
        file: A path, or an open file.
        name: What error messages call the file.

    Raises:
        DataError: There is no such file or it cannot be read; it is no image, truncated or damaged; it is larger than
            `MAX_PIXELS`; or its samples have no known range (see `to_eight_bits`). No other exception of a decoder
            leaves this function.

    """
    if isinstance(file, Path):
        with _open(file, name=name) as opened:
            return decode_image(opened, name=name)
    with damage_as_data_error(name), _identified(file, name=name) as image:
        _check_size(*image.size, name=name)
        stored = stored_pixels(image)
        image.load()
        # `upright` copies, so that what is returned holds no file open.
        return to_eight_bits(upright(image), stored, name=name)


def _identified(file: BinaryIO, *, name: str) -> Image.Image:
    """Open an image without decoding it.

    Raises:
        DataError: The file is no image of a kind that is read; the message says what it seems to be instead.

    """
    try:
        return Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError as error:
        file.seek(0)
        what, advice = unread_kind(file.read(HEAD_BYTES))
        msg = f"{name} {what} (read are {', '.join(_FORMATS)}): {advice}"
        raise DataError(msg) from error


@contextmanager
def damage_as_data_error(name: str) -> Generator[None]:
    """Turn whatever Pillow raises while it works on one image into a DataError that names the image.

    A damaged file leads Pillow's decoders into exceptions of any class: TypeError, KeyError, struct.error, and more.

    Raises:
        DataError: the block raised an exception, of whatever class.

    """
    try:
        yield
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        msg = f"{name} is larger than {MAX_PIXELS} pixels and is not decoded: make it smaller"
        raise DataError(msg) from error
    except UnidentifiedImageError as error:
        msg = f"{name} is not an image that can be read ({', '.join(_FORMATS)}): repair or remove it"
        raise DataError(msg) from error
    except MemoryError as error:
        msg = f"there is not enough memory to decode {name}: make it smaller, or give the process more"
        raise DataError(msg) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DEVICE_FAULTS:
            msg = f"cannot read {name}: {error.strerror}; is its disk still there and sound?"
        else:
            msg = f"{name} is damaged: {str(error) or type(error).__name__}; repair or remove it"
        raise DataError(msg) from error


def _open(path: Path, *, name: str) -> BinaryIO:
    """Open an ordinary file; opening a pipe would wait until another process writes to it."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            msg = f"{name} is not an ordinary file: give an image file"
            raise DataError(msg)
        if status.st_size > LARGEST_IMAGE_BYTES:
            msg = str(too_large(name, size_bytes=status.st_size, limit_bytes=LARGEST_IMAGE_BYTES, kind="an image file"))
            raise DataError(msg)
        return path.open("rb")
    except FileNotFoundError as error:
        msg = f"there is no file {name}: was it moved or removed?"
        raise DataError(msg) from error
    except (OSError, ValueError) as error:  # ValueError: the name has a NUL byte
        if isinstance(error, DataError):
            raise
        msg = f"cannot read {name}: {getattr(error, 'strerror', None) or error}"
        raise DataError(msg) from error


def preprocess(image: Picture, preprocessing: Preprocessing, *, name: str = "the image") -> NDArray[np.uint8]:
    """Convert, resize and crop an image to the model's input pixels, (H, W, C) uint8.

    For a model of other than one or three channels, each channel is resized as a grey picture of its own.

    The study and the device both call this function, on what `decode_image` returned. The result is pixel for pixel
    what torchvision's Resize and CenterCrop give for the same PIL image. Transparency is dropped, not composed over a
    background, and colour profiles are not applied; torchvision's loaders do neither.

    Raises:
        DataError: The image, which the message calls `name`, has a mode without a known range of values (32-bit
            integers beyond 16 bits, floats, CIE Lab), is empty, is so elongated that resizing it would exceed
            `MAX_PIXELS`, or cannot be converted by Pillow.

    """
    with damage_as_data_error(name):
        image = plain_picture(image)
        if has_bands(preprocessing.channels):
            channels = bands(image, preprocessing.channels, name=name)
            return np.concatenate([_fitted(channel, preprocessing, name=name) for channel in channels], axis=2)
        return _fitted(_to_channels(image, preprocessing.channels, name=name), preprocessing, name=name)


def _fitted(image: Image.Image, preprocessing: Preprocessing, *, name: str) -> NDArray[np.uint8]:
    width, height = _resized(*image.size, preprocessing)
    _check_size(width, height, name=f"{name} of {image.width} x {image.height}, resized,")
    if image.size != (width, height):
        image = image.resize((width, height), _FILTERS[preprocessing.interpolation])
    return _pixels(_centre_crop(image, preprocessing.image_size))


def compress(pixels: NDArray[np.uint8], setting: Compression) -> bytes:
    """Compress the model's pixels, (H, W, C), into the image file that a device sends instead of them.

    Of other than one or three channels the file holds them one below the other, in grey.

    The input is the result of `preprocess`, so a device with a larger image sends no more than the model looks at.
    """
    image = stacked(pixels)
    if setting.scale != 1:
        width, height = (max(1, round(side * setting.scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if setting.format == "png":
        image.save(file, "PNG", optimize=True)
    elif setting.format == "jpeg":
        image.save(file, "JPEG", quality=100 if setting.quality is None else setting.quality, optimize=True)
    elif setting.format == "webp":
        image.save(file, "WEBP", quality=setting.quality or 100, lossless=setting.quality is None, method=6)
    else:
        check_format(setting.format)
        image.save(file, setting.format.upper(), quality=100 if setting.quality is None else setting.quality)
    return file.getvalue()


def check_format(image_format: ImageFormat) -> None:
    """Refuse a format of images that this machine cannot write.

    AVIF is part of Pillow where its libavif was built in; JPEG XL comes with the package pillow-jxl-plugin.

    Raises:
        InputError: the format is not available here.

    """
    if image_format == "avif" and not features.check("avif"):
        msg = "this Pillow was built without AVIF: install one with libavif, or choose webp or jpeg"
        raise InputError(msg)
    if image_format == "jxl":
        try:
            importlib.import_module("pillow_jxl")  # registers the format with Pillow
        except ImportError as error:
            msg = "JPEG XL needs the package pillow-jxl-plugin: install it, or choose avif, webp or jpeg"
            raise InputError(msg) from error


def restore(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return the model's pixels, (H, W, C), of an image that a server received.

    An image of the model's proportions that is no larger than its input comes from `compress`. It may need resizing,
    but it is already cropped. Any other image is preprocessed.

    Raises:
        DataError: as `preprocess`.

    """
    if has_bands(preprocessing.channels):
        with damage_as_data_error("the image"):
            return unstacked(image, preprocessing.channels, preprocessing.image_size)
    height, width = preprocessing.image_size
    # Scaling rounds each side by up to half a pixel.
    alike = abs(image.width * height - image.height * width) <= max(height, width)
    if image.width > width or image.height > height or not alike:
        return preprocess(image, preprocessing)
    with damage_as_data_error("the image"):
        image = _to_channels(image, preprocessing.channels, name="the image")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        return _pixels(image)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return an image of mode L or RGB as (H, W, C)."""
    pixels = np.array(image, dtype=np.uint8)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _to_channels(image: Picture, channels: int, *, name: str) -> Image.Image:
    """Convert to mode L (1 channel) or RGB (3).

    Raises:
        DataError: an array of another number of channels.

    """
    if not isinstance(image, Image.Image):
        msg = f"{name} is an array of shape {image.shape}, and the model takes {channels} channels: give H×W×{channels}"
        raise DataError(msg)
    check_mode(image, name=name)
    if image.mode.startswith("I"):
        image = grey_to_eight_bits(image, name=name)
    elif image.mode == "P" and "transparency" in image.info:
        # Straight to RGB, Pillow would warn about the transparency; the colours are the same this way.
        image = image.convert("RGBA")
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _check_size(width: int, height: int, *, name: str) -> None:
    if not 0 < width * height <= MAX_PIXELS:
        msg = f"{name} has {width} x {height} pixels, not 1 to {MAX_PIXELS}: change its size"
        raise DataError(msg)


def _resized(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the (width, height) to resize to, rounded as torchvision rounds."""
    if preprocessing.resize_size is None:
        target_height, target_width = preprocessing.image_size
        return target_width, target_height
    short, long = min(width, height), max(width, height)
    if short == 0:
        return 0, 0
    new_short, new_long = preprocessing.resize_size, int(preprocessing.resize_size * long / short)
    return (new_short, new_long) if width <= height else (new_long, new_short)


def _centre_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Cut the middle (height, width) out; where the image is smaller, zeros surround it."""
    height, width = size
    left, top = _offset(image.width, width), _offset(image.height, height)
    # Pillow's crop fills with zeros what lies outside the image.
    return image.crop((left, top, left + width, top + height))


def _offset(extent: int, wanted: int) -> int:
    if wanted > extent:
        return -((wanted - extent) // 2)
    return round((extent - wanted) / 2)  # halves to even, as in torchvision
