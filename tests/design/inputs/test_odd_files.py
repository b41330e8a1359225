"""What the study sees of a file is what the device sees: the same pixels, or the same refusal that names the file."""

import io
import struct
import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from isplit.codec.image import preprocess
from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.data import open_data
from isplit.errors import DataError
from isplit.records import Preprocessing
from isplit.runtime.edge.device import Device
from isplit.runtime.edge.pictures import open_picture

HEIGHT, WIDTH = 40, 56
PREPROCESSING = {
    channels: Preprocessing(
        image_size=(24, 24),
        resize_size=28,
        interpolation="bilinear",
        channels=channels,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    for channels in (1, 3)
}


def base():
    """A smooth picture that looks different however it is turned."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    channels = (30 + 4 * x, 40 + 5 * y, 250 - 3 * x - y)
    return Image.fromarray(np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8))


def saved(image, format_, **options):
    file = io.BytesIO()
    image.copy().save(file, format_, **options)  # a copy: Pillow keeps an encoder's settings in the image
    return file.getvalue()


def turned(image, format_, orientation, **options):
    """Return a file in which the image is stored as a camera held that way would, and EXIF says so."""
    back = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}[orientation]
    for method in back:
        image = image.transpose(Image.Transpose(method))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, format_, exif=exif, **options)


def png(values, colour_type, bits=16, **chunks):
    """Return a PNG file of samples H×W×N with so many bits."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    rows = values.astype(">u2" if bits == 16 else np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    extra = b"".join(chunk(kind.encode(), data) for kind, data in chunks.items())
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )


def tiff(content, *, bits, photometric=1, sample_format=1, big_endian=False):
    """Return a TIFF file of one uncompressed grey strip of the base picture's size."""
    order = ">" if big_endian else "<"
    content += b"\0" * (len(content) % 2)
    tags = {
        256: WIDTH, 257: HEIGHT, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: HEIGHT, 279: len(content),
        339: sample_format,
    }  # fmt: skip
    directory = struct.pack(f"{order}H", len(tags))
    for tag, value in sorted(tags.items()):
        directory += struct.pack(f"{order}HHII", tag, 4, 1, value)
    head = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(f"{order}I", 8 + len(content))
    return head + content + directory + b"\0\0\0\0"


def planes(values, *, bits):
    """Return a TIFF file of H×W×N samples that stores one colour after the other."""
    height, width, channels = values.shape
    content = values.transpose(2, 0, 1).astype("<u2" if bits == 16 else np.uint8).tobytes()
    # Behind the pixels: the bits of each sample, and where each colour begins and how many bytes it has.
    behind, size = 8 + len(content), len(content) // channels
    tables = struct.pack(f"<{channels}H", *[bits] * channels)
    tables += struct.pack(f"<{2 * channels}I", *[8 + size * k for k in range(channels)], *[size] * channels)
    places = behind + 2 * channels
    tags = (
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, behind), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, channels, places), (277, 3, 1, channels), (278, 4, 1, height),
        (279, 4, channels, places + 4 * channels), (284, 3, 1, 2),
    )  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", behind + len(tables)) + content + tables + directory + b"\0\0\0\0"


def without_marker(content, marker):
    """Return a JPEG file without the segments of one marker."""
    kept, position = content[:2], 2
    while (kind := content[position + 1]) != 0xDA:  # the start of the scan
        (length,) = struct.unpack(">H", content[position + 2 : position + 4])
        kept += b"" if kind == marker else content[position : position + 2 + length]
        position += 2 + length
    return kept + content[position:]


def grey(bits=8):
    """Return the base picture's grey in so many bits."""
    return np.asarray(base().convert("L")).astype(np.int64) * (2**bits - 1) // 255


def packed_12_bits(values):
    flat = values.ravel()
    first, second = flat[::2], flat[1::2]
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1).astype(np.uint8).tobytes()


