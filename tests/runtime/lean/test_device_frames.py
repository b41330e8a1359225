"""The device's frames on the lean wire: byte for byte, there and back, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isplit.runtime.lean.device_frames import (
    CANCEL,
    MAX_CONTENT_BYTES,
    MAX_NAME_BYTES,
    MAX_SLOTS,
    MAX_TOKEN_BYTES,
    NO_NUMBER,
    OPENING,
    REQUEST_BYTES,
    TENSORS,
    LeanWireError,
    Opening,
    decode_cancel,
    decode_opening,
    decode_request,
    encode_cancel,
    encode_opening,
    encode_request,
    frame_bytes,
    hello,
    hello_bytes,
    hello_token,
)

OPENINGS = st.builds(
    Opening,
    model=st.text(max_size=MAX_NAME_BYTES // 4),
    tensor=st.sampled_from(sorted(TENSORS)),
    classes=st.integers(0, 2**32 - 1),
    best=st.integers(0, 255),
    wants_logits=st.booleans(),
    wants_timings=st.booleans(),
    sha256=st.sampled_from(["", "ab" * 32]),
)
SLOTS = st.integers(0, MAX_SLOTS - 1)
NUMBERS = st.integers(0, NO_NUMBER - 1)


def test_golden():
    """The bytes of every frame are these, for ever."""
    opening = Opening(model="tiny.stage.1", tensor="payload", classes=10, best=5, sha256="ab" * 32)
    assert "6973706c697400010003616263" == hello("abc").hex()
    assert "f0020400050000000a000c" + "ab" * 32 + b"tiny.stage.1".hex() == encode_opening(2, opening).hex()
    assert "020003000000070064616263" == encode_request(2, 7, b"abc", deadline_ms=100.9).hex()
    assert "f100000007" == encode_cancel(7).hex()


@given(SLOTS, OPENINGS)
def test_an_opening_comes_back(slot, opening):
    """What was encoded is decoded, and its length is known from its start."""
    frame = encode_opening(slot, opening)
    assert (slot, opening) == decode_opening(frame)
    assert len(frame) == frame_bytes(frame[: frame_bytes(frame[:1])])


@given(SLOTS, NUMBERS, st.binary(max_size=64), st.none() | st.floats(0.001, 1e6))
def test_a_request_comes_back(slot, number, content, deadline_ms):
    """The head says what follows, and the deadline is never longer than it was."""
    frame = encode_request(slot, number, content, deadline_ms=deadline_ms)
    head = decode_request(frame)
    assert REQUEST_BYTES == frame_bytes(frame[:1])
    assert (slot, number, len(content), content) == (head.slot, head.number, head.length, frame[REQUEST_BYTES:])
    if deadline_ms is None or deadline_ms >= 65_535:
        assert 0 == head.deadline_ms
    else:
        assert max(1, int(deadline_ms)) == head.deadline_ms


@given(NUMBERS)
def test_a_cancellation_comes_back(number):
    """It has the number of its request."""
    frame = encode_cancel(number)
    assert (number, len(frame), CANCEL) == (decode_cancel(frame), frame_bytes(frame[:1]), frame[0])


@given(st.text("abcXYZ-_.", max_size=MAX_TOKEN_BYTES))
def test_a_hello_comes_back(token):
    """The token is found, and every part of a hello says how many bytes must come."""
    content = hello(token)
    assert token.encode() == hello_token(content)
    assert len(content) == hello_bytes(content[:10])
    assert {10} == {hello_bytes(content[:at]) for at in range(10)}


@given(st.binary(min_size=1, max_size=80))
def test_other_bytes_are_refused_or_bounded(content):
    """Whatever begins a frame, it is refused or known to be short: nothing makes the reader wait for much."""
    try:
        longest = frame_bytes(content)
    except LeanWireError:
        assert content[0] > CANCEL or content[0] == OPENING
    else:
        assert longest <= 11 + 32 + MAX_NAME_BYTES


@pytest.mark.parametrize(
    "refused",
    [
        lambda: hello("x" * (MAX_TOKEN_BYTES + 1)),
        lambda: hello_bytes(b"PRI * HTTP"),
        lambda: hello_bytes(b"isplit\x00\x02"),
        lambda: hello_bytes(hello("")[:8] + b"\xff\xff"),
        lambda: encode_opening(0, Opening(model="x" * 513, tensor="payload", classes=1, best=1)),
        lambda: frame_bytes(bytes((OPENING, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF))),
        lambda: frame_bytes(b"\xf2"),
        lambda: decode_opening(bytes((OPENING, MAX_SLOTS, 0, 0, 0, 0, 0, 0, 0, 0, 0))),
        lambda: decode_opening(bytes((OPENING, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0))),
        lambda: decode_opening(bytes((OPENING, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0))),
        lambda: decode_opening(bytes((OPENING, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)) + b"\xff"),
        lambda: decode_request(encode_request(0, 1, bytes(MAX_CONTENT_BYTES + 1), deadline_ms=None)),
        lambda: decode_request(encode_request(0, NO_NUMBER, b"", deadline_ms=None)),
    ],
)
def test_refusals(refused):
    """Lengths, numbers, kinds and names out of range are refused before more is read."""
    with pytest.raises(LeanWireError):
        refused()
