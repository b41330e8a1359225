"""How a setting of the compressed image is written, and what is refused."""

import pytest

from isplit.errors import InputError
from isplit.records import Compression


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("webp:50@0.5", Compression(format="webp", quality=50, scale=0.5)),
        ("jpeg:75", Compression(format="jpeg", quality=75)),
        ("png", Compression(format="png", quality=None)),
        ("avif:40@.75", Compression(format="avif", quality=40, scale=0.75)),
    ],
)
def test_a_setting_is_read_and_written_again(text, expected):
    """The text of a setting that was read is read as the same setting."""
    assert expected == Compression.from_tag(text)
    assert expected == Compression.from_tag(expected.tag)


@pytest.mark.parametrize(
    "text", ["", "webp", "gif:50", "webp:0", "webp:101", "webp:50@2", "webp:50@0", "webp:a", "png:5@"]
)
def test_what_is_refused(text):
    """Unknown formats, figures out of range and half texts; the message shows how to write one."""
    if text == "webp":  # without a quality it is lossless
        assert Compression.from_tag(text).quality is None
        return
    with pytest.raises(InputError, match=r"such as webp:50@0\.5"):
        Compression.from_tag(text)
