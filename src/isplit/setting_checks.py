"""Check the fields of a settings class: their types, their ranges and their choices.

A wrong value is named at once, with what to give instead. This module loads no torch.
"""

import dataclasses
import math
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from isplit.errors import InputError

_NUMBERS: dict[type, type] = {int: Integral, float: Real}
_WORDS: dict[object, str] = {
    NoneType: "None",
    int: "a whole number",
    float: "a number",
    str: "a text",
    bytes: "bytes",
    bool: "True or False",
    Path: "a path",
}
_LONGEST = 60


def check_types(settings: Any) -> None:
    """Refuse a field of a dataclass whose value is not of its type, where the type is a plain one.

    Numbers of numpy are numbers too, whole numbers count as numbers, and True and False do not. Types that are not
    plain (choices of words, callables, sequences, protocols) are not checked.

    Raises:
        InputError: a value is of another type; the message names the field, and what to give.

    Examples:
        >>> check_types(isplit.PredictSettings(images=None))

    """
    for name, kinds in _plain_fields(type(settings)).items():
        value = getattr(settings, name)
        if not any(_fits(value, kind) for kind in kinds):
            shown = repr(value)
            shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
            msg = f"{name} is {shown}; give {' or '.join(_word(kind) for kind in kinds)}"
            raise InputError(msg)


def check_ranges(settings: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Refuse settings of which a number is out of its range.

    Args:
        settings: An object whose attributes are checked. An attribute that is None is never refused.
        ranges: For each attribute the least and the largest value; infinity where there is no largest one.

    Raises:
        InputError: a number is out of its range, or not a number; the message names it, and the range.

    Examples:
        >>> check_ranges(isplit.BenchSettings(threads=2), {"threads": (1, 256)})

    """
    for name, (least, most) in ranges.items():
        value: float | None = getattr(settings, name)
        if value is not None and not least <= value <= most:
            advice = f"at least {least:,}" if most == math.inf else f"a number from {least:,} to {most:,}"
            msg = f"{name} is {value}; give {advice}"
            raise InputError(msg)


def check_choice(name: str, value: object, known: Sequence[str]) -> None:
    """Refuse a value that is none of those that are known."""
    if value not in known:
        msg = f"{name} is {value!r}; choose one of {', '.join(known)}"
        raise InputError(msg)


def check_device(device: str) -> None:
    """Refuse what names no device anywhere; whether it is here is seen when it is used."""
    if re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?|mps", device) is None:
        msg = (
            f"device is {device!r}; choose one of auto, cpu, cuda, cuda:N (its number from 0) or mps, where this "
            "machine computes. `plan` takes the device of a split, such as pi4"
        )
        raise InputError(msg)


@cache
def _plain_fields(kind: type) -> dict[str, tuple[Any, ...]]:
    """Return the fields that can be checked, each with its alternatives."""
    names = vars(sys.modules[kind.__module__])
    plain: dict[str, tuple[Any, ...]] = {}
    for field in dataclasses.fields(kind):
        annotation: Any = field.type
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, dict(names))  # the text stands in our own source
            except (NameError, TypeError):
                continue  # it names what is imported for type checkers only
        alternatives = tuple(_alternatives(annotation))
        if all(alternative in _WORDS or _is_class(alternative) for alternative in alternatives):
            plain[field.name] = alternatives
    return plain


def _alternatives(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _alternatives(get_args(annotation)[0])
    if origin is Union or origin is UnionType:
        return [inner for part in get_args(annotation) for inner in _alternatives(part)]
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return [Mapping]
    return [NoneType if annotation is None else annotation]


def _is_class(kind: Any) -> bool:
    """Return whether `isinstance` can tell: a class of ours, or a mapping; not a protocol."""
    is_protocol = getattr(kind, "_is_protocol", False)
    return kind is Mapping or (isinstance(kind, type) and kind.__module__.startswith("isplit.") and not is_protocol)


def _fits(value: object, kind: Any) -> bool:
    if kind in _NUMBERS:
        return isinstance(value, _NUMBERS[kind]) and not isinstance(value, bool)
    # A path may be given as text wherever it is read.
    return isinstance(value, kind) or (kind is Path and isinstance(value, str))


def _word(kind: Any) -> str:
    if kind is Mapping:
        return "a dictionary"
    return _WORDS.get(kind) or f"`{kind.__name__}`"
