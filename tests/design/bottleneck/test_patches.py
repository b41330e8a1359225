"""A crossing tensor is cut into vectors and put together again."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from isplit.design.bottleneck.patches import PatchLayout
from tests.design.conftest import make_cut


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    channels=st.integers(1, 3),
    patch=st.sampled_from([1, 2, 4]),
    axis=st.sampled_from([1, -1]),
)
def test_patches_come_back(rows: int, columns: int, channels: int, patch: int, axis: int) -> None:
    """Splitting into patches and joining them is the identity, padding included."""
    shape = (channels, rows, columns) if axis == 1 else (rows, columns, channels)
    layout = PatchLayout(shape, axis, patch)
    tensor = torch.randn(2, *shape)

    vectors = layout.split(tensor)

    assert (2, layout.vectors, layout.width) == vectors.shape
    assert torch.equal(tensor, layout.join(vectors))


def test_a_vector_holds_one_patch() -> None:
    """Channels first, then rows and columns of the patch; a patch over the edge repeats it and is not whole."""
    layout = PatchLayout((1, 3, 2), 1, 2)
    vectors = layout.split(torch.arange(6.0).reshape(1, 1, 3, 2))

    assert [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 4.0, 5.0]] == vectors[0].tolist()
    assert [True, False] == layout.whole().tolist()


def test_tokens_are_vectors_as_they_are() -> None:
    """N×T×D needs no patches."""
    layout = PatchLayout.of(make_cut((5, 8), -1))
    tokens = torch.randn(3, 5, 8)

    assert torch.equal(tokens, layout.split(tokens))
    assert torch.equal(tokens, layout.join(tokens))
