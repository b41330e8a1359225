"""Turn one peer's bytes on the lean wire into calls, and answers into frames.

    hello --token--> known --opening--> method of a slot
                       |---request----> call --message--> method --answer or error--> the peer
                       |---cancel-----> the call ends

A peer sends one message after the other, so that at most one of its messages is under way; what it may hold, and for
how long, are the same limits as for gRPC. Messages are short (`MAX_CONTENT_BYTES`) and therefore never wait for room.
The bytes of a refused message are skipped.
"""

from __future__ import annotations

import itertools
from math import inf
from typing import TYPE_CHECKING, Any

from isplit.runtime.lean.device_frames import (
    CANCEL,
    MAGIC,
    NO_NUMBER,
    OPENING,
    LeanWireError,
    decode_cancel,
    decode_opening,
    decode_request,
    frame_bytes,
    hello_bytes,
    hello_token,
)
from isplit.runtime.lean.server_frames import ANSWER, ERROR, error_body, server_frame
from isplit.runtime.server.front.call import Call
from isplit.runtime.server.front.peer import Peer
from isplit.runtime.server.front.running import fine, finish, start
from isplit.runtime.server.refusal import RefusedError

if TYPE_CHECKING:
    from isplit.runtime.server.front.hub import Hub
    from isplit.runtime.server.front.method import Method
    from isplit.runtime.server.front.output import Output


