"""Bring the kinds of pixels that image files hold to 8 bits, upright, or refuse them.

Pillow opens some files in a way that is wrong for a classifier without a word: 12 bits of content in 16 become nearly
black, 16-bit TIFF whose zero is white comes out as its negative. What a file says of its samples is read before it is
decoded, and what remains uncertain is refused by name.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from isplit.errors import DataError

_EIGHT_BIT_MODES = frozenset(("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"))

_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANAR_CONFIGURATION, _SAMPLE_FORMAT = 258, 262, 284, 339
_WHITE_IS_ZERO = 0
_SEPARATE_PLANES = 2
_SIGNED = 2


@dataclass(frozen=True, kw_only=True)
class StoredPixels:
    """How a file stores its pixels, as far as the decoded image no longer tells.

    `bits` are those of a sample, where there are more than 8; None for 8 or fewer. `white_is_zero` holds for images
    that Pillow does not invert itself. `signed` samples have no agreed black. `separate_planes` says that samples of
    more than 8 bits are stored colour by colour and uncompressed, which Pillow reads as if they had 8 bits.
    """

    bits: int | None
    white_is_zero: bool
    signed: bool
    separate_planes: bool = False


def stored_pixels(image: Image.Image) -> StoredPixels:
    """Read how an opened file stores its pixels; to be called before the image is loaded."""
    raw_modes = {_raw_mode(arguments) for _, _, _, arguments in getattr(image, "tile", ())}
    bits = next((count for count in (32, 16, 12) if any(f";{count}" in mode for mode in raw_modes)), None)
    if any(_highest_of_ppm(tile) >= 2**15 for tile in getattr(image, "tile", ())):
        bits = 16
    tags: Any = getattr(image, "tag_v2", {})  # of TIFF files only
    formats: Any = tags.get(_SAMPLE_FORMAT, ())
    sample_bits: Any = tags.get(_BITS_PER_SAMPLE, ())
    return StoredPixels(
        bits=bits,
        white_is_zero=image.mode.startswith(("I", "F")) and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO,
        signed=_SIGNED in (formats if isinstance(formats, tuple) else (formats,)),
        separate_planes=(
            tags.get(_PLANAR_CONFIGURATION) == _SEPARATE_PLANES
            and len(sample_bits) > 1
            and max(sample_bits) > 8
            and any(tile[0] == "raw" for tile in getattr(image, "tile", ()))
        ),
    )


def _highest_of_ppm(tile: Any) -> int:
    """Return the value that a part of a coloured PPM file has for white, or 0 for other files."""
    decoder, _, _, arguments = tile
    return int(arguments[1]) if decoder in ("ppm", "ppm_plain") and not isinstance(arguments, str) else 0


def _raw_mode(arguments: Any) -> str:
    """Return the name of the layout in which a part of an image is stored: "RGB", "I;16B"."""
    if isinstance(arguments, tuple):
        return _raw_mode(arguments[0]) if arguments else ""  # pyright: ignore[reportUnknownArgumentType]
    return arguments if isinstance(arguments, str) else ""


def to_eight_bits(image: Image.Image, stored: StoredPixels, *, name: str) -> Image.Image:
    """Return a decoded image in a mode of 8 bits per sample, whose black is 0.

    Grey of 12 and 16 bits keeps its upper eight. Modes of 8 bits are returned as they are.

    Raises:
        DataError: The image has signed samples, floats, 32-bit integers, CIE Lab colours, or 16 bits of which the upper
            two are never used, so that it most likely holds fewer bits than it says.

    """
    if stored.signed:
        msg = f"{name} holds signed numbers, of which none is known to be black: save it with 8 or 16 unsigned bits"
        raise DataError(msg)
    if stored.separate_planes:
        msg = (
            f"{name} stores samples of more than 8 bits colour by colour: save it with the colours of a pixel together"
        )
        raise DataError(msg)
    if stored.bits == 32 and image.mode.startswith("I"):
        msg = f"{name} holds 32-bit integers, which have no agreed range: save it with 8 or 16 bits per pixel"
        raise DataError(msg)
    if image.mode.startswith("I"):
        bits = 12 if stored.bits == 12 else 16
        return grey_to_eight_bits(image, bits=bits, white_is_zero=stored.white_is_zero, name=name)
    check_mode(image, name=name)
    if stored.bits == 16:
        colours = image.convert("RGB") if image.mode in ("RGBA", "LA", "RGBX") else image
        highest = int(np.asarray(colours).max(initial=0))
        if highest < 64:  # Pillow has kept the upper byte; of true black, nobody needs 16 bits
            raise DataError(_too_few_bits(name, highest=highest * 256 + 255))
    return image


def check_mode(image: Image.Image, *, name: str) -> None:
    """Raise a DataError for a mode that has no conversion to 8 bits on which everybody agrees."""
    if image.mode == "F":
        msg = f"{name} holds floats (mode F), which have no agreed range: save it with 8 or 16 bits per pixel"
        raise DataError(msg)
    if image.mode not in _EIGHT_BIT_MODES and not image.mode.startswith("I"):
        msg = f"{name} has the mode {image.mode}, which cannot be converted exactly: save it as RGB or grey"
        raise DataError(msg)


def grey_to_eight_bits(image: Image.Image, *, name: str, bits: int = 16, white_is_zero: bool = False) -> Image.Image:
    """Reduce grey of 12 or 16 bits to its upper eight.

    Pillow opens 16-bit PGM (and older releases 16-bit PNG) in the 32-bit mode "I", so that mode is taken too.

    Raises:
        DataError: The values go beyond 16 bits, or they are 16-bit and the upper two bits are never used.

    """
    values = np.asarray(image).astype(np.int64)
    lowest, highest = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if not 0 <= lowest <= highest < 2**bits:
        msg = f"{name} has the mode {image.mode} and values beyond 16 bits: save it with 8 or 16 bits per pixel"
        raise DataError(msg)
    if white_is_zero:
        values = 2**bits - 1 - values
    elif bits == 16 and 0 < highest < 2**14:
        raise DataError(_too_few_bits(name, highest=highest))
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8))


def _too_few_bits(name: str, *, highest: int) -> str:
    return (
        f"{name} has 16 bits per sample, but no value above {highest}: it seems to hold {highest.bit_length()} bits, "
        "and would come out nearly black. Save it with 8 bits, scaled as the model was trained"
    )


def upright(image: Image.Image) -> Image.Image:
    """Return a copy of an image, turned as EXIF says that the camera was held; damaged EXIF turns nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a damaged EXIF block raises anything, and says nothing of the pixels
        return image.copy()