def files():
    """Return {name: (content, tolerance)}: the mean difference to the base picture, None where it is refused.

    A grey file is compared with the base picture's grey.
    """
    picture, alpha = base(), base().convert("RGBA")
    alpha.putalpha(Image.fromarray(grey().astype(np.uint8)))
    rgb16 = np.asarray(picture).astype(np.int64) * 257
    grey16 = grey(16)
    frames = {"save_all": True, "append_images": [picture.transpose(Image.Transpose.ROTATE_180)], "duration": 9}
    noise = Image.frombytes("RGB", (WIDTH, HEIGHT), bytes(HEIGHT * WIDTH * 3))
    garbled = saved(picture, "JPEG", quality=95, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff")
    contents = {
        "rgb.png": (saved(picture, "PNG"), 1),
        "grey.png": (saved(picture.convert("L"), "PNG"), 1),
        "grey alpha.png": (saved(alpha.convert("LA"), "PNG"), 1),
        "palette.png": (saved(picture.quantize(200), "PNG"), 6),
        "palette transparent.png": (saved(picture.quantize(200), "PNG", transparency=bytes(range(200))), 6),
        "alpha.png": (saved(alpha, "PNG"), 1),
        "bilevel.png": (saved(picture.convert("1"), "PNG"), 70),
        "optimised.png": (saved(picture, "PNG", optimize=True, compress_level=9), 1),
        "turned 3.png": (turned(picture, "PNG", 3), 1),
        "turned 6.png": (turned(picture, "PNG", 6), 1),
        "animated.png": (saved(picture, "PNG", **frames), 1),
        "16 bits grey.png": (png(grey16[..., None], 0), 2),
        "16 bits grey alpha.png": (png(np.stack([grey16, grey16], -1), 4), 2),
        "16 bits.png": (png(rgb16, 2), 2),
        "16 bits alpha.png": (png(np.concatenate([rgb16, rgb16[..., :1]], -1), 6), 2),
        "12 of 16 bits grey.png": (png(grey(12)[..., None], 0), None),
        "12 of 16 bits, said.png": (png(grey(12)[..., None], 0, sBIT=b"\x0c"), None),
        "12 of 16 bits.png": (png(rgb16 >> 4, 2), None),
        "12 of 16 bits alpha.png": (png(np.concatenate([rgb16 >> 4, rgb16[..., :1]], -1), 6), None),
        "10 of 16 bits grey.png": (png(grey(10)[..., None], 0), None),
        "8 of 16 bits grey.png": (png(grey()[..., None], 0), None),
        "8 of 16 bits.png": (png(rgb16 >> 8, 2), None),
        "a png.jpg": (saved(picture, "PNG"), 1),
        "truncated.png": (saved(picture, "PNG")[:-200], None),
        "rgb.jpg": (saved(picture, "JPEG", quality=95), 3),
        "grey.jpg": (saved(picture.convert("L"), "JPEG", quality=95), 3),
        "progressive.jpeg": (saved(picture, "JPEG", quality=95, progressive=True), 3),
        "cmyk.jpg": (saved(picture.convert("CMYK"), "JPEG", quality=95), 4),
        "garbled exif.jpg": (garbled, 3),
        "two pictures.jpg": (saved(picture, "MPO", quality=95, save_all=True, append_images=[noise]), 3),
        "truncated.jpg": (saved(picture, "JPEG", quality=95)[:-300], None),
        **{f"turned {n}.jpg": (turned(picture, "JPEG", n, quality=95), 3) for n in range(1, 9)},
        "still.gif": (saved(picture.quantize(200), "GIF"), 6),
        "animated.gif": (saved(picture.quantize(200), "GIF", **frames), 6),
        "transparent.gif": (saved(picture.quantize(200), "GIF", transparency=3), 6),
        "lossy.webp": (saved(picture, "WEBP", quality=95), 5),
        "lossless.webp": (saved(alpha, "WEBP", lossless=True, exact=True), 1),
        "animated.webp": (saved(picture, "WEBP", lossless=True, **frames), 1),
        "turned 8.webp": (turned(picture, "WEBP", 8, lossless=True), 1),
        "rgb.tif": (saved(picture, "TIFF"), 1),
        "lzw.tiff": (saved(picture, "TIFF", compression="tiff_lzw"), 1),
        "jpeg.tiff": (saved(picture, "TIFF", compression="jpeg", quality=95), 5),
        "fax.tif": (saved(picture.convert("1"), "TIFF", compression="group4"), 70),
        "palette.tif": (saved(picture.quantize(200), "TIFF"), 6),
        "alpha.tif": (saved(alpha, "TIFF"), 1),
        "cmyk.tif": (saved(picture.convert("CMYK"), "TIFF"), 2),
        "ycbcr.tif": (saved(picture.convert("YCbCr"), "TIFF"), 3),
        "lab.tif": (saved(Image.new("LAB", (WIDTH, HEIGHT), (9, 9, 9)), "TIFF"), None),
        "floats.tif": (saved(Image.fromarray(grey().astype(np.float32)), "TIFF"), None),
        "integers.tif": (saved(Image.fromarray(grey16.astype(np.int32)), "TIFF"), None),
        "two pages.tif": (saved(picture, "TIFF", save_all=True, append_images=[noise.copy()]), 1),
        "turned 6.tif": (turned(picture, "TIFF", 6), 1),
        "16 bits.tif": (tiff(grey16.astype("<u2").tobytes(), bits=16), 2),
        "16 bits, big end first.tif": (tiff(grey16.astype(">u2").tobytes(), bits=16, big_endian=True), 2),
        "16 bits, white is 0.tif": (tiff((65535 - grey16).astype("<u2").tobytes(), bits=16, photometric=0), 2),
        "12 bits, said.tif": (tiff(packed_12_bits(grey(12)), bits=12), 2),
        "12 of 16 bits.tif": (tiff(grey(12).astype("<u2").tobytes(), bits=16), None),
        "8 bits, white is 0.tif": (tiff((255 - grey()).astype(np.uint8).tobytes(), bits=8, photometric=0), 1),
        "signed.tif": (tiff((grey(15)).astype("<i2").tobytes(), bits=16, sample_format=2), None),
        "signed bytes.tif": (tiff((grey(7)).astype("i1").tobytes(), bits=8, sample_format=2), None),
        "rgb.bmp": (saved(picture, "BMP"), 1),
        "palette.bmp": (saved(picture.quantize(200), "BMP"), 6),
        "rgb.ppm": (saved(picture, "PPM"), 1),
        "grey.pgm": (saved(picture.convert("L"), "PPM"), 1),
        "12 bits, said.pgm": (b"P5 %d %d 4095\n" % (WIDTH, HEIGHT) + grey(12).astype(">u2").tobytes(), 2),
        "words.pgm": (b"P2 %d %d 255\n" % (WIDTH, HEIGHT) + " ".join(map(str, grey().ravel())).encode(), 1),
        "10 bits, said.pgm": (b"P5 %d %d 1023\n" % (WIDTH, HEIGHT) + grey(10).astype(">u2").tobytes(), 2),
        "16 bits.ppm": (b"P6 %d %d 65535\n" % (WIDTH, HEIGHT) + rgb16.astype(">u2").tobytes(), 2),
        "12 of 16 bits.ppm": (b"P6 %d %d 65535\n" % (WIDTH, HEIGHT) + (rgb16 >> 4).astype(">u2").tobytes(), None),
        "bilevel.pbm": (saved(picture.convert("1"), "PPM"), 70),
        "colour by colour.tif": (planes(np.asarray(picture), bits=8), 1),
        "16 bits, colour by colour.tif": (planes(rgb16, bits=16), None),
        "cmyk without adobe.jpg": (without_marker(saved(picture.convert("CMYK"), "JPEG", quality=95), 0xEE), 4),
        "stored as rgb.jpe": (saved(picture, "JPEG", quality=95, keep_rgb=True), 3),
        "profile.jfif": (saved(picture, "JPEG", quality=95, icc_profile=b"no profile" * 900), 3),
        "default image.apng": (saved(picture, "PNG", default_image=True, **frames), 1),
        "key colour.png": (png(np.asarray(picture), 2, bits=8, tRNS=struct.pack(">HHH", 30, 40, 250)), 1),
        "text bomb.png": (png(np.asarray(picture), 2, bits=8, zTXt=b"k\0\0" + zlib.compress(bytes(10**7))), None),
        "bomb.gif": (b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\0;", None),
        "a heic.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", None),
        "zeros.jpg": (bytes(999), None),
        "text.png": (b"no picture", None),
        "empty.jpg": (b"", None),
        "long.png": (saved(Image.new("RGB", (120_000, 1)), "PNG"), None),
    }
    rng = np.random.default_rng(0)
    damaged = bytearray(saved(picture, "PNG"))
    damaged[60:90] = rng.integers(0, 256, 30, dtype=np.uint8).tobytes()
    return contents | {"damaged.png": (bytes(damaged), None)}


FILES = files()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd")
    (root / "odd").mkdir()
    (root / "plain").mkdir()
    for name, (content, _) in FILES.items():
        (root / "odd" / name).write_bytes(content)
    for k in range(3):
        base().save(root / "plain" / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def data(folder):
    return open_data(str(folder))


def test_every_odd_file_is_there(data):
    """All of them count as images of the study."""
    assert 60 <= len(FILES)
    assert len(FILES) == int((data.labels == data.classes.index("odd")).sum())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore:Metadata Warning")
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_study_and_device_see_the_same(name, channels, folder, data):
    """Both give the base picture, upright and in its own brightness, or refuse with the same words and the name."""
    content, tolerance = FILES[name]
    preprocessing = PREPROCESSING[channels]
    # Of its bundle, a device that only preprocesses needs to know no more than this.
    bundle: Any = SimpleNamespace(record=SimpleNamespace(preprocessing=preprocessing))
    device = Device(bundle, plain=False, threads=1, provider="cpu")
    index = sorted(FILES).index(name)
    called = f"{folder}: odd/{name}"

    def study_sees():
        (batch,) = iter_batches(data, [index], preprocessing, batch_size=1)
        return np.round(batch.images[0].numpy().transpose(1, 2, 0) * 255).astype(np.uint8)

    def device_sees(picture):
        return device.preprocess(open_picture(picture, name=called), name=called)

    if tolerance is None:
        with pytest.raises(DataError) as of_study:
            study_sees()
        with pytest.raises(DataError) as of_device:
            device_sees(folder / "odd" / name)
        assert str(of_study.value) == str(of_device.value)
        assert called in str(of_study.value)
        return
    pixels = study_sees()
    np.testing.assert_array_equal(pixels, device_sees(folder / "odd" / name))
    np.testing.assert_array_equal(pixels, device_sees(content))
    is_grey = any(word in name for word in ("grey", "bits", "fax", "bilevel", "words")) and name not in (
        "16 bits.png",
        "16 bits alpha.png",
        "16 bits.ppm",
    )
    expected_picture = base().convert("L") if is_grey else base()
    expected = preprocess(expected_picture, preprocessing).astype(int)
    assert np.abs(pixels.astype(int) - expected).mean() <= tolerance
