"""Pictures of other than one channel (grey) or three (RGB): each channel is a grey picture of its own.

    (H, W, C) uint8 ─ bands ─> C grey pictures ─ resize, crop ─> (H, W, C)
                    ─ stacked ─> one grey picture of C·H rows ─> a compressed file ─ unstacked ─> (H, W, C)

Files hold up to four channels: PNG and TIFF with transparency. Pictures of more come as arrays.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isplit.errors import DataError

Picture = Image.Image | NDArray[np.uint8]
"""A decoded picture: a PIL image, or an array (H, W, C) of any number of channels."""

MAX_CHANNELS = 1024

_MODES = {2: "LA", 4: "RGBA"}
"""The kind of Pillow's images that has so many channels of a meaning of its own."""


def has_bands(channels: int) -> bool:
    """Return whether pictures of so many channels are neither grey nor RGB."""
    return channels not in (1, 3)


def plain_picture(picture: Picture) -> Picture:
    """Return an array of one, three or four channels as a PIL image; others as they are."""
    if isinstance(picture, Image.Image):
        return picture
    pixels = np.ascontiguousarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
    return Image.fromarray(pixels) if pixels.ndim == 2 or pixels.shape[2] in (3, 4) else pixels


def bands(picture: Picture, channels: int, *, name: str) -> list[Image.Image]:
    """Return the channels of a picture as grey pictures.

    Raises:
        DataError: the picture, which the message calls `name`, has another number of channels.

    """
    if isinstance(picture, Image.Image):
        if picture.mode == "P" and "transparency" in picture.info:
            picture = picture.convert("RGBA")
        if picture.mode == _MODES.get(channels):
            return list(picture.split())
        has = f"is a picture of the kind {picture.mode}"
    elif picture.ndim == 3 and picture.shape[2] == channels:
        return [Image.fromarray(np.ascontiguousarray(picture[:, :, number])) for number in range(channels)]
    else:
        has = f"is an array of shape {picture.shape}"
    wanted = f"an array H×W×{channels}"
    if channels in _MODES:
        wanted += f" or a picture of the kind {_MODES[channels]}"
    msg = f"{name} {has}, and the model takes {channels} channels: give {wanted}"
    raise DataError(msg)


def stacked(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return pixels (H, W, C) as one picture: grey, RGB, or the channels one below the other in grey."""
    height, width, channels = pixels.shape
    if not has_bands(channels):
        return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0]) if channels == 1 else pixels)
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(2, 0, 1).reshape(channels * height, width)))


def unstacked(image: Image.Image, channels: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the pixels (H, W, C) of what `stacked` made, resized to the (height, width) of one channel.

    Raises:
        DataError: the image does not have the proportions of channels one below the other.

    """
    height, width = size
    if abs(image.width * height * channels - image.height * width) > channels * max(height, width):
        msg = (
            f"the image has {image.width} x {image.height} pixels: for {channels} channels give {width} x "
            f"{channels * height}, the channels one below the other in grey"
        )
        raise DataError(msg)
    image = image.convert("L")
    if image.size != (width, channels * height):
        image = image.resize((width, channels * height), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.uint8).reshape(channels, height, width).transpose(1, 2, 0).copy()


def shown(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pixels (H, W, C) as people can look at them, (H, W, 3): the first three channels, or the first one."""
    channels = pixels.shape[-1]
    return pixels[..., :3] if channels >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
