"""Where a map's positions lie on the image."""

import numpy as np
import pytest

from isplit.design.importance.overlays import lay_out
from isplit.records import Preprocessing
from tests.design.conftest import make_cut


def preprocessing(height: int, width: int) -> Preprocessing:
    return Preprocessing(
        image_size=(height, width), resize_size=None, interpolation="bilinear", channels=1, mean=(0.0,), std=(1.0,)
    )


@pytest.mark.parametrize(
    ("shape", "axis", "image", "expected"),
    [
        ((8, 4, 6), 1, (32, 48), (4, 6)),
        ((4, 6, 8), -1, (32, 48), (4, 6)),
        ((17, 8), -1, (32, 32), (4, 4)),
        ((16, 8), -1, (32, 32), (4, 4)),
        ((8, 16), 1, (32, 32), (4, 4)),
        ((5, 8), -1, (16, 64), (1, 4)),
    ],
)
def test_positions_form_the_image_s_grid(
    shape: tuple[int, ...], axis: int, image: tuple[int, int], expected: tuple[int, int]
) -> None:
    """Maps keep their rows; tokens fill the grid from the end, so that a class token in front is left out."""
    extents = shape[1:] if axis == 1 else shape[:-1]
    values = np.arange(2 * np.prod(extents), dtype=np.float32).reshape(2, -1)

    maps = lay_out(values, make_cut(shape, axis), preprocessing(*image))

    assert maps is not None
    assert (2, *expected) == maps.shape
    assert values[0, -1] == maps[0, -1, -1]


def test_windows_are_no_picture() -> None:
    """MaxViT's windows × positions have not the image's proportions: no overlay rather than a wrong one."""
    assert lay_out(np.zeros((1, 64 * 49), np.float32), make_cut((64, 49, 16), -1), preprocessing(224, 224)) is None
