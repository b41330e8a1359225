"""Links and traces: what they refuse, and the bytes that the protocol adds."""

import pytest
from pydantic import ValidationError

from isplit.records import MEASURED_WIRE_OVERHEAD, LinkRecord, LinkTrace, WireBytes, wire_overhead


def link(**fields: object) -> LinkRecord:
    base = {"name": "x", "title": "x", "source": "estimated", "up_bits_per_s": 2e6, "down_bits_per_s": 8e6}
    return LinkRecord.model_validate({**base, "rtt_ms": 50.0, **fields})


@pytest.mark.parametrize(("classes", "down"), [(2, 18 + 2 * 3), (5, 33), (256, 33), (257, 38), (70_000, 48)])
def test_an_answer_has_the_five_most_probable_classes(classes, down):
    """Each class of an answer takes its number, in as few bytes as hold all, and two bytes of probability."""
    measured, overhead = MEASURED_WIRE_OVERHEAD, wire_overhead(classes)
    assert measured == measured.with_classes(10)
    assert (measured.split_up_bytes, measured.image_up_bytes) == (overhead.split_up_bytes, overhead.image_up_bytes)
    assert (down, down) == (overhead.split_down_bytes, overhead.image_down_bytes)


def test_bytes_on_the_wire_by_hand():
    """Payload and protocol go up, an answer comes back; an unknown number of classes is taken as the measured one."""
    overhead = MEASURED_WIRE_OVERHEAD.model_copy(update={"split_up_bytes": 100, "image_up_bytes": 90})
    assert WireBytes(up=132.5, down=33) == overhead.of_split(32.5)
    assert WireBytes(up=122.5, down=33) == overhead.of_image(32.5)
    assert MEASURED_WIRE_OVERHEAD == wire_overhead(0)
    assert MEASURED_WIRE_OVERHEAD.with_classes(3) == wire_overhead(3)


def test_another_rate_keeps_the_ratio_of_both_directions():
    """A link of 2 Mbit/s up and 8 down has 20 down at 5 up."""
    faster = link().with_rate(5e6)
    assert (5e6, 20e6) == (faster.up_bits_per_s, faster.down_bits_per_s)


@pytest.mark.parametrize(
    "change",
    [
        {"up_bits_per_s": 0},
        {"down_bits_per_s": -1},
        {"rtt_ms": float("inf")},
        {"loss_up": 1.0},
        {"loss_down": float("nan")},
        {"duty_cycle": 0},
        {"mtu_bytes": 20},
    ],
)
def test_absurd_links_are_refused(change: dict[str, object]):
    """No rate, no end of the round trip, every packet lost, and packets smaller than their headers."""
    with pytest.raises(ValidationError):
        link(**change)


def point(time_s: float, rate: float = 1e6) -> dict[str, float]:
    return {"time_s": time_s, "up_bits_per_s": rate, "down_bits_per_s": rate, "rtt_ms": 10.0}


@pytest.mark.parametrize(
    ("points", "seconds", "words"),
    [
        ([], 1.0, "at least 1"),
        ([point(1.0)], 2.0, "start the trace at 0"),
        ([point(0.0), point(0.0)], 2.0, "have to grow"),
        ([point(0.0), point(3.0)], 3.0, "not after its last point"),
        ([point(0.0, 0.0)], 1.0, "nothing could ever be sent"),
    ],
)
def test_traces_that_cannot_be_played_are_refused(points: list[dict[str, float]], seconds: float, words: str):
    """A trace needs points in order, from 0 on, and a rate at some time."""
    with pytest.raises(ValidationError, match=words):
        LinkTrace.model_validate({"name": "x", "points": points, "seconds": seconds})
