"""Small pictures."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from isplit.records import Preprocessing


def make_preprocessing(size=(32, 32), **changes):
    fields = {"image_size": size, "resize_size": 32, "interpolation": "bilinear", "channels": 3} | changes
    channels = fields["channels"]
    return Preprocessing.model_validate(fields | {"mean": (0.0,) * channels, "std": (1.0,) * channels})


def noise(height, width, *, mode="RGB", seed=0):
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def png(width, height, *, rows=b""):
    """Return a PNG file whose header claims any size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tagged_tiff():
    """Return a TIFF file and where each entry of its only directory begins."""
    file = io.BytesIO()
    noise(9, 7).save(file, "TIFF", compression="tiff_adobe_deflate", tiffinfo={270: "words", 282: 72.0, 33432: "none"})
    content = file.getvalue()
    (directory,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, directory)
    return content, [directory + 2 + 12 * number for number in range(count)]
