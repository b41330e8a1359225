"""Walk the fields of a protobuf message without building it, to inspect it before memory is allocated."""

import mmap
from collections.abc import Iterator
from typing import NamedTuple

LENGTH_DELIMITED = 2
"""The wire type of strings, bytes, messages and packed numbers."""


class MalformedError(Exception):
    """The bytes are not a protobuf message. It is caught where the expected message is known."""


class Field(NamedTuple):
    """One field: its number, its wire type, and the start and end of its content."""

    number: int
    wire_type: int
    start: int
    end: int


def fields(content: bytes | mmap.mmap | memoryview, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message in content[start:end], including unknown ones.

    Raises:
        MalformedError: a field is cut off, extends beyond `end`, or has a wire type that is no longer in use.

    """
    at = start
    while at < end:
        tag, first = _varint(content, at, end)
        wire_type = tag & 7
        if wire_type == 0:
            _, at = _varint(content, first, end)
        elif wire_type in (1, 5):
            at = first + (8 if wire_type == 1 else 4)
        elif wire_type == LENGTH_DELIMITED:
            length, first = _varint(content, first, end)
            at = first + length
        else:
            msg = f"the field at byte {at} has wire type {wire_type}"
            raise MalformedError(msg)
        if at > end:
            msg = f"a field ends at byte {at}, what holds it at {end}"
            raise MalformedError(msg)
        yield Field(tag >> 3, wire_type, first, at)


def _varint(content: bytes | mmap.mmap | memoryview, at: int, end: int) -> tuple[int, int]:
    if at < end and content[at] < 0x80:  # nearly always
        return content[at], at + 1
    value = 0
    for place in range(at, min(at + 10, end)):
        value |= (content[place] & 0x7F) << 7 * (place - at)
        if content[place] < 0x80:
            return value, place + 1
    msg = f"there is no number at byte {at}"
    raise MalformedError(msg)
