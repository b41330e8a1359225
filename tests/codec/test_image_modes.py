"""isplit.codec.image_modes: pixels come to 8 bits by what their file says, and what stays uncertain is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from isplit.codec.image_modes import StoredPixels, check_mode, grey_to_eight_bits, stored_pixels, to_eight_bits, upright
from isplit.errors import DataError

EIGHT = StoredPixels(bits=None, white_is_zero=False, signed=False)


def ramp(highest):
    return np.linspace(0, highest, 256).reshape(16, 16).astype(np.uint16)


@pytest.mark.parametrize(("bits", "highest"), [(16, 65535), (12, 4095)])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_upper_byte(bits, highest, white_is_zero):
    """Grey of 12 and 16 bits keeps its upper eight, black being 0 whichever way it was stored."""
    values = ramp(highest)

    grey = grey_to_eight_bits(Image.fromarray(values), name="x", bits=bits, white_is_zero=white_is_zero)

    expected = ((highest - values if white_is_zero else values) >> (bits - 8)).astype(np.uint8)
    np.testing.assert_array_equal(expected, np.asarray(grey))
    assert "L" == grey.mode


@pytest.mark.parametrize(("highest", "bits"), [(255, 8), (1023, 10), (4095, 12), (16383, 14)])
def test_fewer_bits_than_said(highest, bits):
    """16-bit grey that never uses its upper two bits is refused, and the bits that it seems to have are told."""
    with pytest.raises(DataError, match=f"x has 16 bits per sample, but no value above {highest}: .* {bits} bits"):
        grey_to_eight_bits(Image.fromarray(ramp(highest)), name="x")


def test_the_smallest_range_of_sixteen_bits():
    """One value that needs 15 bits is enough, and so is true black."""
    assert 64 == np.asarray(grey_to_eight_bits(Image.fromarray(ramp(16384)), name="x")).max()
    assert 0 == np.asarray(grey_to_eight_bits(Image.fromarray(ramp(0)), name="x")).max()


@pytest.mark.parametrize("value", [-1, 65536])
def test_values_beyond_sixteen_bits(value):
    """A 32-bit image with other values has no known range."""
    with pytest.raises(DataError, match="beyond 16 bits"):
        grey_to_eight_bits(Image.fromarray(np.full((4, 4), value, np.int32)), name="x")


@pytest.mark.parametrize(
    ("mode", "stored", "message"),
    [
        ("F", EIGHT, "floats"),
        ("LAB", EIGHT, "mode LAB"),
        ("L", StoredPixels(bits=None, white_is_zero=False, signed=True), "signed"),
        ("I", StoredPixels(bits=32, white_is_zero=False, signed=False), "32-bit integers"),
        ("RGB", StoredPixels(bits=16, white_is_zero=False, signed=False), "no value above 255: .* 8 bits"),
    ],
)
def test_refused(mode, stored, message):
    """What has no agreed range is refused by name."""
    with pytest.raises(DataError, match=f"^x .*{message}"):
        to_eight_bits(Image.new(mode, (4, 4)), stored, name="x")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_eight_bits_stay(mode):
    """Modes of 8 bits pass as they are."""
    image = Image.new(mode, (4, 4))

    assert image is to_eight_bits(image, EIGHT, name="x")
    check_mode(image, name="x")


@pytest.mark.parametrize(
    ("image", "format_", "expected"),
    [
        (Image.fromarray(ramp(65535)), "PNG", StoredPixels(bits=16, white_is_zero=False, signed=False)),
        (Image.fromarray(ramp(65535)), "TIFF", StoredPixels(bits=16, white_is_zero=False, signed=False)),
        (Image.new("I", (4, 4)), "TIFF", StoredPixels(bits=32, white_is_zero=False, signed=True)),
        (Image.new("RGB", (4, 4)), "TIFF", EIGHT),
        (Image.new("RGB", (4, 4)), "JPEG", EIGHT),
        (Image.new("RGB", (4, 4)), "WEBP", EIGHT),
        (Image.new("P", (4, 4)), "GIF", EIGHT),
    ],
)
def test_what_files_say(image, format_, expected):
    """How samples are stored is read off the opened file, before it is decoded."""
    file = io.BytesIO()
    image.copy().save(file, format_)

    assert expected == stored_pixels(Image.open(file))


def test_upright_copies():
    """What is returned is a copy, turned or not, so that it holds no file open."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for orientation, size in ((1, (5, 3)), (6, (3, 5))):
        exif[0x0112] = orientation
        file = io.BytesIO()
        Image.new("RGB", (5, 3)).save(file, "PNG", exif=exif)
        image = Image.open(file)

        assert size == upright(image).size
        assert image is not upright(image)


@pytest.mark.parametrize(("sample", "highest", "bits"), [(0, 255, 8), (3, 1023, 10), (63, 16383, 14)])
def test_colours_of_fewer_bits_than_said(sample, highest, bits):
    """Of 16-bit colours the upper byte tells how many bits are used at most; from the 15th on they are taken."""
    sixteen = StoredPixels(bits=16, white_is_zero=False, signed=False)

    with pytest.raises(DataError, match=f"no value above {highest}: it seems to hold {bits} bits"):
        to_eight_bits(Image.new("RGB", (4, 4), (0, sample, 0)), sixteen, name="x")
    assert (0, 64, 0) == to_eight_bits(Image.new("RGB", (4, 4), (0, 64, 0)), sixteen, name="x").getpixel((0, 0))
