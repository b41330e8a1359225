"""isplit.codec.frame: twenty bytes, by hand, and everything in them checked."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isplit.codec.frame import HEADER_BYTES, FrameHeader, pack_frame, unpack_frame
from isplit.errors import PayloadError

CODEC_ID = bytes(range(8))

# "iS", version 1, coder 4, codec_id, length 5, CRC-32, "hello". It never changes: a device in the field sends it.
GOLDEN = "695301040001020304050607050000005eeb81ac68656c6c6f"


def test_golden():
    """The committed frame is made and read."""
    assert GOLDEN == pack_frame(b"hello", coder=4, codec_id=CODEC_ID).hex()
    assert b"hello" == unpack_frame(bytes.fromhex(GOLDEN), coder=4, codec_id=CODEC_ID, max_payload_bytes=5)


def test_golden_crc_by_hand():
    """The CRC is zlib's, over everything but itself."""
    golden = bytes.fromhex(GOLDEN)

    assert zlib.crc32(golden[:16] + golden[20:]).to_bytes(4, "little") == golden[16:20]


def test_header():
    """A server reads which codec a frame is for before it knows the codec."""
    header = FrameHeader.read(bytes.fromhex(GOLDEN))

    assert 20 == HEADER_BYTES
    assert FrameHeader(coder=4, codec_id=CODEC_ID, payload_bytes=5, crc=0xAC81EB5E) == header


@given(st.binary(max_size=100), st.integers(1, 4), st.binary(min_size=8, max_size=8))
def test_round_trip(payload, coder, codec_id):
    """Any payload comes back, at a cost of exactly twenty bytes."""
    frame = pack_frame(payload, coder=coder, codec_id=codec_id)

    assert len(payload) + 20 == len(frame)
    assert payload == unpack_frame(frame, coder=coder, codec_id=codec_id, max_payload_bytes=len(payload))


@given(st.binary(max_size=60), st.data())
def test_any_change_is_refused(payload, data):
    """One byte changed anywhere, or the end cut off or lengthened, is always noticed."""
    frame = bytearray(pack_frame(payload, coder=1, codec_id=CODEC_ID))
    match data.draw(st.sampled_from(["change", "cut", "lengthen"])):
        case "change":
            frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
        case "cut":
            del frame[data.draw(st.integers(0, len(frame) - 1)) :]
        case _:
            frame += data.draw(st.binary(min_size=1, max_size=30))

    with pytest.raises(PayloadError):
        unpack_frame(bytes(frame), coder=1, codec_id=CODEC_ID, max_payload_bytes=1000)


@given(st.binary(max_size=100))
def test_garbage(frame):
    """Bytes that are no frame are refused."""
    with pytest.raises(PayloadError):
        unpack_frame(frame, coder=1, codec_id=CODEC_ID, max_payload_bytes=1000)
