"""Turn one peer's HTTP/2 frames into calls and answers into frames, opening every flow-control window explicitly."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error
from hyperframe.frame import GoAwayFrame

from isplit.runtime.server.front.call import Call
from isplit.runtime.server.front.frames import FrameFloodError, FrameMeter
from isplit.runtime.server.front.grpc_wire import RESPONSE_HEADERS, Headers, read_head, trailers
from isplit.runtime.server.front.http2 import MAX_HEADER_BYTES, new_http2
from isplit.runtime.server.front.limits import PREFIX_BYTES, WINDOW_BYTES
from isplit.runtime.server.front.peer import Peer
from isplit.runtime.server.front.running import fine, finish, start
from isplit.runtime.server.refusal import RefusedError

if TYPE_CHECKING:
    from isplit.runtime.server.front.hub import Hub
    from isplit.runtime.server.front.output import Output

_TURN_CALLS = 8
"""Most calls that one connection begins in a turn of the event loop; 100 of them take about 50 ms. A known peer whose
calls cost much begins one."""
_WINDOW_STEP_BYTES = 2**14
"""Bytes in which the connection's window is refilled."""


class Connection(Peer):
    """Receive and answer the calls of one peer that speaks gRPC over HTTP/2."""

    def __init__(self, output: Output, hub: Hub) -> None:
        super().__init__(output, hub)
        self._collecting = False
        self._meter = FrameMeter(max_header_bytes=MAX_HEADER_BYTES)
        self._http2 = new_http2(max_streams=hub.limits.max_streams)
        self._credit = 0
        """Bytes that the peer may send beyond the connection's first window, for long messages."""
        self._unrestored = 0
        # The settings are sent with the answer to the peer's first bytes, which tell what the peer speaks.
        self._http2.initiate_connection()

    def receive(self, data: bytes) -> int:
        """Process bytes of the peer, answer what can be answered at once, and return how many bytes were processed."""
        taken = len(data)
        try:
            taken = self._take(data)
        except FrameFloodError as error:
            self._end(ErrorCodes.ENHANCE_YOUR_CALM, str(error))
        except (H2Error, ValueError, KeyError, IndexError, UnicodeError) as error:
            # Whatever it is, it is the peer's fault. It ends this connection and nothing else; h2 has sent GOAWAY.
            self.flush()
            self._end(None, f"{type(error).__name__}: {error}")
        else:
            self.flush()
        return taken

    def flush(self) -> None:
        """Send all bytes that are ready; the answers to one piece of the peer's bytes are sent in one write."""
        if not self._collecting and (data := self._http2.data_to_send()):
            self._output.write(data)

    def open_window(self, call: Call, missing: int) -> None:
        """Allow the peer to send the rest of a long message."""
        self._credit += missing
        self._open(missing, None)
        self._open((call.length or 0) + PREFIX_BYTES - WINDOW_BYTES, call.stream_id)
        self.flush()

    def refuse(self, call: Call, error: RefusedError) -> None:
        """End a call without an answer, and give the reason."""
        self.front.refused(call, error)
        if call.state == "receiving":
            fine(self)
        finish(call)
        self._end_stream(call, trailers(error.status, str(error)))
        self.flush()

    def send_message(self, call: Call, message: bytes, *, last: bool = False) -> None:
        """Send a message of an answer, as fast as the peer reads."""
        if call.state == "done":
            return
        try:
            if not call.answer_begun:
                self._http2.send_headers(call.stream_id, RESPONSE_HEADERS)
                call.answer_begun = True
        except H2Error:
            finish(call)
            return
        call.put(message)
        call.answer_complete = last
        if not call.sending_since:
            call.sending_since = self.front.now()
        self._pump(call)
        self.flush()

    def go_away(self) -> None:
        """Refuse further calls, drop open ones, and close once the pending bytes have been sent."""
        self._end(ErrorCodes.NO_ERROR, None)

    def lost(self) -> None:
        """Note that the connection is lost, and release the state of HTTP/2."""
        super().lost()
        self._http2.forget()

    def sweep(self, now: float) -> None:
        """Drop answers that the peer does not read."""
        for call in list(self.calls.values()):
            if call.outgoing and now - call.sending_since > self.front.limits.send_seconds:
                message = f"the answer was not read within {self.front.limits.send_seconds:.0f} s"
                self.front.refused(call, RefusedError("UNAVAILABLE", message, reason="not_read"))
                finish(call)
                self._reset(call.stream_id, ErrorCodes.CANCEL)
                self.flush()

    def _take(self, data: bytes) -> int:
        self._collecting, start = True, 0
        try:
            for _ in range(1 if self.known and not self.trusted else _TURN_CALLS):
                if start == len(data) or self.closing:
                    break
                # A stranger's further calls are not processed before the first one is authorised.
                end = self._meter.feed(data, start=start, one_block=True)
                for event in self._http2.receive_data(memoryview(data)[start:end]):
                    self._handle(event)
                start = end
        finally:
            self._collecting = False
        return start

    def _handle(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self._take_data(event)
        elif isinstance(event, RequestReceived):
            self._begin(event.stream_id, event.headers)  # type: ignore[arg-type] - bytes, as header_encoding is None
        elif isinstance(event, StreamEnded):
            self._dispatch(event.stream_id)
        elif isinstance(event, StreamReset):
            if call := self.calls.get(event.stream_id):
                finish(call)
        elif isinstance(event, WindowUpdated):
            stalled = self.calls.values() if event.stream_id == 0 else (self.calls.get(event.stream_id),)
            for call in list(stalled):
                if call and call.outgoing:
                    self._pump(call)
        elif isinstance(event, ConnectionTerminated):
            self._end(None, None)

    def _begin(self, stream_id: int, headers: Headers) -> None:
        """Check a call's headers; a call that is not allowed ends here, before a byte of its message is kept."""
        head = read_head(headers)
        if head.http_method != b"POST" or not head.content_type.startswith(b"application/grpc"):
            self.front.note("not_grpc", peer=self.peer, detail=f"content-type {head.content_type[:80]!r}")
            self._respond_only(stream_id, [(b":status", b"415")])
            return
        now = self.front.now()
        try:
            method, is_authorised = self.front.admit(head)
        except RefusedError as error:
            self.front.note(error.reason, peer=self.peer, detail=str(error))
            fine(self)
            self._respond_only(stream_id, [*RESPONSE_HEADERS, *trailers(error.status, str(error))])
            if error.status == "UNAUTHENTICATED" and not self.known:
                self._end(ErrorCodes.NO_ERROR, None)  # A peer that continues without the token must connect again.
            return
        if is_authorised and not self.known:
            self.known = True
            self.front.became_known(self)
        call = Call(self, stream_id, method, opened_at=now, deadline=now + head.timeout_s)
        self.calls[stream_id] = call
        try:
            self.front.receiving.admit(call)
        except RefusedError as error:
            self.refuse(call, error)
            if not self.known:
                self._end(ErrorCodes.NO_ERROR, None)

    def _take_data(self, event: DataReceived) -> None:
        self._restore(event.flow_controlled_length)
        call = self.calls.get(event.stream_id)
        if call is None or call.state != "receiving":
            return
        try:
            call.feed(event.data, receiving=self.front.receiving, now=self.front.now())
        except RefusedError as error:
            self.refuse(call, error)
            return
        if (padding := event.flow_controlled_length - len(event.data)) > 0 and event.stream_ended is None:
            self._open(padding, event.stream_id)

    def _restore(self, size: int) -> None:
        """Refill the connection's window by the bytes that arrived beyond what long messages were granted on top."""
        covered = min(size, self._credit)
        self._credit -= covered
        self._unrestored += size - covered
        if self._unrestored >= _WINDOW_STEP_BYTES:
            self._open(self._unrestored, None)
            self._unrestored = 0

    def _open(self, increment: int, stream_id: int | None) -> None:
        if increment > 0:
            with contextlib.suppress(H2Error, KeyError):  # the stream may have ended meanwhile
                self._http2.increment_flow_control_window(increment, stream_id)

    def _dispatch(self, stream_id: int) -> None:
        call = self.calls.get(stream_id)
        if call is None:
            return
        call.half_closed = True
        if call.state != "receiving":
            return
        try:
            call.check_complete()
        except RefusedError as error:
            self.refuse(call, error)
            return
        start(call)

    def _pump(self, call: Call) -> None:
        """Write as much of an answer as the peer's windows allow, and end the stream after the last byte."""
        try:
            while call.outgoing:
                window = self._http2.local_flow_control_window(call.stream_id)
                size = min(window, self._http2.max_outbound_frame_size, len(call.outgoing))
                if size <= 0:
                    return
                self._http2.send_data(call.stream_id, bytes(call.outgoing[:size]))
                del call.outgoing[:size]
        except H2Error:
            finish(call)
            return
        call.sending_since = 0.0
        if call.answer_complete:
            finish(call)
            self._end_stream(call, trailers("OK"))

    def _end_stream(self, call: Call, lines: Headers) -> None:
        head = [] if call.answer_begun else RESPONSE_HEADERS
        try:
            self._http2.send_headers(call.stream_id, [*head, *lines], end_stream=True)
        except H2Error:
            return  # the peer has ended the stream
        if not call.half_closed:
            self._reset(call.stream_id, ErrorCodes.NO_ERROR)

    def _respond_only(self, stream_id: int, headers: Headers) -> None:
        self._http2.send_headers(stream_id, headers, end_stream=True)
        self._reset(stream_id, ErrorCodes.NO_ERROR)

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        with contextlib.suppress(H2Error):  # it may be closed already
            self._http2.reset_stream(stream_id, code)

    def _end(self, code: ErrorCodes | None, reason: str | None) -> None:
        """Close the connection, after GOAWAY if a code is given. A `reason` is the peer's fault, for the operator."""
        if self.closing:
            return
        self.closing = True
        if reason is not None:
            self.front.note("protocol_error", peer=self.peer, detail=reason)
        self._drop_calls()
        self._collecting = False
        self.flush()
        if code is not None:
            # The frame is written by hand, because h2 sends nothing after its own GOAWAY.
            goodbye: Any = GoAwayFrame(0, last_stream_id=self._http2.highest_inbound_stream_id, error_code=int(code))
            self._output.write(goodbye.serialize())
        self._output.close()
