"""Compute the ticks of an axis and their labels."""

from dataclasses import dataclass
from math import ceil, floor, log10


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A tick: its value in the axis's unit (log10 of it on a logarithmic axis), and its label."""

    value: float
    label: str


def even_ticks(low: float, high: float, *, about: int = 5) -> tuple[Tick, ...]:
    """Return about `about` ticks between the limits, at whole multiples of 1, 2, 2.5 or 5 times a power of ten."""
    span = high - low
    if span <= 0:
        return ()
    power = 10.0 ** floor(log10(span / about))
    step = min((power * digit for digit in (1, 2, 2.5, 5, 10)), key=lambda size: abs(span / size - about))
    decimals = max(0, -floor(log10(step)) + (1 if round(step / 10 ** floor(log10(step)), 3) == 2.5 else 0))
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return tuple(
        Tick(value=number * step, label=f"{number * step:,.{decimals}f}".replace("-", "−"))
        for number in range(first, last + 1)
    )


def log_ticks(low: float, high: float, *, about: int = 6) -> tuple[Tick, ...]:
    """Return ticks of a logarithmic axis between two powers of ten: each power, or 1, 2 and 5 of each if few fit.

    Args:
        low: log10 of the axis's lower limit.
        high: log10 of its upper limit.
        about: How many labels have room; more powers of ten than that are thinned evenly.

    """
    powers = range(floor(low), ceil(high) + 1)
    inside = [power for power in powers if low <= power <= high]
    digits = (1, 2, 5) if 3 * (high - low) <= about or len(inside) < 2 else (1,)
    step = max(1, ceil(len(inside) / about)) if digits == (1,) else 1
    values = [
        (power + log10(digit), digit * 10.0**power)
        for power in powers
        if power % step == 0
        for digit in digits
        if low <= power + log10(digit) <= high
    ]
    return tuple(Tick(value=place, label=_plain(value)) for place, value in values)


def _plain(value: float) -> str:
    """Write a number without an exponent."""
    return f"{value:,.10f}".rstrip("0").rstrip(".") if value < 1 else f"{value:,.0f}"
