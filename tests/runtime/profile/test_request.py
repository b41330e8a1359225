"""isplit.runtime.profile.request: what is left of a request's time."""

from types import SimpleNamespace

import pytest

from isplit.records.answers import Timings
from isplit.runtime.profile.request import request_ms

PARTS = {
    "decode_image_ms": 1.0,
    "preprocess_ms": 2.0,
    "head_ms": 4.0,
    "encode_ms": 8.0,
    "server_queue_ms": 16.0,
    "server_decode_ms": 32.0,
    "server_infer_ms": 64.0,
}


@pytest.mark.parametrize(("total_ms", "parts", "rest_ms"), [(130.0, PARTS, 3.0), (126.0, PARTS, 0.0), (5.0, {}, 5.0)])
def test_by_hand(total_ms, parts, rest_ms):
    """All parts that are timed are taken off, those that did not take place are none, and no time is negative."""
    timings = Timings(**parts, total_ms=total_ms, wire_ms=50.0, server_ms=120.0)
    assert rest_ms == request_ms(SimpleNamespace(timings=timings))
