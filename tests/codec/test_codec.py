"""isplit.codec.codec: the whole way from latent to payload and back, its identity, and one test per hostile frame."""

import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from isplit.codec.codec import MAX_SYMBOLS, Codec
from isplit.codec.coders import CODER_IDS
from isplit.codec.frame import pack_frame
from isplit.codec.quantise import Quantiser
from isplit.codec.rans import RansTables, count_symbols
from isplit.errors import InputError, NonFiniteError, PayloadError, StudyError
from isplit.records import load_arrays, save_arrays

SHAPE = (8, 4, 5)


def counts_of(codec, latents):
    """Return how often each symbol of these latents comes up in each channel."""
    symbols = np.stack([codec.quantiser.quantise(latent, channel_axis=codec.channel_axis) for latent in latents])
    return count_symbols(symbols, channel_axis=codec.channel_axis, levels=codec.quantiser.levels)


def draw_latent(shape=SHAPE, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).laplace(size=shape).astype(dtype)


def make(coder="raw", *, shape=SHAPE, quantiser=None, **fields):
    """Return a codec; for rans with tables from twenty latents."""
    quantiser = quantiser or Quantiser.common(0.25, levels=60)
    codec = Codec(model="0" * 64, cut="features.23", shape=shape, quantiser=quantiser, **fields)
    if coder != "rans":
        return replace(codec, coder=coder)
    return codec.with_rans(counts_of(codec, [draw_latent(shape, seed) for seed in range(20)]), images=20)


def make_per_channel(coder="raw"):
    low, high = np.linspace(-6, -3, 8), np.linspace(3, 5, 8)
    return make(coder, quantiser=Quantiser.per_channel(low=low, high=high, levels=16))


def make_version_1(coder="raw", **fields):
    """Return a codec that writes and reads frames of version 1, as those of older bundles do."""
    return make(coder, frame=1, **fields)


def resealed(frame):
    """Return a frame of version 1 with its length and CRC made right for what it holds."""
    fields = frame[:12] + (len(frame) - 20).to_bytes(4, "little")
    return fields + zlib.crc32(fields + frame[20:]).to_bytes(4, "little") + frame[20:]


def golden_latent(seed=0):
    """Return a latent made from integers alone, so that it does not depend on numpy's version."""
    cubes = (np.arange(160) + 7 * seed) ** 3 % 97
    return ((cubes % 13 - 6) * (cubes % 3 > 0) / 4).astype(np.float32).reshape(SHAPE)


def make_golden(coder, *, frame=1):
    """Return a codec that has seen golden latents 1 to 5, two steps fewer than they need at either end."""
    codec = make(quantiser=Quantiser.common(0.25, levels=9), frame=frame)
    if coder != "rans":
        return replace(codec, coder=coder)
    return codec.with_rans(counts_of(codec, [golden_latent(seed) for seed in range(1, 6)]), images=5)


# The two bytes that frames of version 2 have before the same payloads. They never change either.
GOLDEN_CHECK = {"raw": "9ade", "zstd": "aec9", "rle": "8e8a", "rans": "a75d"}

# golden_latent() by make_golden, in frames of version 1. They never change: devices in the field send them, and
# bundles hold their ids.
GOLDEN = {
    "raw": (
        "695301014c4ad112c1aeee0d50000000f151e879"
        "4064807048430408744455448648446406404400848844444580104555444044845410648617440564546440634444384406"
        "480704843040874445544864844640640440084884444458010455544404"
    ),
    "zstd": (
        "69530102a89105b7ac070bf1370000007bee43e8"
        "28b52ffd20a07501001206098731015311173e882caa501e40ac08a83b973420d3df2e39458a576ce963997033b222030100"
        "2149294401"
    ),
    "rle": (
        "695301035da491053d04873f520000004102cb49"
        "04002c055c050e40648070484304087444554486484464064044008488580104555444044845410648617440564546440634"
        "4443844064807048430408744455448648446406404400848858010455544404"
    ),
    "rans": (
        "69530104e56d2e78850305ae340000002fb2c2ac"
        "9b69130049768e840419b6b3299f0949c7f540f879c23a4cd000bfe132b8817b082d11eaabfe62e899aeb68fc8551afb21ef"
        "dca7"
    ),
}


