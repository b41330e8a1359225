"""isplit.codec.image: pixels equal torchvision's, and hostile files are refused."""

import io

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from isplit.codec.image import MAX_PIXELS, compress, decode_image, preprocess, restore
from isplit.errors import DataError
from isplit.records import ImageSetting
from tests.codec.pictures import make_preprocessing, noise, png


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    ("height", "width", "resize", "size"),
    [
        (47, 61, 40, (32, 32)),
        (61, 47, 40, (33, 31)),
        (64, 64, 64, (64, 64)),
        (50, 37, 24, (32, 32)),
        (50, 37, 24, (20, 40)),
        (20, 21, 77, (64, 63)),
        (9, 3, 5, (16, 4)),
    ],
)
def test_equals_torchvision(interpolation, mode, height, width, resize, size):
    """Resize and centre crop give torchvision's pixels exactly, padding included."""
    image = noise(height, width, mode=mode)
    theirs = transforms.Compose(
        [
            transforms.Resize(resize, interpolation=transforms.InterpolationMode(interpolation), antialias=True),
            transforms.CenterCrop(size),
        ]
    )(image)
    channels = len(mode)

    ours = preprocess(
        image, make_preprocessing(size, resize_size=resize, interpolation=interpolation, channels=channels)
    )

    assert (*size, channels) == ours.shape
    np.testing.assert_array_equal(np.asarray(theirs).reshape(ours.shape), ours)


def test_no_resize_size_squashes_to_the_image_size():
    """Without a resize size both sides go straight to the image size, as torchvision's Resize((h, w)) does."""
    image = noise(40, 70)
    theirs = transforms.Resize((24, 16), antialias=True)(image)

    ours = preprocess(image, make_preprocessing((24, 16), resize_size=None))

    np.testing.assert_array_equal(np.asarray(theirs), ours)


