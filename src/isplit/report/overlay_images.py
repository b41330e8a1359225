"""Importance maps laid over their images, as PNG data URIs that a page can hold without other files."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isplit.errors import needs_extra
from isplit.records import Overlays

SMALLEST_SIDE_PX = 128
LARGEST_SIDE_PX = 256
OPACITY = 0.5

RGB = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class OverlayRow:
    """One image with its title and, in the order of `cuts`, the same image under each cut's map (data URIs)."""

    title: str
    image: str
    overlays: tuple[str, ...]


def overlay_rows(overlays: Overlays, *, cuts: tuple[str, ...]) -> tuple[OverlayRow, ...]:
    """Draw the map of each of `cuts` over each image.

    Raises:
        MissingExtraError: matplotlib, whose colours are used, is not installed.

    """
    rows: list[OverlayRow] = []
    for index, title in enumerate(overlays.titles):
        image = shown_size(overlays.images[index])
        drawn = tuple(data_uri(blend(image, overlays.maps[cut][index])) for cut in cuts)
        rows.append(OverlayRow(title=title, image=data_uri(image), overlays=drawn))
    return tuple(rows)


def shown_size(image: RGB) -> RGB:
    """Return the image with sides of at least 128 px (whole multiples, true pixels) and at most 256 px."""
    height, width = image.shape[:2]
    factor = -(-SMALLEST_SIDE_PX // min(height, width))
    if factor > 1:
        return np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    if max(height, width) <= LARGEST_SIDE_PX:
        return image
    scale = LARGEST_SIDE_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def unit_map(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a map by its own maximum into [0, 1]; a map without a positive finite value is all zero."""
    finite = np.nan_to_num(np.asarray(values, np.float32), nan=0.0, posinf=0.0, neginf=0.0).clip(min=0.0)
    largest = float(finite.max(initial=0.0))
    return (finite / largest).astype(np.float32) if largest > 0 else finite


def blend(image: RGB, values: NDArray[np.float32]) -> RGB:
    """Lay a map (h, w) half transparent over an image (H, W, 3): bright where important, dark where not.

    The map is enlarged bilinearly, which stays within its own range.
    """
    with needs_extra("design"):
        from matplotlib import colormaps
    height, width = image.shape[:2]
    # Floats (Pillow mode "F") keep the map's precision; 8 bits would show steps on flat maps.
    enlarged = Image.fromarray(unit_map(values)).resize((width, height), Image.Resampling.BILINEAR)
    colours = colormaps["inferno"](np.asarray(enlarged))[..., :3] * 255
    return np.rint((1 - OPACITY) * image + OPACITY * colours).astype(np.uint8)


def data_uri(image: RGB) -> str:
    """Return the image as a PNG inside a data URI."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
