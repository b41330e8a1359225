"""Maps over images."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from isplit.records import Overlays
from isplit.report.colours import map_ramp
from isplit.report.overlay_images import image_uri, map_uri, overlay_rows, unit_map


def test_map_is_scaled_by_its_own_maximum():
    """The largest value becomes 1, whatever its unit."""
    expected = [[0.0, 0.25], [0.5, 1.0]]
    assert expected == unit_map(np.array([[0, 1e-6], [2e-6, 4e-6]], np.float32)).tolist()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_map_without_a_positive_finite_value_is_zero(value: float):
    """Nothing is divided by zero, and no NaN reaches the colours."""
    expected = np.zeros((2, 2)).tolist()
    assert expected == unit_map(np.full((2, 2), value, np.float32)).tolist()


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(32, 32, (32, 32)), (127, 300, (300, 127)), (224, 224, (224, 224)), (512, 256, (128, 256))],
)
def test_large_images_are_made_smaller(height: int, width: int, expected: tuple[int, int]):
    """Sides are at most 256 pixels, the aspect stays, and small images stay as they are."""
    assert expected == decoded(image_uri(np.zeros((height, width, 3), np.uint8))).size


def test_small_images_keep_true_pixels():
    """The PNG of a small image decodes to the same pixels."""
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    uri = image_uri(image)
    assert uri.startswith("data:image/png;base64,")
    assert np.array_equal(image, np.asarray(decoded(uri)))


def test_photographs_are_stored_small():
    """A page with many of them stays light: 224 pixels of noise, the worst case, take less than 60 KB."""
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    uri = image_uri(image)
    assert uri.startswith("data:image/webp;base64,")
    assert len(uri) < 60_000


def test_map_has_the_ramp_colours():
    """The maximum is the ramp's last colour and zero is its first, whatever the unit."""
    colours = np.asarray(decoded(map_uri(np.array([[0, 0], [0, 1e-6]], np.float32), aspect=1.0)).convert("RGB"))
    assert map_ramp()[0].tolist() == colours[0, 0].tolist()
    assert map_ramp()[255].tolist() == colours[-1, -1].tolist()


@pytest.mark.parametrize(
    ("aspect", "expected"), [(1.0, (64, 64)), (2.0, (64, 32)), (0.25, (16, 64)), (1000.0, (64, 1))]
)
def test_map_has_the_aspect_of_its_image(aspect: float, expected: tuple[int, int]):
    """A grid that has the image's proportions only roughly is stretched to them."""
    assert expected == decoded(map_uri(np.ones((7, 7), np.float32), aspect=aspect)).size


def test_map_is_bright_where_it_belongs():
    """A map that is important in its top left corner is bright there, not elsewhere."""
    grey = np.asarray(decoded(map_uri(np.array([[1, 0], [0, 0]], np.float32), aspect=1.0)).convert("L"))
    assert grey[:16, :16].mean() > 200
    assert grey[48:, 48:].mean() < 20


def test_rows_follow_the_order_of_the_cuts(overlays: Overlays):
    """One row per image, one map per cut in the order asked for."""
    rows = overlay_rows(overlays, cuts=("features.28", "features.4"))
    expected = ["goldfish", "<b>&cat", "school bus"]
    assert expected == [row.title for row in rows]
    swapped = overlay_rows(overlays, cuts=("features.4", "features.28"))
    assert rows[0].maps == swapped[0].maps[::-1]
    assert rows[0].pixelated
