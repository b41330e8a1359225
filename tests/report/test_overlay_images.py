"""Maps over images."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from isplit.records import Overlays
from isplit.report.overlay_images import blend, data_uri, overlay_rows, shown_size, unit_map


def test_map_is_scaled_by_its_own_maximum():
    """The largest value becomes 1, whatever its unit."""
    expected = [[0.0, 0.25], [0.5, 1.0]]
    assert expected == unit_map(np.array([[0, 1e-6], [2e-6, 4e-6]], np.float32)).tolist()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_map_without_a_positive_finite_value_is_zero(value: float):
    """Nothing is divided by zero, and no NaN reaches the colours."""
    expected = np.zeros((2, 2)).tolist()
    assert expected == unit_map(np.full((2, 2), value, np.float32)).tolist()


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(32, 32, (128, 128)), (28, 28, (140, 140)), (224, 224, (224, 224)), (512, 256, (256, 128))],
)
def test_images_are_shown_between_128_and_256_pixels(height: int, width: int, expected: tuple[int, int]):
    """Small images grow by whole multiples, large ones shrink, and the aspect stays."""
    assert expected == shown_size(np.zeros((height, width, 3), np.uint8)).shape[:2]


def test_small_images_keep_true_pixels():
    """Enlarging repeats each pixel."""
    image = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    assert np.array_equal(image, shown_size(image)[::2, ::2])
    assert np.array_equal(image, shown_size(image)[1::2, 1::2])


def test_blend_is_half_image_half_colour():
    """Where the map is at its maximum, inferno's last colour (252, 255, 164) is mixed with the grey 100."""
    image = np.full((4, 4, 3), 100, np.uint8)
    expected = [[[176, 177, 132]] * 4] * 4
    assert expected == blend(image, np.ones((1, 1), np.float32)).tolist()


def test_blend_puts_the_map_where_it_belongs():
    """A map that is bright in its top left corner brightens the image there, not elsewhere."""
    drawn = blend(np.zeros((128, 128, 3), np.uint8), np.array([[1, 0], [0, 0]], np.float32))
    assert drawn[:32, :32].mean() > 100
    assert drawn[96:, 96:].mean() < 5


def test_data_uri_holds_the_image():
    """The PNG inside the URI decodes to the same pixels."""
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    scheme, encoded = data_uri(image).split(",")
    assert scheme == "data:image/png;base64"
    assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))))


def test_rows_follow_the_order_of_the_cuts(overlays: Overlays):
    """One row per image, one overlay per cut in the order asked for."""
    rows = overlay_rows(overlays, cuts=("features.28", "features.4"))
    expected = ["goldfish", "<b>&cat", "school bus"]
    assert expected == [row.title for row in rows]
    swapped = overlay_rows(overlays, cuts=("features.4", "features.28"))
    assert rows[0].overlays == swapped[0].overlays[::-1]
