"""Describe the compression of an image that is sent instead of a latent."""

import re
from typing import Literal

from pydantic import Field

from isplit.errors import InputError
from isplit.records.base import Part

ImageFormat = Literal["jpeg", "webp", "png", "avif", "jxl"]

FORMAT_NAMES: dict[ImageFormat, str] = {"jpeg": "JPEG", "webp": "WebP", "png": "PNG", "avif": "AVIF", "jxl": "JPEG XL"}
"""How formats are called in sentences and tables."""


class Compression(Part):
    """A compression of images for the server.

    `quality` is the encoder's (None: lossless). `scale` is the share of the model's input side that is sent; the
    server enlarges the image again.
    """

    format: ImageFormat
    quality: int | None = Field(ge=1, le=100)
    scale: float = Field(default=1.0, gt=0, le=1)

    @property
    def tag(self) -> str:
        """The setting as it is written on the command line: "webp:50@0.5", and "png" where nothing is lost."""
        quality = "" if self.quality is None else f":{self.quality}"
        return f"{self.format}{quality}" + ("" if self.scale == 1 else f"@{self.scale:g}")

    @classmethod
    def from_tag(cls, text: str) -> "Compression":
        """Read `FORMAT[:QUALITY][@SCALE]`, such as `webp:50@0.5` (half the side) or `jpeg:75`.

        Raises:
            InputError: the text is not of this form, or a figure is out of its range.

        """
        match = re.fullmatch(r"(jpeg|webp|png|avif|jxl)(?::([0-9]{1,3}))?(?:@([0-9]*\.?[0-9]+))?", text)
        try:
            if match is None:
                raise ValueError(text)
            quality = None if match[2] is None else int(match[2])
            return cls(format=match[1], quality=quality, scale=float(match[3] or 1))  # type: ignore[arg-type]
        except ValueError as error:
            msg = (
                f"the setting of the compressed image is {text!r}; write FORMAT:QUALITY, or FORMAT:QUALITY@SCALE for "
                "a smaller side, such as webp:50@0.5 (jpeg, webp, png, avif or jxl; quality 1 to 100; scale up to 1)"
            )
            raise InputError(msg) from error


_QUALITIES: dict[ImageFormat, tuple[int, ...]] = {"jpeg": (95, 90, 75, 50, 25, 10), "webp": (90, 80, 65, 50, 35, 20, 5)}
_SCALED_QUALITIES: dict[ImageFormat, tuple[int, ...]] = {"jpeg": (90, 50), "webp": (80, 50)}


def compared_compressions() -> tuple[Compression, ...]:
    """Return the settings that a split is compared with: JPEG and WebP at several qualities and sizes."""
    return tuple(
        Compression(format=image_format, quality=quality, scale=scale)
        for qualities_by_format, scales in ((_QUALITIES, (1.0,)), (_SCALED_QUALITIES, (0.75, 0.5)))
        for image_format, qualities in qualities_by_format.items()
        for quality in qualities
        for scale in scales
    )
