"""isplit.codec.codec: the whole way from latent to payload and back, its golden bytes, and its identity."""

import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isplit.codec.codec import Codec
from isplit.codec.coders import CODER_IDS
from isplit.codec.frame import pack_frame
from isplit.codec.quantise import Quantiser
from isplit.codec.rans import RansTables
from isplit.errors import InputError, NonFiniteError, PayloadError
from isplit.records import load_arrays
from tests.codec.small_codecs import SHAPE, counts_of, draw_latent, make_codec, make_per_channel, make_version_1


def golden_latent(seed=0):
    """Return a latent made from integers alone, so that it does not depend on numpy's version."""
    cubes = (np.arange(160) + 7 * seed) ** 3 % 97
    return ((cubes % 13 - 6) * (cubes % 3 > 0) / 4).astype(np.float32).reshape(SHAPE)


def make_golden(coder, *, frame=1):
    """Return a codec that has seen golden latents 1 to 5, two steps fewer than they need at either end."""
    codec = make_codec(quantiser=Quantiser.common(0.25, levels=9), frame=frame)
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

    @pytest.mark.parametrize("build", [make_codec, make_per_channel])
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
        codec = make_codec(coder, shape=shape, channel_axis=axis % len(shape))
        latent = draw_latent(shape, seed) * np.float32(scale)

        decoded = codec.decode(codec.encode(latent))

        expected = codec.quantiser.dequantise(codec.quantiser.quantise(latent))
        np.testing.assert_array_equal(expected, decoded)
        assert decoded.flags.c_contiguous

    def test_channels_last(self, coder):
        """Tokens cost as many bytes as the same latents with their channels first."""
        last = make_codec(coder, shape=(20, 8), channel_axis=1)
        first = make_codec(coder, shape=(8, 20))
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
        codecs = {version: make_codec(coder, frame=version) for version in (1, 2)}
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
        codec, rng = make_codec(coder), np.random.default_rng(0)
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
            make_codec(coder).encode(latent)

    @pytest.mark.parametrize("shape", [(8, 4), (8, 5, 4), (1, 8, 4, 5)])
    def test_wrong_shape(self, coder, shape):
        """A latent of another shape is refused, a batch of one too."""
        with pytest.raises(InputError, match="one image's latent"):
            make_codec(coder).encode(draw_latent(shape))


@pytest.mark.parametrize("axis", [0, 2])
def test_lengths_with_several_sets_of_tables(axis):
    """Each length is that of a codec with the image's own tables; latents of another shape are refused."""
    codec = make_codec(channel_axis=axis)
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
        rans = make_codec("rans")
        table = rans.tables.frequencies.copy()
        table[0, :2] += np.array([1, -1], np.int16).astype(np.uint16)
        quantiser = make_codec().quantiser
        codecs = [
            make_codec(),
            replace(make_codec(), model="1" * 64),
            replace(make_codec(), cut="features.24"),
            replace(make_codec(), shape=(8, 5, 4)),
            replace(make_codec(), shape=(8, 20)),
            replace(make_codec(), channel_axis=1),
            replace(make_codec(), quantiser=replace(quantiser, steps=(0.5,))),
            replace(make_codec(), quantiser=replace(quantiser, offsets=(0.5,))),
            replace(make_codec(), quantiser=replace(quantiser, levels=61)),
            replace(make_codec(), quantiser=replace(quantiser, lowest=-29)),
            replace(make_codec(), quantiser=replace(quantiser, steps=(0.25,) * 8, offsets=(0.0,) * 8)),
            make_codec("zstd"),
            make_codec("rle"),
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
        assert hashlib.sha256(text + arrays).digest()[:8] == make_codec().codec_id


def test_counts():
    """Counts are per channel, and those of one row make one table for all channels."""
    codec = make_codec(shape=(2, 3), quantiser=Quantiser.common(1.0, levels=4))

    counts = counts_of(codec, [np.array([[0, 1, 1], [-2, -9, 0]], np.float32)])

    assert [[0, 0, 1, 2], [2, 0, 1, 0]] == counts.tolist()
    assert 1 == len(codec.with_rans(counts.sum(axis=0, keepdims=True), images=1).tables.frequencies)


def test_saved_arrays_hold_no_pickles(tmp_path):
    """The file is JSON text and numbers."""
    make_codec("rans").save(tmp_path / "codec.npz")

    arrays = load_arrays(tmp_path / "codec.npz")

    assert ["codec", "frequencies", "offsets", "steps"] == sorted(arrays)
    assert isinstance(make_codec("rans").tables, RansTables)
