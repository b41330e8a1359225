"""Records of splits: the bytes that cross."""

import pytest

from isplit.records import PayloadBytes


def test_payload_bytes():
    """Of lengths 1 to 21 the mean is 11, and 19 of 20 steps lie below the 95th percentile, which is 20."""
    payload_bytes = PayloadBytes.from_lengths(range(1, 22))
    assert (11.0, pytest.approx(20.0), 21, 21) == (
        payload_bytes.mean,
        payload_bytes.p95,
        payload_bytes.max,
        payload_bytes.images,
    )