def test_an_image_of_the_right_size_is_unchanged():
    """Nothing is filtered when the size is already the model's, and the input is not written to."""
    image = noise(32, 32)

    pixels = preprocess(image, make_preprocessing())
    pixels[:] = 0

    np.testing.assert_array_equal(np.asarray(noise(32, 32)), np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_common_mode_is_converted(mode, channels):
    """Any 8-bit mode becomes one or three channels as Pillow's convert does, alpha dropped."""
    image = noise(32, 32).convert(mode)

    pixels = preprocess(image, make_preprocessing(channels=channels))

    expected = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(32, 32, channels)
    np.testing.assert_array_equal(expected, pixels)


def test_palette_with_transparency_gives_no_warning():
    """A palette image with per-entry transparency converts to its colours (warnings are errors here)."""
    image = noise(32, 32).convert("P")
    expected = np.asarray(image.convert("RGB"))
    image.info["transparency"] = bytes(range(256))

    np.testing.assert_array_equal(expected, preprocess(image, make_preprocessing()))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_sixteen_bit_grey_keeps_its_upper_byte(dtype):
    """16-bit grey is scaled to 8 bits by its range, in either of the modes Pillow opens it in."""
    values = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(dtype)

    pixels = preprocess(Image.fromarray(values), make_preprocessing(channels=1))

    np.testing.assert_array_equal(values // 256, pixels[:, :, 0])


def test_values_beyond_sixteen_bits_are_refused():
    """A 32-bit image with larger values has no known range."""
    image = Image.fromarray(np.full((32, 32), 70_000, dtype=np.int32))

    with pytest.raises(DataError, match="beyond 16 bits"):
        preprocess(image, make_preprocessing())


def test_floats_are_refused():
    """An image of floats has no known range."""
    with pytest.raises(DataError, match="floats"):
        preprocess(Image.new("F", (32, 32)), make_preprocessing())


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, lambda a: a), (2, np.fliplr), (3, lambda a: np.rot90(a, 2)), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
def test_exif_orientation_is_applied(format_, orientation, turned):
    """The image stands upright, as the camera was held, in every format that says how."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise(20, 32).save(file, format_, exif=exif, **({"lossless": True} if format_ == "WEBP" else {}))

    pixels = np.asarray(decode_image(file, name="rotated"))

    np.testing.assert_array_equal(turned(np.asarray(noise(20, 32))), pixels)


@pytest.mark.parametrize("size", [(0, 4), (4, 0)])
def test_an_empty_image_is_refused(size):
    """An image without pixels cannot be resized."""
    with pytest.raises(DataError, match="pixels"):
        preprocess(Image.new("RGB", size), make_preprocessing())


def test_an_elongated_image_is_refused_before_memory_is_taken():
    """1 x 1,000,000 pixels with the shorter side at 224 would be 50 gigapixels."""
    with pytest.raises(DataError, match="resized"):
        preprocess(Image.new("L", (1_000_000, 1)), make_preprocessing(resize_size=224))


def test_decode_reads_a_good_file(tmp_path):
    """A path and an open file give the same pixels."""
    path = tmp_path / "good.png"
    noise(8, 9).save(path)

    from_path = decode_image(path, name="good.png")
    from_file = decode_image(io.BytesIO(path.read_bytes()), name="good.png")

    np.testing.assert_array_equal(np.asarray(noise(8, 9)), np.asarray(from_path))
    np.testing.assert_array_equal(np.asarray(from_path), np.asarray(from_file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"not an image", "bad.png is not an image", id="text"),
        pytest.param(b"", "bad.png is empty", id="empty"),
        pytest.param(png(8, 8, rows=b"\0\0"), "bad.png is damaged", id="truncated"),
        pytest.param(png(20_000, 20_000), f"bad.png is larger than {MAX_PIXELS}", id="bomb"),
        pytest.param(png(10_000, 9_000), f"bad.png (is larger than|has 10000 x 9000).*{MAX_PIXELS}", id="large"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "holds PostScript", id="postscript"),
    ],
)
def test_decode_refuses(content, message):
    """What is not a whole, reasonable image is an error that names the file."""
    with pytest.raises(DataError, match=message):
        decode_image(io.BytesIO(content), name="bad.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decode_refuses_large_images_when_the_warning_is_only_shown():
    """The limit does not depend on how Python treats Pillow's warning."""
    with pytest.raises(DataError, match="10000 x 9000"):
        decode_image(io.BytesIO(png(10_000, 9_000)), name="bad.png")


def test_decode_refuses_a_missing_file(tmp_path):
    """A path that cannot be opened is an error that names it."""
    with pytest.raises(DataError, match=r"gone\.png"):
        decode_image(tmp_path / "gone.png", name="gone.png")


# --- what is sent to a server ---

PNG = ImageSetting(format="png", quality=None, accuracy=None, payload_bytes_mean=0, payload_bytes_p95=0)


def sample(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def there_and_back(pixels, preprocessing, **setting):
    content = compress(pixels, PNG.model_copy(update=setting))
    return restore(decode_image(io.BytesIO(content), name="sent"), preprocessing)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("setting", [{}, {"format": "webp"}])
def test_sent_without_loss(channels, setting):
    """What a device sends without loss, the server restores pixel for pixel; it is not cropped a second time."""
    pixels = sample(12, 10, channels)
    restored = there_and_back(pixels, make_preprocessing(size=(12, 10), resize_size=16, channels=channels), **setting)
    np.testing.assert_array_equal(pixels, restored)


@pytest.mark.parametrize(("scale", "size"), [(0.75, (8, 9)), (0.5, (5, 6))])
def test_sent_smaller(scale, size):
    """Sent at three quarters or half the side, the server gets that and enlarges it."""
    content = compress(sample(12, 10), PNG.model_copy(update={"scale": scale}))
    image = decode_image(io.BytesIO(content), name="sent")
    assert size == image.size
    assert (12, 10, 3) == restore(image, make_preprocessing(size=(12, 10), resize_size=16)).shape


@pytest.mark.parametrize(("format_", "quality"), [("jpeg", 90), ("webp", 80), ("webp", 1)])
def test_sent_with_loss(format_, quality):
    """JPEG and WebP are taken at their quality, and restored to the model's size."""
    content = compress(sample(12, 10), PNG.model_copy(update={"format": format_, "quality": quality}))
    image = Image.open(io.BytesIO(content))
    assert format_.upper() == image.format
    assert (12, 10, 3) == restore(image, make_preprocessing(size=(12, 10), resize_size=16)).shape


@pytest.mark.parametrize("size", [(13, 11), (12, 12), (40, 30)])
def test_sent_as_it_comes(size):
    """A picture that is larger than the model's input, or of other proportions, is preprocessed."""
    picture, how = Image.fromarray(sample(*size)), make_preprocessing(size=(12, 10), resize_size=16)
    np.testing.assert_array_equal(preprocess(picture, how), restore(picture, how))
