"""Receive the message of one call, and send its answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

import numpy as np

from isplit.runtime.server.front.grpc_wire import framed
from isplit.runtime.server.front.limits import PREFIX_BYTES
from isplit.runtime.server.refusal import RefusedError

if TYPE_CHECKING:
    from isplit.runtime.server.front.method import Method
    from isplit.runtime.server.front.peer import Peer
    from isplit.runtime.server.front.receiving import Receiving

CallState = Literal["receiving", "computing", "sending", "done"]


class Call:
    """Hold the bytes of one call's message; `Receiving` decides when there is room for them.

    `heard_at` is the time of the last byte, and `granted_at` the time at which the whole message got its room. Both
    are times of the event loop's clock, in seconds.
    """

    def __init__(self, connection: Peer, stream_id: int, method: Method, *, opened_at: float, deadline: float) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.method = method
        self.opened_at = opened_at
        self.heard_at = opened_at
        self.granted_at: float | None = None
        self.deadline = deadline
        self.state: CallState = "receiving"
        self.length: int | None = None
        self.filled = 0
        self.charges: dict[str, int] = {}
        """Bytes that `Receiving` has reserved for the message, by the name of their share."""
        self.half_closed = False
        """Whether the peer has said that nothing more will come."""
        self.answer_begun = False
        self.outgoing = bytearray()
        self.answer_complete = False
        self.sending_since = 0.0
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._prefix = bytearray()
        self._early = bytearray()
        self._buffer = memoryview(b"")

    @property
    def peer(self) -> str:
        """The caller's address."""
        return self.connection.peer

    @property
    def message(self) -> memoryview:
        """The message; available once it has arrived."""
        return self._buffer

    def feed(self, data: bytes | memoryview, *, receiving: Receiving, now: float) -> None:
        """Add received bytes to the message.

        Raises:
            RefusedError: The message is compressed, too long, or followed by another; or there is no room for it.

        """
        self.heard_at = now
        content = memoryview(data)
        if self.length is None:
            missing = PREFIX_BYTES - len(self._prefix)
            self._prefix += content[:missing]
            content = content[missing:]
            if len(self._prefix) < PREFIX_BYTES:
                return
            self.announce(self._read_length(), receiving=receiving, now=now)
        assert self.length is not None
        if self.filled + len(content) > self.length:
            msg = "there is more than one message: give one"
            raise RefusedError("INVALID_ARGUMENT", msg)
        if self.granted_at is None:
            self._early += content
        else:
            self._buffer[self.filled : self.filled + len(content)] = content
        self.filled += len(content)

    def announce(self, length: int, *, receiving: Receiving, now: float) -> None:
        """Set the length of the message, and reserve room for it.

        Raises:
            RefusedError: The message is too long, or there is no room for it.

        """
        if length > self.method.max_bytes:
            msg = f"the message has {length} bytes, at most {self.method.max_bytes}: send less at a time"
            raise RefusedError("RESOURCE_EXHAUSTED", msg, reason="message_too_long")
        self.length = length
        receiving.reserve(self, now=now)

    def grant(self, now: float) -> None:
        """Reserve room for the whole message, and move the bytes that came earlier there."""
        assert self.length is not None
        self.granted_at = self.heard_at = now
        # The system provides this memory page by page, as bytes arrive.
        self._buffer = np.empty(self.length, np.uint8).data
        self._buffer[: len(self._early)] = self._early
        self._early = bytearray()

    def check_complete(self) -> None:
        """Refuse a message that ended before it was complete."""
        if self.length is None or self.filled < self.length or self.granted_at is None:
            msg = f"the message ended after {self.filled} of {self.length or 0} bytes"
            raise RefusedError("INVALID_ARGUMENT", msg)

    @property
    def is_lone(self) -> bool:
        """Whether nobody else is known to be waiting, and no other call of the same connection."""
        connection = self.connection
        is_last_caller = connection.front.is_lone(connection)
        return is_last_caller and not connection.has_more and len(connection.calls) == 1

    def release(self) -> None:
        """Release the message's memory."""
        if self.charges:
            self._buffer, self._early = memoryview(b""), bytearray()
            self.connection.front.receiving.release(self)

    def send(self, message: bytes) -> None:
        """Send one message of an answer that consists of several."""
        self.connection.send_message(self, message)

    def put(self, message: bytes) -> None:
        """Append a message to the outgoing bytes."""
        self.outgoing += framed(message)

    def _read_length(self) -> int:
        if self._prefix[0]:
            msg = "the message is compressed: send it as it is"
            raise RefusedError("UNIMPLEMENTED", msg, reason="compressed")
        return int.from_bytes(self._prefix[1:], "big")
