"""isplit.codec.image: whatever a file holds, there is an image or a DataError."""

import errno
import io
import os
import struct

import numpy as np
import pytest

from isplit.codec.image import decode_image, preprocess, restore
from isplit.errors import DataError
from tests.codec.pictures import make_preprocessing, noise, png, tagged_tiff


def saved(format_, **options):
    file = io.BytesIO()
    noise(9, 7, mode="L" if format_ == "PPM" else "RGB").save(file, format_, **options)
    return file.getvalue()


def outcome(content):
    """Return "image" or "refused"; any exception but DataError is the test's failure."""
    try:
        preprocess(decode_image(io.BytesIO(content), name="it"), make_preprocessing())
    except DataError:
        return "refused"
    return "image"


@pytest.mark.filterwarnings("ignore")  # of Pillow's, about what it reads past
def test_every_tag_of_a_tiff_may_be_damaged():
    """With any field of any TIFF tag overwritten there is an image or a DataError, never another exception."""
    content, entries = tagged_tiff()
    outcomes = set()
    for entry in entries:
        for offset, layout, values in (
            (0, "<H", (0, 254, 256, 258, 262, 273, 277, 317, 320, 322, 338, 339, 347, 65535)),
            (2, "<H", range(14)),
            (4, "<I", (0, 2, 2**16, 2**31, 2**32 - 1)),
            (8, "<I", (0, 1, len(content) - 1, len(content) + 9, 2**31, 2**32 - 1)),
        ):
            for value in values:
                damaged = bytearray(content)
                struct.pack_into(layout, damaged, entry + offset, value)
                outcomes.add(outcome(bytes(damaged)))
    assert {"image", "refused"} == outcomes


FILES = {
    "tiff": lambda: tagged_tiff()[0],
    "tiff-raw": lambda: saved("TIFF"),
    "png": lambda: saved("PNG", pnginfo=None, transparency=(1, 2, 3)),
    "gif": lambda: saved("GIF", transparency=3),
    "webp": lambda: saved("WEBP", lossless=True, exif=b"Exif\0\0II*\0"),
    "jpeg": lambda: saved("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "bmp": lambda: saved("BMP"),
    "ppm": lambda: saved("PPM"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FILES)
def test_damaged_anywhere(kind):
    """With random bytes overwritten, cut out or repeated, a file of any format is an image or a DataError."""
    content = FILES[kind]()
    rng = np.random.default_rng(list(kind.encode()))
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(len(damaged)))
            match int(rng.integers(3)):
                case 0:
                    damaged[place] = int(rng.integers(256))
                case 1:
                    del damaged[place : place + int(rng.integers(1, 9))]
                case _:
                    damaged[place:place] = damaged[place : place + int(rng.integers(1, 9))]
            if not damaged:
                break
        outcomes.add(outcome(bytes(damaged)))
    assert "refused" in outcomes
    assert "image" in outcomes or kind in ("png",)  # a checksum guards every chunk of a PNG file


@pytest.mark.parametrize(
    "error", [TypeError("x"), KeyError(7), struct.error("x"), AttributeError(), RecursionError("x")]
)
def test_any_exception_of_a_decoder_is_a_data_error(monkeypatch, error):
    """Whatever class a decoder raises, it is a DataError that names the file."""

    def load(self):
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(DataError, match=r"^bad\.png is damaged: .+; repair or remove it$"):
        decode_image(io.BytesIO(png(8, 8)), name="bad.png")


def test_no_memory_is_not_damage(monkeypatch):
    """A picture that does not fit into memory is not called damaged."""

    def load(self):
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(DataError, match=r"^there is not enough memory to decode large\.png"):
        decode_image(io.BytesIO(png(8, 8)), name="large.png")


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EIO, "cannot read it: Input/output error"), (errno.EINVAL, "it is damaged: ")]
)
def test_a_failing_disk_is_not_damage(monkeypatch, number, words):
    """A disk that cannot be read is not a damaged image; an offset that cannot be sought to is one."""

    def load(self):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(DataError, match=f"^{words}"):
        decode_image(io.BytesIO(png(8, 8)), name="it")


def test_files_that_cannot_be_opened(tmp_path):
    """A file that is not there, a folder, a pipe and an impossible name each have their own words; none is damaged."""
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    (tmp_path / "link.png").symlink_to("nowhere")
    for name, words in {
        "gone.png": "there is no file it",
        "link.png": "there is no file it",
        "fifo.png": "it is not an ordinary file",
        ".": "it is not an ordinary file",
        "a" * 300: "cannot read it: File name too long",
        "a\0b": "cannot read it: embedded null byte",
    }.items():
        with pytest.raises(DataError, match=f"^{words}"):
            decode_image(tmp_path / name, name="it")


def test_an_image_that_cannot_be_converted_is_refused():
    """What a damaged file leaves in an image's metadata ends in a DataError when the image is converted."""
    image = noise(32, 32).convert("P")
    image.info["transparency"] = "nonsense"
    with pytest.raises(DataError, match=r"^the image is damaged: "):
        preprocess(image, make_preprocessing())
    with pytest.raises(DataError, match=r"^the image is damaged: "):
        restore(image, make_preprocessing())
