"""Turn importance maps and their images into data URIs, which the page lays over each other.

Each image is stored once per row, and each map as a small coloured picture, so that a page with many maps stays light.
"""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isplit.records import Overlays
from isplit.report.colours import map_ramp

SMALLEST_SIDE_PX = 128
"""Images with a shorter side below this are shown with their true pixels, and stored without loss."""
LARGEST_SIDE_PX = 256
MAP_SIDE_PX = 64
WEBP_QUALITY = 85

PixelArray = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class OverlayRow:
    """One image with its class title, and its maps in the order of `cuts`; pictures are data URIs.

    `aspect` is width over height. `pixelated` says that the image is small and has to be enlarged by whole pixels.
    """

    title: str
    image: str
    aspect: float
    pixelated: bool
    maps: tuple[str, ...]


def overlay_rows(overlays: Overlays, *, cuts: tuple[str, ...]) -> tuple[OverlayRow, ...]:
    """Return each image with the map of each of `cuts`."""
    rows: list[OverlayRow] = []
    for index, title in enumerate(overlays.titles):
        image = overlays.images[index]
        height, width = image.shape[:2]
        rows.append(
            OverlayRow(
                title=title,
                image=image_uri(image),
                aspect=width / height,
                pixelated=min(height, width) < SMALLEST_SIDE_PX,
                maps=tuple(map_uri(overlays.maps[cut][index], aspect=width / height) for cut in cuts),
            )
        )
    return tuple(rows)


def image_uri(image: PixelArray) -> str:
    """Return an image (H, W, 3): small ones as PNG without loss, others as WebP with sides of at most 256 pixels."""
    picture = Image.fromarray(image)
    if min(picture.size) < SMALLEST_SIDE_PX:
        return _data_uri(picture, "PNG", optimize=True)
    picture.thumbnail((LARGEST_SIDE_PX, LARGEST_SIDE_PX), Image.Resampling.LANCZOS)
    return _data_uri(picture, "WebP", quality=WEBP_QUALITY, method=6)


def unit_map(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a map by its own maximum into [0, 1]; a map without a positive finite value is all zero."""
    finite = np.nan_to_num(np.asarray(values, np.float32), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0.0)
    largest = float(finite.max(initial=0.0))
    return (finite / largest).astype(np.float32) if largest > 0 else finite


def map_uri(values: NDArray[np.float32], *, aspect: float) -> str:
    """Return a map (h, w) as a PNG in the colours of `map_ramp`, enlarged bilinearly to 64 pixels on its longer side.

    The enlarged map has the image's aspect (width over height), which its own grid may have only roughly.
    """
    size = (MAP_SIDE_PX, round(MAP_SIDE_PX / aspect)) if aspect >= 1 else (round(MAP_SIDE_PX * aspect), MAP_SIDE_PX)
    # Floats (Pillow mode "F") keep the map's precision; 8 bits would show steps on flat maps.
    enlarged = Image.fromarray(unit_map(values)).resize((max(size[0], 1), max(size[1], 1)), Image.Resampling.BILINEAR)
    picture = Image.fromarray(np.rint(255 * np.asarray(enlarged)).astype(np.uint8)).convert("P")
    picture.putpalette(map_ramp().tobytes())
    return _data_uri(picture, "PNG", optimize=True)


def _data_uri(picture: Image.Image, file_format: str, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, format=file_format, **options)
    kind = f"image/{file_format.lower()}"
    return f"data:{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
