"""Where tokens lie in the image."""

import pytest

from isplit.design.graph.tokens import prefix_tokens, token_grid
from tests.design.conftest import make_cut


@pytest.mark.parametrize(
    ("tokens", "image_size", "grid"),
    [
        (49, (224, 224), (7, 7)),
        (50, (224, 224), (7, 7)),
        (201, (224, 224), (14, 14)),
        (8, (32, 64), (2, 4)),
        (9, (64, 32), (4, 2)),
        (2, (32, 96), (0, 0)),
    ],
)
def test_the_grid_is_the_largest_of_the_image_s_proportions(
    tokens: int, image_size: tuple[int, int], grid: tuple[int, int]
) -> None:
    """Square images have square grids; class and register tokens do not fill another row."""
    assert grid == token_grid(tokens, image_size)


@pytest.mark.parametrize(("tokens", "prefix"), [(49, 0), (50, 1), (54, 5)])
def test_what_does_not_fill_the_grid_stands_in_front_of_it(tokens: int, prefix: int) -> None:
    """A class token is one, with four registers they are five."""
    assert prefix == prefix_tokens(make_cut((tokens, 32), -1), (224, 224))


def test_maps_have_no_tokens_in_front() -> None:
    """Whether their channels are first or last."""
    assert 0 == prefix_tokens(make_cut((8, 5, 5)), (224, 224))
    assert 0 == prefix_tokens(make_cut((5, 5, 8), -1), (224, 224))