@pytest.mark.parametrize("coder", CODER_IDS)
class TestEveryCoder:
    """What holds whatever the coder."""

    @pytest.mark.parametrize("build", [make, make_per_channel])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_round_trip(self, coder, build, dtype):
        """What comes out is what the quantiser makes of what went in."""
        codec, latent = build(coder), draw_latent(dtype=dtype)
        symbols = codec.quantiser.quantise(latent)

        payload = codec.encode(latent)
        decoded = codec.decode(payload)

        assert decoded.dtype == np.float32
        np.testing.assert_array_equal(codec.quantiser.dequantise(symbols), decoded)
        np.testing.assert_array_equal(symbols, codec.decode_symbols(payload))
        assert payload == codec.encode_symbols(symbols)
        assert len(payload) <= codec.max_payload_bytes

    @settings(max_examples=40)
    @given(
        st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
        st.integers(0, 3),
        st.integers(0, 1000),
        st.floats(0, 50),
    )
    def test_any_shape(self, coder, shape, axis, seed, scale):
        """Any shape, channels on any axis, latents of any width."""
        codec = make(coder, shape=shape, channel_axis=axis % len(shape))
        latent = draw_latent(shape, seed) * np.float32(scale)

        decoded = codec.decode(codec.encode(latent))

        expected = codec.quantiser.dequantise(codec.quantiser.quantise(latent))
        np.testing.assert_array_equal(expected, decoded)
        assert decoded.flags.c_contiguous

    def test_channels_last(self, coder):
        """Tokens cost as many bytes as the same latents with their channels first."""
        last = make(coder, shape=(20, 8), channel_axis=1)
        first = make(coder, shape=(8, 20))
        if coder == "rans":
            counts = counts_of(first, [draw_latent((8, 20), seed) for seed in range(20)])
            first, last = first.with_rans(counts, images=20), last.with_rans(counts, images=20)
        latent = draw_latent((8, 20), 5)

        assert first.encode(latent)[2:] == last.encode(latent.T)[2:]
        np.testing.assert_array_equal(first.decode(first.encode(latent)).T, last.decode(last.encode(latent.T)))

    def test_saved_and_loaded(self, coder, tmp_path):
        """A codec read from its file is the same codec."""
        codec = make_per_channel(coder)
        codec.save(tmp_path / "codec.npz")

        loaded = Codec.load(tmp_path / "codec.npz")

        assert codec.codec_id == loaded.codec_id
        assert codec.quantiser == loaded.quantiser
        np.testing.assert_array_equal(
            codec.decode(codec.encode(draw_latent())), loaded.decode(codec.encode(draw_latent()))
        )

    def test_golden(self, coder):
        """The committed payload is decoded, and made again (zstd: its version may differ); the id is in it."""
        codec, golden = make_golden(coder, frame=1), bytes.fromhex(GOLDEN.get(coder, ""))

        assert golden, f"no golden payload; it would be {codec.encode(golden_latent()).hex()}"
        assert golden[4:12] == codec.codec_id
        np.testing.assert_array_equal(codec.quantiser.quantise(golden_latent()), codec.decode_symbols(golden))
        if coder != "zstd":
            assert golden.hex() == codec.encode(golden_latent()).hex()

    def test_golden_of_version_2(self, coder):
        """The same payload behind two committed bytes is decoded, and made again."""
        codec, golden = make_golden(coder, frame=2), bytes.fromhex(GOLDEN_CHECK[coder] + GOLDEN[coder][40:])
        np.testing.assert_array_equal(codec.quantiser.quantise(golden_latent()), codec.decode_symbols(golden))
        if coder != "zstd":
            assert golden.hex() == codec.encode(golden_latent()).hex()

    def test_versions_are_not_mixed(self, coder):
        """A frame of the other version is refused; a codec's file keeps the version, and an old file has the first."""
        codecs = {version: make(coder, frame=version) for version in (1, 2)}
        for version, codec in codecs.items():
            assert version == Codec.from_arrays(codec.to_arrays()).frame
            with pytest.raises(PayloadError):
                codec.decode(codecs[3 - version].encode(draw_latent()))
        arrays = codecs[1].to_arrays()
        fields = json.loads(str(arrays["codec"]))
        assert 1 == fields.pop("frame")
        arrays["codec"] = np.array(json.dumps(fields))
        assert codecs[1].codec_id == Codec.from_arrays(arrays).codec_id

    def test_garbage_in_a_whole_frame(self, coder):
        """Any content under a right header and CRC gives a latent of the codec's shape or a PayloadError."""
        codec, rng = make(coder), np.random.default_rng(0)
        for length in (0, 1, 2, 3, 4, 5, 8, 20, 120, 121):
            for _ in range(20):
                frame = pack_frame(rng.bytes(length), coder=CODER_IDS[coder], codec_id=codec.codec_id)
                with suppress(PayloadError):
                    assert SHAPE == codec.decode(frame).shape

    def test_not_finite(self, coder):
        """A latent with NaN has no payload."""
        latent = draw_latent()
        latent[0, 0, 0] = np.nan
        with pytest.raises(NonFiniteError, match="1 of 160"):
            make(coder).encode(latent)

    @pytest.mark.parametrize("shape", [(8, 4), (8, 5, 4), (1, 8, 4, 5)])
    def test_wrong_shape(self, coder, shape):
        """A latent of another shape is refused, a batch of one too."""
        with pytest.raises(InputError, match="one image's latent"):
            make(coder).encode(draw_latent(shape))