class LeanCall(Call):
    """A call of the lean wire; `number` is what its peer calls it."""

    def __init__(self, *arguments: Any, number: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.number = number


class LeanConnection(Peer):
    """Receive and answer the calls of one peer that speaks the lean wire."""

    def __init__(self, output: Output, hub: Hub) -> None:
        super().__init__(output, hub)
        self._greeted = False
        self._token_epoch = -1
        self._methods: dict[int, Method | RefusedError] = {}
        self._stream_ids = itertools.count()
        self._head = bytearray()
        self._receiving: LeanCall | None = None
        """The call whose message is under way."""
        self._left = 0
        """Bytes of the message under way that have not arrived; those of a refused message are skipped."""
        self._turn_left = 0
        """Calls that may still begin in this turn of the event loop."""

    def receive(self, data: bytes) -> int:
        """Process bytes of the peer, answer what can be answered at once, and return how many bytes were processed."""
        content, at = memoryview(data), 0
        self._turn_left = self.front.limits.lean_turn_calls
        try:
            while at < len(content) and self._turn_left and not self.closing:
                at += self._take_content(content[at:]) if self._left else self._take_head(content[at:])
        except LeanWireError as error:
            self._end(str(error))
        return at

    def open_window(self, call: Call, missing: int) -> None:
        """Do nothing, because messages of this wire never wait."""

    def refuse(self, call: Call, error: RefusedError) -> None:
        """End a call without an answer, and give the reason."""
        self.front.refused(call, error)
        if call.state == "receiving":
            fine(self)
        if call is self._receiving:
            self._receiving = None
        finish(call)
        if isinstance(call, LeanCall):
            self._send_error(call.number, error)

    def send_message(self, call: Call, message: bytes, *, last: bool = False) -> None:
        """Send the answer to a call."""
        assert last, "answers of this wire are single messages"
        assert isinstance(call, LeanCall)
        if call.state != "done":
            finish(call)
            self._output.write(server_frame(ANSWER, call.number, message))

    def go_away(self) -> None:
        """Drop open calls, and close once the pending bytes have been sent."""
        self._end(None)

    def sweep(self, now: float) -> None:
        """Do nothing: a peer that does not read is closed by the channel, as nothing of its answers is kept here."""

    def _take_head(self, content: memoryview) -> int:
        """Collect a hello or the head of a frame, and process it once it is complete; return the bytes taken."""
        length_of = frame_bytes if self._greeted else hello_bytes
        taken = 0
        missing = 1 if self._greeted and not self._head else length_of(self._head) - len(self._head)
        while missing > 0:
            piece = content[taken : taken + missing]
            self._head += piece
            taken += len(piece)
            if len(piece) < missing:
                if not self._greeted:
                    hello_bytes(self._head)  # other first bytes are refused before the rest has come
                return taken
            missing = length_of(self._head) - len(self._head)
        head, self._head = self._head, bytearray()
        if not self._greeted:
            self._greet(hello_token(head))
        elif head[0] == OPENING:
            self._open(head)
        elif head[0] == CANCEL:
            self._cancel(decode_cancel(head))
        else:
            self._begin(head)
        return taken

    def _greet(self, token: bytes) -> None:
        """Check the token: a peer without it is told so, and must connect again."""
        if not self.front.is_authorised((b"Bearer " + token,)):
            self.front.note("token", peer=self.peer, detail="the token of a lean connection is missing or wrong")
            fine(self)
            msg = "give the server's token"
            self._send_error(NO_NUMBER, RefusedError("UNAUTHENTICATED", msg, reason="token"))
            self._end(None)
            return
        self._greeted = True
        self._token_epoch = self.front.token_epoch
        if not self.known:
            self.known = True
            self.front.became_known(self)
        self._output.write(MAGIC)

    def _open(self, head: bytearray) -> None:
        """Remember the method of a slot, or why there is none: requests at that slot will get the reason."""
        slot, opening = decode_opening(head)
        try:
            if self.front.open_lean is None:
                raise RefusedError("UNIMPLEMENTED", "this server does not answer on the lean wire")
            self._methods[slot] = self.front.open_lean(opening)
        except RefusedError as error:
            self._methods[slot] = error

    def _cancel(self, number: int) -> None:
        for call in list(self.calls.values()):
            if isinstance(call, LeanCall) and call.number == number:
                if call is self._receiving:
                    self._receiving = None
                finish(call)

    def _begin(self, content: bytearray) -> None:
        """Check a request's head; the content of a request that is not allowed is skipped."""
        head = decode_request(content)
        if self._token_epoch != self.front.token_epoch:
            self._send_error(NO_NUMBER, RefusedError("UNAUTHENTICATED", "the server's token has changed"))
            self._end(None)
            return
        self._left = head.length
        now = self.front.now()
        try:
            method = self._method(head.slot)
            if len(self.calls) >= self.front.limits.max_streams:
                msg = f"{len(self.calls)} requests of this connection are open: wait for answers"
                raise RefusedError("RESOURCE_EXHAUSTED", msg, reason="too_many_calls")
        except RefusedError as error:
            self.front.note(error.reason, peer=self.peer, detail=str(error))
            fine(self)
            self._send_error(head.number, error)
            return
        deadline = now + head.deadline_ms / 1e3 if head.deadline_ms else inf
        stream_id = next(self._stream_ids)
        call = LeanCall(self, stream_id, method, opened_at=now, deadline=deadline, number=head.number)
        self.calls[stream_id] = call
        self._receiving = call
        try:
            self.front.receiving.admit(call)
            call.announce(head.length, receiving=self.front.receiving, now=now)
        except RefusedError as error:
            self.refuse(call, error)
            return
        if not head.length:
            self._dispatch(call)

    def _method(self, slot: int) -> Method:
        method = self._methods.get(slot)
        if method is None:
            msg = f"there is no model at slot {slot}: open it first"
            raise RefusedError("INVALID_ARGUMENT", msg)
        if isinstance(method, RefusedError):
            raise RefusedError(method.status, str(method), reason=method.reason)
        return method

    def _take_content(self, content: memoryview) -> int:
        piece = content[: self._left]
        self._left -= len(piece)
        if (call := self._receiving) is not None:
            call.feed(piece, receiving=self.front.receiving, now=self.front.now())
            if not self._left:
                self.has_more = len(content) > len(piece)
                self._dispatch(call)
        return len(piece)

    def _dispatch(self, call: LeanCall) -> None:
        self._receiving = None
        self._turn_left -= 1
        start(call)

    def _send_error(self, number: int, error: RefusedError) -> None:
        self._output.write(server_frame(ERROR, number, error_body(error.status, str(error))))

    def _drop_calls(self) -> None:
        self._receiving = None
        super()._drop_calls()

    def _end(self, fault: str | None) -> None:
        """Close the connection. A `fault` is the peer's, for the operator."""
        if self.closing:
            return
        self.closing = True
        if fault is not None:
            self.front.note("protocol_error", peer=self.peer, detail=fault)
        self._drop_calls()
        self._output.close()
