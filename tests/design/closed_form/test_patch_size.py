"""The size of the patches follows from the channels, the images and the budget."""

import pytest

from isplit.design.bottleneck.patches import PatchLayout
from isplit.design.closed_form.patch_size import possible_patches
from tests.design.conftest import make_cut


@pytest.mark.parametrize(
    ("shape", "images", "expected"),
    [
        ((3, 64, 64), 640, 8),
        ((64, 64, 64), 640, 4),
        ((256, 16, 16), 640, 2),
        ((512, 8, 8), 640, 2),
        ((512, 4, 4), 128, 2),
        ((512, 4, 4), 127, 1),
        ((512, 5, 5), 128, 2),
        ((64, 3, 3), 640, 2),
        ((64, 1, 9), 640, 1),
        ((3000, 8, 8), 640, 1),
        ((512,), 640, 1),
    ],
)
def test_patch_by_width_and_samples(shape: tuple[int, ...], images: int, expected: int) -> None:
    """At most 2048 numbers a vector, a whole patch in the map, and at least a quarter of a sample a number."""
    cut = make_cut(shape)

    assert [(expected, PatchLayout.of(cut).channels)] == possible_patches(cut, images=images, compared=False)


@pytest.mark.parametrize(
    ("shape", "images", "expected"),
    [
        # One patch of 8 in an image: 2,048 numbers from 640 images are too few to be sure of, and 1,024 as well.
        ((32, 8, 8), 640, [(8, 32), (4, 32)]),
        ((32, 8, 8), 2047, [(8, 32), (4, 32)]),
        ((32, 8, 8), 2048, [(8, 32)]),
        # After patches of 2 come single positions.
        ((512, 4, 4), 511, [(2, 512), (1, 512)]),
        ((512, 4, 4), 512, [(2, 512)]),
    ],
)
def test_few_samples_are_compared_with_smaller_patches(
    shape: tuple[int, ...], images: int, expected: list[tuple[int, int]]
) -> None:
    """Where vectors have fewer samples than numbers, the next smaller patches are compared, and nothing else."""
    assert expected == possible_patches(make_cut(shape), images=images)
    assert expected[:1] == possible_patches(make_cut(shape), images=images, compared=False)


@pytest.mark.parametrize(
    ("eigenvalues", "loss", "expected"),
    [
        # All of the energy in 10 directions: they fit into patches of 8, 32 channels at most, and nothing is given up.
        ([1.0] * 10 + [0.0] * 246, 0.0, [(8, 10)]),
        # In 100: patches of 4, 128 channels at most.
        ([1.0] * 100 + [0.0] * 156, 0.0, [(4, 100)]),
        # Spread over all 256: nothing can be given up, patches of 2 hold 512.
        ([1.0] * 256, 0.0, [(2, 256)]),
        # 6.5 % are outside of 32 channels, 3.7 % outside of 128: a budget that loses much anyway can spare them, and
        # whether it gains by it is for images to tell.
        ([93.5 / 32] * 32 + [6.5 / 224] * 224, 0.28, [(8, 32), (4, 128)]),
        ([93.5 / 32] * 32 + [6.5 / 224] * 224, 0.26, [(4, 128), (2, 256)]),
        ([93.5 / 32] * 32 + [6.5 / 224] * 224, 0.08, [(4, 128), (2, 256)]),
        ([93.5 / 32] * 32 + [6.5 / 224] * 224, 0.07, [(2, 256)]),
    ],
)
def test_channels_that_hardly_matter_make_room(
    eigenvalues: list[float], loss: float, expected: list[tuple[int, int]]
) -> None:
    """Larger patches may do where the channels that do not fit hold little beside what is lost anyway."""
    possible = possible_patches(make_cut((256, 16, 16)), images=640, eigenvalues=eigenvalues, loss=loss)

    assert expected == possible


@pytest.mark.parametrize(("loss", "expected"), [(0.55, (8, 32)), (0.53, (4, 128)), (0.15, (4, 128)), (0.14, (2, 256))])
def test_patches_that_are_not_compared(loss: float, expected: tuple[int, int]) -> None:
    """Without images to compare them on, there is one choice, which gives up half as much."""
    eigenvalues = [93.5 / 32] * 32 + [6.5 / 224] * 224
    possible = possible_patches(make_cut((256, 16, 16)), images=640, eigenvalues=eigenvalues, loss=loss, compared=False)

    assert [expected] == possible