@pytest.mark.parametrize("axis", [0, 2])
def test_lengths_with_several_sets_of_tables(axis):
    """Each length is that of a codec with the image's own tables; latents of another shape are refused."""
    codec = make(channel_axis=axis)
    latents = np.stack([draw_latent(seed=seed) for seed in range(4)])
    symbols = np.stack([codec.quantiser.quantise(latent, channel_axis=axis) for latent in latents])
    codecs = [codec.with_rans(counts_of(codec, latents[part]), images=2) for part in (slice(2), slice(2, 4))]
    set_of = np.array([1, 0, 1, 0])

    expected = [len(codecs[place].encode(latent)) for place, latent in zip(set_of, latents, strict=True)]
    sets = [with_rans.tables for with_rans in codecs]
    assert expected == codec.rans_payload_bytes(symbols, sets, set_of).tolist()
    with pytest.raises(InputError, match="the latent has shape"):
        codec.rans_payload_bytes(np.swapaxes(symbols, 1, 3), sets, set_of)


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_same_bytes_in_another_process(hash_seed):
    """Nothing depends on hash seeds or on what ran before."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_codec as t\n"
        "print([t.make_golden(coder).encode(t.golden_latent()).hex() for coder in t.CODER_IDS])"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=240)

    assert str([make_golden(coder).encode(golden_latent()).hex() for coder in CODER_IDS]) == done.stdout.strip()


class TestIdentity:
    """The id changes with everything that decoding depends on, and with nothing else."""

    def test_every_field_counts(self):
        """Another model, cut, shape, axis, step, offset, coder, table or number of lanes is another codec."""
        rans = make("rans")
        table = rans.tables.frequencies.copy()
        table[0, :2] += np.array([1, -1], np.int16).astype(np.uint16)
        quantiser = make().quantiser
        codecs = [
            make(),
            replace(make(), model="1" * 64),
            replace(make(), cut="features.24"),
            replace(make(), shape=(8, 5, 4)),
            replace(make(), shape=(8, 20)),
            replace(make(), channel_axis=1),
            replace(make(), quantiser=replace(quantiser, steps=(0.5,))),
            replace(make(), quantiser=replace(quantiser, offsets=(0.5,))),
            replace(make(), quantiser=replace(quantiser, levels=61)),
            replace(make(), quantiser=replace(quantiser, lowest=-29)),
            replace(make(), quantiser=replace(quantiser, steps=(0.25,) * 8, offsets=(0.0,) * 8)),
            make("zstd"),
            make("rle"),
            rans,
            replace(rans, tables=replace(rans.tables, lanes=2)),
            rans.with_rans(np.ones((8, 60), int), images=1),
            rans.with_rans(np.ones((1, 60), int), images=1),
        ]
        assert len(codecs) == len({codec.codec_id for codec in codecs})

    def test_canonical_form_by_hand(self):
        """The id is a SHA-256 over JSON and arrays that another program can write too."""
        text = (
            b'{"channel_axis":0,"coder":"raw","cut":"features.23","lanes":0,"levels":60,"lowest":-30,'
            b'"model":"' + b"0" * 64 + b'","schema":"isplit.codec/1","shape":[8,4,5],"steps":1,"tables":0}\n'
        )
        arrays = np.array([0.25, 0.0], "<f4").tobytes()

        assert hashlib.sha256(text + arrays).digest()[:8] == make_version_1().codec_id
        text = text.replace(b'"lanes"', b'"frame":2,"lanes"')
        assert hashlib.sha256(text + arrays).digest()[:8] == make().codec_id


def refused(frame, message, *, codec=None):
    """Check that decoding fails with a PayloadError that says `message`, and at no cost in memory."""
    codec = codec or make()
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
        refused(make().encode(draw_latent())[:length], f"has {length} bytes, fewer than its header's 2")

    def test_damage_of_version_2(self):
        """A frame that is cut, of another codec, or of version 1; the last is named."""
        frame, other = make().encode(draw_latent()), replace(make(), cut="features.24")
        refused(frame[:-1], "damaged on the way")
        refused(frame[:-1] + bytes([frame[-1] ^ 1]), "damaged on the way")
        refused(other.encode(draw_latent()), f"for codec {make().codec_id.hex()}")
        refused(make_version_1().encode(draw_latent())[:90], "looks like one of version 1")

    def test_larger_than_any_payload_of_version_2(self):
        """Ten megabytes under a right CRC are not even summed up."""
        refused(pack_frame(bytes(10_000_000), coder=1, codec_id=make().codec_id), "holds 10000000 bytes")

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
        codec = make(coder, shape=shape)
        good = codec.encode(draw_latent(shape))
        codec.decode(good)  # fills the caches
        for frame in (good, resealed(good[:20] + rng.bytes(len(good) - 20)), resealed(good[: len(good) // 2])):
            tracemalloc.start()
            with suppress(PayloadError):
                codec.decode_symbols(frame)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak <= 64 * np.prod(shape), f"{peak / np.prod(shape)} bytes per symbol"


class TestUnusable:
    """A codec that could not work is not made."""

    @pytest.mark.parametrize("shape", [(), (0,), (3, 0), (-1, 5), (MAX_SYMBOLS, 2)])
    def test_shape(self, shape):
        """One image's latent, of a bounded size."""
        with pytest.raises(InputError, match="shape is"):
            make(shape=shape)

    @pytest.mark.parametrize("axis", [-1, 3])
    def test_channel_axis(self, axis):
        """One of the shape's axes, counted from the front."""
        with pytest.raises(InputError, match="give 0 to 2"):
            make(channel_axis=axis)

    def test_coder(self):
        """One of the four."""
        with pytest.raises(InputError, match="choose one of raw, zstd, rle, rans"):
            make("zip")

    def test_quantiser_of_other_channels(self):
        """As many steps as the shape has channels."""
        with pytest.raises(InputError, match="the quantiser is for 8 channels"):
            replace(make_per_channel(), shape=(7, 4, 5))

    def test_tables(self):
        """Coder rans has tables that fit, and no other coder has any."""
        with pytest.raises(InputError, match="rans without tables"):
            replace(make(), coder="rans")
        with pytest.raises(InputError, match="zstd with tables"):
            replace(make("rans"), coder="zstd")
        with pytest.raises(InputError, match="3 tables of 60 levels do not fit 8 channels"):
            make().with_rans(np.ones((3, 60), int), images=1)
        with pytest.raises(InputError, match="8 tables of 59 levels do not fit"):
            make().with_rans(np.ones((8, 59), int), images=1)

    @pytest.mark.parametrize(
        "change",
        [
            {"codec": None},
            {"steps": None},
            {"codec": np.array("{}")},
            {"codec": np.array("not JSON")},
            {"codec": np.array([1, 2])},
            {"steps": np.zeros(1, np.float32)},
            {"steps": np.array([np.nan], np.float32)},
            {"steps": np.array(["x"])},
            {"steps": np.ones((2, 2), np.float32)},
            {"steps": np.float32(0.25)},
            {"frequencies": None},
            {"frequencies": np.ones((8, 60), np.uint16)},
        ],
    )
    def test_arrays(self, change, tmp_path):
        """Arrays that are no codec's, in memory and in a file."""
        arrays = {name: array for name, array in (make("rans").to_arrays() | change).items() if array is not None}
        with pytest.raises(InputError, match="not a codec's"):
            Codec.from_arrays(arrays)
        save_arrays(tmp_path / "codec.npz", arrays)
        with pytest.raises(StudyError, match=r"codec\.npz"):
            Codec.load(tmp_path / "codec.npz")

    def test_newer_schema(self):
        """A codec of a later isplit is refused by name."""
        arrays = make().to_arrays()
        arrays["codec"] = np.array(str(arrays["codec"]).replace("isplit.codec/1", "isplit.codec/2"))
        with pytest.raises(InputError, match=r"isplit\.codec/2"):
            Codec.from_arrays(arrays)

    def test_files(self, tmp_path):
        """A missing or damaged file."""
        with pytest.raises(StudyError, match="cannot read the codec"):
            Codec.load(tmp_path / "missing.npz")
        make().save(tmp_path / "codec.npz")
        content = (tmp_path / "codec.npz").read_bytes()
        (tmp_path / "codec.npz").write_bytes(content[: len(content) // 2])
        with pytest.raises(StudyError, match="damaged"):
            Codec.load(tmp_path / "codec.npz")


def test_counts():
    """Counts are per channel, and those of one row make one table for all channels."""
    codec = make(shape=(2, 3), quantiser=Quantiser.common(1.0, levels=4))

    counts = counts_of(codec, [np.array([[0, 1, 1], [-2, -9, 0]], np.float32)])

    assert [[0, 0, 1, 2], [2, 0, 1, 0]] == counts.tolist()
    assert 1 == len(codec.with_rans(counts.sum(axis=0, keepdims=True), images=1).tables.frequencies)


def test_saved_arrays_hold_no_pickles(tmp_path):
    """The file is JSON text and numbers."""
    make("rans").save(tmp_path / "codec.npz")

    arrays = load_arrays(tmp_path / "codec.npz")

    assert ["codec", "frequencies", "offsets", "steps"] == sorted(arrays)
    assert isinstance(make("rans").tables, RansTables)
