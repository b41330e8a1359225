"""What the tests of bottlenecks share."""

from isplit.records import Crossing, Cut


def make_cut(shape: tuple[int, ...], axis: int = 1) -> Cut:
    """A cut that one tensor of this shape crosses."""
    names = "depth bytes head_macs tail_macs head_parameters tail_parameters head_peak_bytes tail_peak_bytes".split()
    crossing = (Crossing(name="x", shape=shape, dtype="float32", bytes=1),)
    figures = dict.fromkeys(names, 1)
    return Cut(name="x", kind="default", op="relu", crossing=crossing, channel_axis=axis, **figures)
