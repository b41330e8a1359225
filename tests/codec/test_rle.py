"""The run-length coder's bytes, worked out by hand; all coders' common rules are in test_coders.py."""

import numpy as np
import pytest

from isplit.codec.rle import Rle
from isplit.errors import PayloadError


def array(*symbols):
    return np.array(symbols, np.uint8)


@pytest.mark.parametrize(
    ("symbols", "payload"),
    [
        # The run symbol, the lengths, and the literals with two bits each, highest first: 01 10 11 00.
        (array(*[0] * 10, 1, 2, 3, *[0] * 9), bytes([0, 10, 3, 9, 0b01101100])),
        # The first length is that of a run, so it is zero where literals come first.
        (array(1, *[3] * 9), bytes([3, 0, 1, 9, 0b01000000])),
        # Eight symbols of two bits are no more than a token of their own: literals.
        (array(*[0] * 8), bytes([0, 0, 8, 0, 0])),
        (array(*[0] * 9), bytes([0, 9])),
        # 300 = 0b10_0101100: seven bits at a time, lowest first.
        (array(*[2] * 300), bytes([2, 0b10101100, 0b10])),
        (array(), b""),
    ],
)
def test_bytes(symbols, payload):
    """What is written is what the docstring says, and it comes back."""
    coder = Rle(levels=4)

    assert payload == coder.encode(symbols)
    np.testing.assert_array_equal(symbols, coder.decode(payload, len(symbols)))


@pytest.mark.parametrize(
    ("payload", "count", "words"),
    [
        (b"", 1, "1 symbols are never no bytes"),
        (bytes([0]), 9, "no length can be read at byte 1 of 1"),
        (bytes([0, 0x89, 0]), 9, "no length can be read at byte 1 of 3"),
        (bytes([0, 10]), 9, "a run of 10 symbols is impossible where 9 are left"),
        (bytes([0, 3, 0, 6]), 9, "a stretch of literals of 0 symbols is impossible where 6 are left"),
        (bytes([0, 3, 7]), 9, "a stretch of literals of 7 symbols is impossible where 6 are left"),
    ],
)
def test_payloads_that_are_refused(payload, count, words):
    """A length that is missing, longer than needed, zero, or more than what is left."""
    with pytest.raises(PayloadError, match=words):
        Rle(levels=4).decode(payload, count)


@pytest.mark.parametrize("levels", [2, 4, 5, 256])
def test_longest_payload(levels):
    """Runs that alternate with literals never take more bytes than are reserved for them."""
    coder = Rle(levels=levels)
    for length in (1, 9, 17, 64, 130, 1000):
        symbols = np.tile(array(*[0] * length, 1), 40)
        assert len(coder.encode(symbols)) <= coder.max_bytes(len(symbols))
