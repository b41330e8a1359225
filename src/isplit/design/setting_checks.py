"""Checks of single values that the settings of several verbs share; this module loads no torch."""

import re
from collections.abc import Sequence

from isplit.errors import InputError


def check_choice(name: str, value: object, known: Sequence[str]) -> None:
    """Refuse a value that is none of those that are known."""
    if value not in known:
        msg = f"{name} is {value!r}; choose one of {', '.join(known)}"
        raise InputError(msg)


def check_device(device: str) -> None:
    """Refuse what names no device anywhere; whether it is here is seen when it is used."""
    if re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?|mps", device) is None:
        msg = f"device is {device!r}; choose one of auto, cpu, cuda, cuda:N (its number from 0) or mps"
        raise InputError(msg)


def check_range(name: str, value: float | None, low: float, high: float = float("inf")) -> None:
    """Refuse a number below `low` or above `high`; None is no number and is let through."""
    if value is not None and not low <= value <= high:
        limit = "" if high == float("inf") else f", at most {high:g}"
        msg = f"{name} is {value}; give at least {low:g}{limit}"
        raise InputError(msg)
