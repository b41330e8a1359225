"""Following frames, whatever pieces their bytes come in."""

import pytest

from isplit.runtime.server.front.frames import FrameFloodError, FrameMeter

PREFACE = bytes(24)
SETTINGS, HEADERS, CONTINUATION, DATA = 4, 1, 9, 0


def frame(kind, length, flags=0):
    return length.to_bytes(3, "big") + bytes([kind, flags, 0, 0, 0, 1]) + bytes(length)


@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
def test_headers_up_to_the_limit(piece):
    """Blocks of headers up to the limit pass, one after the other, in one frame or in several."""
    meter = FrameMeter(max_header_bytes=100)
    whole, begun, ended = frame(HEADERS, 100, 4), frame(HEADERS, 60), frame(CONTINUATION, 40, 4)
    content = PREFACE + frame(SETTINGS, 6) + whole + begun + ended + frame(DATA, 16384) + whole
    for at in range(0, len(content), piece):
        part = content[at : at + piece]
        assert len(part) == meter.feed(part)


@pytest.mark.parametrize(
    "content",
    [
        frame(HEADERS, 101, 4),
        frame(HEADERS, 60) + frame(CONTINUATION, 41, 4),
        frame(HEADERS, 60) + frame(CONTINUATION, 1) * 41,
        frame(DATA, 16385),
        b"\xff\xff\xff\0\0\0\0\0\1",
    ],
)
def test_too_long(content):
    """A longer block, in however many frames, or a longer frame is an error as soon as its length is known."""
    meter = FrameMeter(max_header_bytes=100)
    with pytest.raises(FrameFloodError):
        meter.feed(PREFACE + content)


def test_one_block():
    """With `one_block` it stops behind the frame that completes a block, and goes on from there."""
    meter = FrameMeter(max_header_bytes=100)
    first = PREFACE + frame(SETTINGS, 0) + frame(HEADERS, 10) + frame(CONTINUATION, 5, 4)
    content = first + frame(HEADERS, 0, 4) + frame(DATA, 3)
    assert len(first) == meter.feed(content, one_block=True)
    assert len(first) + 9 == meter.feed(content, start=len(first), one_block=True)
    assert len(content) == meter.feed(content, start=len(first) + 9, one_block=True)
