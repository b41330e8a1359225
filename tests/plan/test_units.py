"""Units: bits against bytes, and what is refused because it could be either."""

import pytest

from isplit.errors import InputError
from isplit.plan.units import parse_duration, parse_rate, parse_share, parse_size, rate_text, size_text


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("12Mbit/s", 12e6),
        ("12 Mb/s", 12e6),
        ("12Mbps", 12e6),
        ("1.5MB/s", 12e6),
        ("250kbit/s", 250e3),
        ("1e3 bps", 1e3),
    ],
)
def test_rates(text: str, bits: float):
    """A small b is a bit, a capital B a byte."""
    assert bits == parse_rate(text, name="--link")


@pytest.mark.parametrize(
    "text", ["12", "12mb/s", "12M", "12Mbit", "fast", "-1Mbit/s", "", "0Mbit/s", "1e20Gbit/s", "nanMbit/s"]
)
def test_unclear_or_absurd_rates_are_refused(text: str):
    """No unit, a unit that reads both ways, no number, nothing at all, and more than any link carries."""
    with pytest.raises(InputError, match="--link is "):
        parse_rate(text, name="--link")


def test_an_unclear_rate_is_told_with_both_readings():
    """The message says what either would be."""
    with pytest.raises(InputError, match=r"12MB/s is megabytes, which is 96Mbit/s"):
        parse_rate("12mb/s", name="--link")


def test_durations_sizes_and_shares():
    """Milliseconds, decimal and binary bytes, and shares with and without a percent sign."""
    assert [50.0, 2000.0, 0.3, 3.6e6] == [parse_duration(t, name="x") for t in ("50ms", "2s", "300us", "1h")]
    assert [512, 150_000_000, 157_286_400] == [parse_size(t, name="x") for t in ("512B", "150MB", "150MiB")]
    assert [0.01, 0.05] == [parse_share(t, name="x") for t in ("1%", "0.05")]


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *((parse_duration, text) for text in ("50", "5 days", "30h")),
        *((parse_size, text) for text in ("150", "1.5Mbit", "0B")),
        *((parse_share, text) for text in ("100%", "-1%", "x", "nan", "１%", "0.0_1")),
    ],
)
def test_others_are_refused(parse: object, text: str):
    """Missing and unknown units, and shares outside 0 to 1."""
    assert callable(parse)
    with pytest.raises(InputError, match="--x is "):
        parse(text, name="--x")


def test_texts():
    """Numbers are written with a unit and three digits."""
    assert ["13.6 Mbit/s", "1 Gbit/s", "62 kbit/s", "5 bit/s"] == [rate_text(r) for r in (13.6e6, 1e9, 62e3, 5)]
    assert ["150 MB", "1.5 kB", "12 B"] == [size_text(s) for s in (150e6, 1500, 12)]
