"""Pictures of any number of channels: each channel is resized as a grey picture, and compressed ones come back."""

import io

import numpy as np
import pytest
from PIL import Image

from isplit.codec.bands import plain_picture, shown, stacked, unstacked
from isplit.codec.image import compress, preprocess, restore
from isplit.errors import DataError
from isplit.records import Compression, Preprocessing


def preprocessing(channels, size=(8, 6)):
    return Preprocessing(
        image_size=size,
        resize_size=None,
        interpolation="bilinear",
        channels=channels,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )


def gradient(channels, height=16, width=20):
    """Channels that differ: ramps of growing steepness."""
    ramp = np.linspace(0, 200, width)[None, :, None] * np.linspace(0.2, 1, channels)[None, None, :]
    return np.broadcast_to(ramp, (height, width, channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", [2, 5])
def test_each_channel_is_a_grey_picture(channels):
    """Resized and cropped as the grey picture of that channel would be."""
    pixels = gradient(channels)

    resized = preprocess(pixels, preprocessing(channels))

    assert (8, 6, channels) == resized.shape
    for number in range(channels):
        alone = preprocess(Image.fromarray(pixels[:, :, number].copy()), preprocessing(1))
        np.testing.assert_array_equal(alone[:, :, 0], resized[:, :, number])


def test_transparency_is_a_channel_of_a_model_of_four():
    """A PNG with transparency has four channels, and one without has not."""
    pixels = gradient(4)

    np.testing.assert_array_equal(
        preprocess(pixels, preprocessing(4)), preprocess(Image.fromarray(pixels), preprocessing(4))
    )
    with pytest.raises(DataError, match=r"photo.png is a picture of the kind RGB, and the model takes 4 channels"):
        preprocess(Image.fromarray(gradient(3)), preprocessing(4), name="photo.png")


@pytest.mark.parametrize(("given", "taken"), [(5, 3), (5, 1), (5, 4), (2, 5)])
def test_another_number_of_channels_is_refused(given, taken):
    """The message says what was given and what the model takes."""
    with pytest.raises(DataError, match=rf"\(16, 20, {given}\), and the model takes {taken} channels"):
        preprocess(gradient(given), preprocessing(taken))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("scale", [1, 0.5])
def test_compressed_channels_come_back(channels, scale):
    """Nearly, through JPEG, at full and half size."""
    pixels = gradient(channels, 32, 32)
    content = compress(pixels, Compression(format="jpeg", quality=95, scale=scale))

    back = restore(Image.open(io.BytesIO(content)), preprocessing(channels, (32, 32)))

    assert pixels.shape == back.shape
    assert np.abs(back.astype(int) - pixels.astype(int)).mean() < 6


def test_stacked_channels_of_other_proportions_are_refused():
    """A picture as it comes does not tell its channels apart."""
    pixels = gradient(5)

    np.testing.assert_array_equal(pixels, unstacked(stacked(pixels), 5, (16, 20)))
    with pytest.raises(DataError, match="for 5 channels give 20 x 80"):
        unstacked(Image.new("L", (20, 16)), 5, (16, 20))


@pytest.mark.parametrize(
    ("shape", "mode"), [((4, 5), "L"), ((4, 1), "L"), ((4, 5, 1), "L"), ((4, 1, 3), "RGB"), ((4, 5, 4), "RGBA")]
)
def test_arrays_that_are_pictures(shape, mode):
    """An array of one, three or four channels is a PIL image of the same pixels, be it only one pixel wide."""
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)

    picture = plain_picture(pixels)

    assert isinstance(picture, Image.Image)
    assert mode == picture.mode
    np.testing.assert_array_equal(pixels.reshape(shape[:2] if mode == "L" else shape), np.asarray(picture))


@pytest.mark.parametrize("channels", [2, 5])
def test_arrays_that_are_no_pictures(channels):
    """An array of another number of channels stays an array, and an image stays the same object."""
    image = Image.new("L", (5, 4))

    assert image is plain_picture(image)
    np.testing.assert_array_equal(gradient(channels), plain_picture(gradient(channels)))


@pytest.mark.parametrize(("channels", "visible"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (5, [0, 1, 2])])
def test_what_people_see(channels, visible):
    """The first three channels, or the first one in grey."""
    pixels = gradient(channels)

    np.testing.assert_array_equal(pixels[:, :, visible], shown(pixels))
