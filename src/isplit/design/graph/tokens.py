"""Locate the tokens of a sequence in the image: the grid of patches, and the tokens before it."""

from isplit.records import Cut


def prefix_tokens(cut: Cut, image_size: tuple[int, int]) -> int:
    """Return how many tokens stand in front of the image's grid (class and register tokens).

    The grid is the largest with the image's proportions that the tokens fill. A cut without tokens gives 0.
    """
    if cut.channel_axis != -1 or len(cut.shape) != 2:
        return 0
    tokens = cut.shape[0]
    rows, columns = token_grid(tokens, image_size)
    return tokens - rows * columns if rows * columns else 0


def token_grid(tokens: int, image_size: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of the largest grid of an image's (height, width) proportions that the tokens fill."""
    height, width = image_size
    rows = int((tokens * height / width) ** 0.5)
    columns = round(rows * width / height)
    return (rows, columns) if rows * columns <= tokens else (0, 0)
