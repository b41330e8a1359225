"""Check the outline of HTTP/2 frames before they are parsed, to bound what a parser would keep."""

from isplit.errors import IsplitError

FRAME_HEADER_BYTES = 9
_PREFACE_BYTES = 24
_HEADERS, _CONTINUATION = 1, 9
_END_HEADERS = 4
_MAX_FRAME_BYTES = 2**14
"""The longest frame that HTTP/2 allows by default. h2 checks it only once the whole frame has arrived."""


class FrameFloodError(IsplitError):
    """A peer sends a longer frame, or more headers, than any call needs."""


class FrameMeter:
    """Follow the frames of one connection, and bound the length of each frame and header block.

    A parser must keep a frame until it is complete, and a header block until its last frame. This class keeps only
    numbers.
    """

    def __init__(self, *, max_header_bytes: int) -> None:
        self._max_header_bytes = max_header_bytes
        self._skip = _PREFACE_BYTES
        self._header = bytearray()
        self._block_bytes = 0
        self._ends_block = False

    def feed(self, data: bytes, *, start: int = 0, one_block: bool = False) -> int:
        """Follow the bytes from `start` on, and return where this ended.

        It ends at the end of the data or, with `one_block`, after the first frame that completes a header block.

        Raises:
            FrameFloodError: A frame or a block of headers is too long.

        """
        at, end = start, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
            else:
                piece = data[at : at + FRAME_HEADER_BYTES - len(self._header)]
                self._header += piece
                at += len(piece)
                if len(self._header) == FRAME_HEADER_BYTES:
                    self._begin_frame()
            if self._ends_block and not self._skip:
                self._ends_block = False
                if one_block:
                    return at
        return end

    def _begin_frame(self) -> None:
        length = int.from_bytes(self._header[:3], "big")
        kind, flags = self._header[3], self._header[4]
        self._header.clear()
        self._skip = length
        if length > _MAX_FRAME_BYTES:
            msg = f"a frame of {length} bytes"
            raise FrameFloodError(msg)
        if kind not in (_HEADERS, _CONTINUATION):
            return
        self._block_bytes += length
        if self._block_bytes > self._max_header_bytes:
            msg = f"more than {self._max_header_bytes} bytes of headers"
            raise FrameFloodError(msg)
        if flags & _END_HEADERS:
            self._block_bytes = 0
            self._ends_block = True
