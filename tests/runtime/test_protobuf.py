"""isplit.runtime.protobuf: the fields of a message by hand, and what is no message."""

import pytest

from isplit.runtime.protobuf import LENGTH_DELIMITED, Field, MalformedError, fields


def test_fields_by_hand():
    """One field of each wire type; start and end bound the content."""
    content = b"\x08\x96\x01" + b"\x12\x03abc" + b"\x1d\x00\x00\x00\x00" + b"\x21" + bytes(8)
    expected = [Field(1, 0, 1, 3), Field(2, LENGTH_DELIMITED, 5, 8), Field(3, 5, 9, 13), Field(4, 1, 14, 22)]
    assert expected == list(fields(content, 0, len(content)))
    assert b"abc" == content[expected[1].start : expected[1].end]


def test_large_field_number():
    """A number of a field may take two bytes: 16 << 3 | 2 is 130."""
    assert [Field(16, LENGTH_DELIMITED, 3, 4)] == list(fields(b"\x82\x01\x01x", 0, 4))


def test_part_of_the_bytes():
    """Only what lies between start and end is read."""
    assert [Field(1, 0, 3, 4)] == list(fields(b"\xff\xff\x08\x01\xff", 2, 4))
    assert [] == list(fields(b"\xff", 1, 1))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x12\x04abc", "ends at byte 6, what holds it at 5"),
        (b"\x0d\x00\x00", "ends at byte 5"),
        (b"\x0b", "wire type 3"),
        (b"\x08", "no number at byte 1"),
        (b"\x08\x80", "no number at byte 1"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "no number at byte 1"),
    ],
)
def test_malformed(content, says):
    """Fields that are cut off, groups, and numbers of more than ten bytes are refused with their place."""
    with pytest.raises(MalformedError, match=says):
        list(fields(content, 0, len(content)))
