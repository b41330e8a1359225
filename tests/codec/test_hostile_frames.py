"""isplit.codec.codec: one test per hostile frame."""

import tracemalloc
import zlib
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import zstandard

from isplit.codec.coders import CODER_IDS
from isplit.codec.frame import pack_frame
from isplit.errors import PayloadError
from tests.codec.small_codecs import draw_latent, make_codec, make_version_1


def resealed(frame):
    """Return a frame of version 1 with its length and CRC made right for what it holds."""
    fields = frame[:12] + (len(frame) - 20).to_bytes(4, "little")
    return fields + zlib.crc32(fields + frame[20:]).to_bytes(4, "little") + frame[20:]


def refused(frame, message, *, codec=None):
    """Check that decoding fails with a PayloadError that says `message`, and at no cost in memory."""
    codec = codec or make_codec()
    codec.encode(draw_latent(codec.shape))  # fills the caches
    with pytest.raises(PayloadError, match=message):
        codec.decode(frame)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError):
            codec.decode(frame)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**10 + 8 * np.prod(codec.shape), f"{peak} bytes"


class TestHostileFrames:
    """Each is refused with its reason, and costs no memory."""

    @pytest.mark.parametrize("length", [0, 1])
    def test_truncated_header_of_version_2(self, length):
        """Fewer bytes than a header."""
        refused(make_codec().encode(draw_latent())[:length], f"has {length} bytes, fewer than its header's 2")

    def test_damage_of_version_2(self):
        """A frame that is cut, of another codec, or of version 1; the last is named."""
        frame, other = make_codec().encode(draw_latent()), replace(make_codec(), cut="features.24")
        refused(frame[:-1], "damaged on the way")
        refused(frame[:-1] + bytes([frame[-1] ^ 1]), "damaged on the way")
        refused(other.encode(draw_latent()), f"for codec {make_codec().codec_id.hex()}")
        refused(make_version_1().encode(draw_latent())[:90], "looks like one of version 1")

    def test_larger_than_any_payload_of_version_2(self):
        """Ten megabytes under a right CRC are not even summed up."""
        refused(pack_frame(bytes(10_000_000), coder=1, codec_id=make_codec().codec_id), "holds 10000000 bytes")

    def frame(self):
        return make_version_1().encode(draw_latent())

    @pytest.mark.parametrize("length", [0, 1, 3, 12, 19])
    def test_truncated_header(self, length):
        """Fewer bytes than a header."""
        refused(self.frame()[:length], f"has {length} bytes, fewer than its header's 20", codec=make_version_1())

    def test_wrong_magic(self):
        """Another kind of file."""
        refused(b"\x89P" + self.frame()[2:], "begins with 8950", codec=make_version_1())

    def test_newer_version(self):
        """A frame of a later format."""
        frame = bytearray(self.frame())
        frame[2] = 2
        refused(resealed(bytes(frame)), "has version 2, this isplit reads 1", codec=make_version_1())

    @pytest.mark.parametrize("coder", [0, 5, 255])
    def test_unknown_coder(self, coder):
        """A coder that no version has."""
        frame = bytearray(self.frame())
        frame[3] = coder
        refused(
            resealed(bytes(frame)),
            f"names coder {coder}; known are 1 raw, 2 zstd, 3 rle, 4 rans",
            codec=make_version_1(),
        )

    def test_other_coder(self):
        """A coder that this codec does not use."""
        frame = bytearray(self.frame())
        frame[3] = 2
        refused(resealed(bytes(frame)), "names coder 2, the codec uses 1", codec=make_version_1())

    def test_other_codec_id(self):
        """A payload of another cut's codec."""
        other = replace(make_version_1(), cut="features.24")
        refused(
            other.encode(draw_latent()),
            f"codec {other.codec_id.hex()}, this is {make_version_1().codec_id.hex()}",
            codec=make_version_1(),
        )

    @pytest.mark.parametrize("declared", [121, 1000, 2**31, 2**32 - 1])
    def test_declared_length_too_large(self, declared):
        """Four gigabytes declared are four bytes read."""
        frame = bytearray(self.frame())
        frame[12:16] = declared.to_bytes(4, "little")
        refused(
            bytes(frame), f"declares a payload of {declared} bytes, the codec's are at most 120", codec=make_version_1()
        )

    def test_declared_length_too_small(self):
        """One byte fewer declared than there is."""
        frame = bytearray(self.frame())
        frame[12:16] = (119).to_bytes(4, "little")
        refused(bytes(frame), "declares a payload of 119 bytes and holds 120", codec=make_version_1())

    def test_truncated_payload(self):
        """One byte fewer than declared."""
        refused(self.frame()[:-1], "declares a payload of 120 bytes and holds 119", codec=make_version_1())

    def test_trailing_byte(self):
        """One byte more than declared."""
        refused(self.frame() + b"\x00", "declares a payload of 120 bytes and holds 121", codec=make_version_1())

    def test_crc_wrong(self):
        """One bit of the payload flipped."""
        frame = bytearray(self.frame())
        frame[-1] ^= 1
        refused(bytes(frame), "was damaged on the way", codec=make_version_1())

    def test_larger_than_any_payload(self):
        """Ten megabytes under a right header and CRC are not even summed up."""
        frame = pack_frame(bytes(10_000_000), coder=1, codec_id=make_version_1().codec_id, version=1)
        refused(frame, "declares a payload of 10000000 bytes, the codec's are at most 120", codec=make_version_1())

    def test_zstd_bomb(self):
        """A megabyte of zeros in a few bytes."""
        codec = make_version_1("zstd")
        bomb = zstandard.ZstdCompressor().compress(bytes(1_000_000))
        assert len(bomb) < 120
        refused(pack_frame(bomb, coder=2, codec_id=codec.codec_id, version=1), "declares 1000000 bytes", codec=codec)

    def test_zstd_without_content_size(self):
        """A zstd frame that does not say how long it is."""
        codec = make_version_1("zstd")
        stream = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(160))
        refused(pack_frame(stream, coder=2, codec_id=codec.codec_id, version=1), "no content size", codec=codec)

    def test_rans_truncated(self):
        """The last word missing, length and CRC right."""
        codec = make_version_1("rans")
        refused(resealed(codec.encode(draw_latent())[:-2]), "rans payload", codec=codec)

    def test_rans_extended(self):
        """A word too many, length and CRC right."""
        codec = make_version_1("rans")
        refused(resealed(codec.encode(draw_latent()) + b"\x00\x00"), "does not end", codec=codec)

    def test_rans_bit_flipped(self):
        """One bit of a word flipped, CRC right."""
        codec = make_version_1("rans")
        frame = bytearray(codec.encode(draw_latent()))
        frame[40] ^= 4
        refused(resealed(bytes(frame)), "rans payload", codec=codec)

    def test_rle_run_longer_than_the_rest(self):
        """A run that would fill a quarter of a gigabyte."""
        codec = make_version_1("rle")
        frame = pack_frame(bytes.fromhex("1e ffffff7f"), coder=3, codec_id=codec.codec_id, version=1)
        refused(frame, "a run of 268435455 symbols is impossible where 160 are left", codec=codec)

    @pytest.mark.parametrize("coder", CODER_IDS)
    def test_large_latent(self, coder):
        """A hostile frame for a large codec costs a fixed number of bytes per symbol, whatever it says."""
        shape, rng = (16, 64, 64), np.random.default_rng(1)
        codec = make_codec(coder, shape=shape)
        good = codec.encode(draw_latent(shape))
        codec.decode(good)  # fills the caches
        for frame in (good, resealed(good[:20] + rng.bytes(len(good) - 20)), resealed(good[: len(good) // 2])):
            tracemalloc.start()
            with suppress(PayloadError):
                codec.decode_symbols(frame)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak <= 64 * np.prod(shape), f"{peak / np.prod(shape)} bytes per symbol"
