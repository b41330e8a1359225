"""isplit.codec.frame: both versions of the header by hand, and everything in them checked."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isplit.codec.frame import HEADER_BYTES, HEADER_BYTES_1, FrameHeader, header_bytes, pack_frame, unpack_frame
from isplit.errors import PayloadError

CODEC_ID = bytes(range(8))

# CRC-16 of the codec_id and "hello", then "hello". It never changes: a device in the field sends it.
GOLDEN_2 = "524468656c6c6f"

# "iS", version 1, coder 4, codec_id, length 5, CRC-32, "hello". It never changes: a device in the field sends it.
GOLDEN = "695301040001020304050607050000005eeb81ac68656c6c6f"


def test_golden():
    """The committed frame is made and read."""
    for golden, version in ((GOLDEN, 1), (GOLDEN_2, 2)):
        options = {"coder": 4, "codec_id": CODEC_ID, "version": version}
        assert golden == pack_frame(b"hello", **options).hex()
        assert b"hello" == unpack_frame(bytes.fromhex(golden), max_payload_bytes=5, **options)


def crc_16(content):
    """CRC-CCITT bit by bit: polynomial x^16 + x^12 + x^5 + 1, started from ones, the highest bit first."""
    register = 0xFFFF
    for byte in content:
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1 ^ 0x1021) & 0xFFFF if register & 0x8000 else register << 1
    return register


def test_golden_crc_16_by_hand():
    """The check is over the codec_id and the payload; a device of another make can compute it."""
    assert 0x29B1 == crc_16(b"123456789")  # the published check value of this CRC
    assert crc_16(CODEC_ID + b"hello").to_bytes(2, "little") == bytes.fromhex(GOLDEN_2)[:2]


def test_golden_crc_by_hand():
    """The CRC is zlib's, over everything but itself."""
    golden = bytes.fromhex(GOLDEN)

    assert zlib.crc32(golden[:16] + golden[20:]).to_bytes(4, "little") == golden[16:20]


def test_header():
    """A server reads which codec a frame is for before it knows the codec."""
    header = FrameHeader.read(bytes.fromhex(GOLDEN))

    assert (2, 20) == (HEADER_BYTES, HEADER_BYTES_1) == (header_bytes(2), header_bytes(1))
    assert HEADER_BYTES <= 4
    assert FrameHeader(coder=4, codec_id=CODEC_ID, payload_bytes=5, crc=0xAC81EB5E) == header


VERSIONS = st.sampled_from([1, 2])


@given(st.binary(max_size=100), st.integers(1, 4), st.binary(min_size=8, max_size=8), VERSIONS)
def test_round_trip(payload, coder, codec_id, version):
    """Any payload comes back, at a cost of exactly the header's bytes."""
    frame = pack_frame(payload, coder=coder, codec_id=codec_id, version=version)

    assert len(payload) + header_bytes(version) == len(frame)
    assert payload == unpack_frame(
        frame, coder=coder, codec_id=codec_id, max_payload_bytes=len(payload), version=version
    )


@given(st.binary(max_size=60), VERSIONS, st.data())
def test_any_change_of_a_byte_is_refused(payload, version, data):
    """One byte changed anywhere is always noticed, and so is any change of two neighbouring bytes."""
    frame = bytearray(pack_frame(payload, coder=1, codec_id=CODEC_ID, version=version))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(PayloadError):
        unpack_frame(bytes(frame), coder=1, codec_id=CODEC_ID, max_payload_bytes=1000, version=version)


@given(st.binary(max_size=60), st.data())
def test_any_other_length_is_refused_in_version_1(payload, data):
    """The end cut off or lengthened is always noticed."""
    frame = pack_frame(payload, coder=1, codec_id=CODEC_ID, version=1)
    if data.draw(st.booleans()):
        frame = frame[: data.draw(st.integers(0, len(frame) - 1))]
    else:
        frame += data.draw(st.binary(min_size=1, max_size=30))

    with pytest.raises(PayloadError):
        unpack_frame(frame, coder=1, codec_id=CODEC_ID, max_payload_bytes=1000, version=1)


def test_most_other_damage_is_refused_in_version_2():
    """Of random frames, and of right ones that are cut or of other codecs, about one in 65,536 passes."""
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(3000):
        payload, other = rng.bytes(int(rng.integers(1, 60))), rng.bytes(8)
        whole = pack_frame(payload, coder=1, codec_id=CODEC_ID)
        for frame, codec_id in ((rng.bytes(30), CODEC_ID), (whole[:-1], CODEC_ID), (whole, other)):
            try:
                unpack_frame(frame, coder=1, codec_id=codec_id, max_payload_bytes=1000)
            except PayloadError:
                continue
            passed += 1
    assert passed <= 3


@given(st.binary(max_size=100))
def test_garbage(frame):
    """Bytes that are no frame of version 1 are refused."""
    with pytest.raises(PayloadError):
        unpack_frame(frame, coder=1, codec_id=CODEC_ID, max_payload_bytes=1000, version=1)
