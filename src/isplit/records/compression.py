"""How an image is compressed when it is sent instead of a latent."""

from typing import Literal

from pydantic import Field

from isplit.records.base import Part

ImageFormat = Literal["jpeg", "webp", "png"]


class Compression(Part):
    """How an image is compressed for the server.

    `quality` is the encoder's (None: lossless). `scale` is the share of the model's input side that is sent; the server
    enlarges it again.
    """

    format: ImageFormat
    quality: int | None = Field(ge=1, le=100)
    scale: float = Field(default=1.0, gt=0, le=1)
