"""Cuts: which of them still have positions beside their channels."""

import pytest

from isplit.records import Crossing, Cut


def cut(*shape, channel_axis):
    """A cut of which only the shape matters."""
    counts = "head_macs tail_macs head_parameters tail_parameters head_peak_bytes tail_peak_bytes".split()
    return Cut(
        name="a", depth=1, kind="default", op="relu", bytes=0, channel_axis=channel_axis,
        crossing=(Crossing(name="a", shape=shape, dtype="float32", bytes=0),), **dict.fromkeys(counts, 0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "channel_axis", "expected"),
    [
        ((8, 4, 4), 1, True),
        ((8, 1, 2), 1, True),
        ((8, 1, 1), 1, False),  # pooled: one position
        ((8,), 1, False),
        ((8, 4, 4), None, False),
        ((197, 8), -1, True),
        ((1, 8), -1, False),  # the last axis is the channels
    ],
)
def test_positions(shape, channel_axis, expected):
    """Maps and tokens have positions where more than one is left; the channels do not count."""
    assert expected is cut(*shape, channel_axis=channel_axis).has_positions
