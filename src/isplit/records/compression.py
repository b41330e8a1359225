"""Describe the compression of an image that is sent instead of a latent."""

from typing import Literal

from pydantic import Field

from isplit.records.base import Part

ImageFormat = Literal["jpeg", "webp", "png"]


class Compression(Part):
    """A compression of images for the server.

    `quality` is the encoder's (None: lossless). `scale` is the share of the model's input side that is sent; the
    server enlarges the image again.
    """

    format: ImageFormat
    quality: int | None = Field(ge=1, le=100)
    scale: float = Field(default=1.0, gt=0, le=1)


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
