"""Read and write quantities with units that are never guessed: rates, durations, sizes and shares.

A lower-case b is a bit and a capital B a byte: 12Mbit/s, 12Mb/s and 12Mbps are bits, and 1.5MB/s is bytes. 1MiB/s is
2^20 bytes each second. A number without a unit, or an ambiguous unit ("mb/s"), is refused with both readings.
"""

import math
import re

from isplit.errors import InputError

_NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([^\s0-9].*?)?\s*")
_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_RATE = re.compile(r"(Ki|Mi|Gi|[kKMG]?)(bit/s|bits/s|bps|b/s|B/s|Bps)")
_AMOUNT = re.compile(r"(?:Ki|Mi|Gi|[kKMG]?)(?:bits?|[bB])")
_SIZE = re.compile(r"(|[kKMG]|Ki|Mi|Gi)B")
_DURATIONS_MS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4, "h": 3.6e6}

SLOWEST_BITS_PER_S = 1.0
FASTEST_BITS_PER_S = 1e13
LONGEST_MS = 8.64e7
LONGEST_S = 1e8
"""The largest time in a trace or a list of request times: three years."""


def parse_number(text: str) -> float:
    """Return the number that a text gives, infinity included, and NaN for text that is no number.

    Digits are those of ASCII. Python would also take those of other scripts ("４"), and underscores between digits, but
    quantities with units never had them, and records repeat the text that a user stated.

    Examples:
        >>> parse_number(" 2.5e3 "), parse_number("４"), parse_number("1_000")
        (2500.0, nan, nan)

    """
    try:
        return float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return math.nan


def parse_rate(text: str, *, name: str) -> float:
    """Return bits per second from "12Mbit/s", "12Mbps" or "1.5MB/s" (bytes: eight times as many bits).

    Raises:
        InputError: no unit, a unit that reads both ways, or a rate below 1 bit/s or above 10 Tbit/s; `name` says where
            the text was given.

    """
    value, unit = _split(text, name=name, example="12Mbit/s (bits) or 1.5MB/s (bytes)")
    match = _RATE.fullmatch(unit)
    if match is None:
        msg = f"{name} is {text!r}: {_not_a_rate(value, unit)}"
        raise InputError(msg)
    bits = value * (_PREFIXES.get(match[1]) or _BINARY[match[1]]) * (8 if "B" in match[2] else 1)
    return _within(bits, SLOWEST_BITS_PER_S, FASTEST_BITS_PER_S, text=text, name=name, unit="bit/s")


def _not_a_rate(value: float, unit: str) -> str:
    """Say why a unit is not one of a rate, and what to write."""
    if unit in _DURATIONS_MS:
        return f"{unit!r} is a unit of time, and a rate is wanted, for example 12Mbit/s"
    if _AMOUNT.fullmatch(unit):
        return f"{unit!r} is an amount and not a rate; write {value:g}{unit}/s"
    if unit.lower() in ("mbit/s", "mbps", "mb/s", "kbit/s", "gbit/s", "gbps", "gb/s"):
        both = f"{value:g}Mbit/s is megabits, {value:g}MB/s is megabytes, which is {8 * value:g}Mbit/s"
        return f"the unit {unit!r} is not clear; {both}"
    return f"the unit {unit!r} is not one of a rate; write 12Mbit/s or 500kbit/s (bits), or 1.5MB/s (bytes)"


def parse_duration(text: str, *, name: str) -> float:
    """Return milliseconds from "50ms", "2s", "300us" or "1h".

    Raises:
        InputError: no unit or another one, or more than a day.

    """
    value, unit = _split(text, name=name, example="50ms or 2s")
    if unit not in _DURATIONS_MS:
        msg = f"{name} is {text!r}: the unit {unit!r} is none of {', '.join(_DURATIONS_MS)}"
        raise InputError(msg)
    return _within(value * _DURATIONS_MS[unit], 0.0, LONGEST_MS, text=text, name=name, unit="ms")


def parse_size(text: str, *, name: str) -> int:
    """Return bytes from "512B", "150MB" (10^6 bytes) or "150MiB" (2^20 bytes).

    Raises:
        InputError: no unit or another one, or less than a byte.

    """
    value, unit = _split(text, name=name, example="512B, 150MB or 150MiB")
    match = _SIZE.fullmatch(unit)
    if match is None:
        msg = f"{name} is {text!r}: the unit {unit!r} is not one of B, kB, MB, GB, KiB, MiB, GiB"
        raise InputError(msg)
    factor = _PREFIXES.get(match[1]) or _BINARY[match[1]]
    return int(_within(value * factor, 1.0, 2.0**50, text=text, name=name, unit="bytes"))


def parse_share(text: str, *, name: str) -> float:
    """Return a share in [0, 1) from "1%" or "0.01".

    Raises:
        InputError: it is no number, or lies outside.

    """
    number = text.strip().removesuffix("%").strip()
    value = parse_number(number) / (100 if text.strip().endswith("%") else 1)
    if not 0 <= value < 1:
        msg = f"{name} is {text!r}; give a share from 0 up to, but not including, 100%, for example 1% or 0.01"
        raise InputError(msg)
    return value


def rate_text(bits_per_s: float) -> str:
    """Write a rate with three digits at most: "12 Mbit/s"."""
    for unit, size in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if bits_per_s >= size:
            return f"{bits_per_s / size:.3g} {unit}"
    return f"{bits_per_s:.3g} bit/s"


def size_text(count: float) -> str:
    """Write a number of bytes with three digits at most: "150 MB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def _split(text: str, *, name: str, example: str) -> tuple[float, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        msg = f"{name} is {text!r}; give a number without a sign and a unit, for example {example}"
        raise InputError(msg)
    if not match[2]:
        msg = f"{name} is {text!r}, a number without a unit; write {example}"
        raise InputError(msg)
    return float(match[1]), match[2]


def _within(value: float, low: float, high: float, *, text: str, name: str, unit: str) -> float:
    if not low <= value <= high:
        msg = f"{name} is {text!r}, which is {value:g} {unit}; it has to lie between {low:g} and {high:g} {unit}"
        raise InputError(msg)
    return value
