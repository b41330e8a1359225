"""Exchange requests and answers with a server over one connection of the lean wire, from several threads.

There is no thread of its own: of those that wait for answers, one reads for all. A lone request therefore costs one
call to send, one to wait, and one to receive.
"""

import contextlib
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass

from isplit.runtime.edge.transport import TransportError, known_status
from isplit.runtime.lean.device_frames import (
    MAX_SLOTS,
    NO_NUMBER,
    LeanWireError,
    Opening,
    encode_cancel,
    encode_opening,
    encode_request,
)
from isplit.runtime.lean.server_frames import ERROR, FrameReader, ServerFrame, decode_error

_RECEIVE_BYTES = 2**16
_WANTS_MORE = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class LostError(TransportError):
    """The connection ended before the answer came; another connection may bring one."""


@dataclass(eq=False)
class _Waiter:
    frame: ServerFrame | None = None


class LeanLink:
    """Exchange frames on a connection whose server speaks the lean wire. `connected` is its non-blocking socket.

    `users` is the number of requests on it, `answers` the number of frames that came, and `heard_s` the time of the
    last one.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._io = threading.Lock()
        """Held for each call on the socket, because TLS allows only one at a time."""
        self._sending = threading.Lock()
        """Held while a frame is sent, so that frames do not mix."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._reader = FrameReader()
        self._is_read = False
        self._waiters: dict[int, _Waiter] = {}
        self._next_number = 0
        self._slots: dict[Opening, int] = {}
        self._fault: TransportError | None = None
        self.users = 0
        self.answers = 0
        self.heard_s = time.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether no fault of the connection is known."""
        return self._fault is None

    def exchange(self, opening: Opening, content: bytes, *, ends_s: float | None) -> bytes:
        """Send a request, and return the body of its answer. `ends_s` is the deadline on the monotonic clock.

        Raises:
            LostError: The connection ended first.
            TransportError: The server refused, or the deadline passed.

        """
        waiter = _Waiter()
        with self._lock:
            if self._fault is not None:
                raise self._fault
            number = self._next_number
            self._next_number = (number + 1) % NO_NUMBER
            self._waiters[number] = waiter
        try:
            self._send_request(opening, number, content, ends_s)
            self._wait(waiter, ends_s)
        except TransportError as error:
            if error.status == "DEADLINE_EXCEEDED":
                self._send_cancel(number)
            raise
        finally:
            with self._lock:
                del self._waiters[number]
        assert waiter.frame is not None
        if waiter.frame.kind == ERROR:
            raise stated_error(waiter.frame.body)
        return waiter.frame.body

    def fail(self, fault: TransportError) -> None:
        """End the connection; everybody who waits gets the fault."""
        with self._lock:
            if self._fault is None:
                self._fault = fault
            self._changed.notify_all()
        with contextlib.suppress(OSError):  # it may have ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; nobody may use the link any more."""
        self.fail(TransportError("CANCELLED", "the connection was closed"))
        self._socket.close()

    def _send_request(self, opening: Opening, number: int, content: bytes, ends_s: float | None) -> None:
        with self._sending:
            slot = self._slots.get(opening)
            prefix = b""
            if slot is None:
                slot = len(self._slots)
                if slot >= MAX_SLOTS:
                    raise TransportError("RESOURCE_EXHAUSTED", f"more than {MAX_SLOTS} models on one connection")
                prefix = encode_opening(slot, opening)
                self._slots[opening] = slot
            left_ms = None if ends_s is None else (ends_s - time.monotonic()) * 1e3
            self._send(prefix + encode_request(slot, number, content, deadline_ms=left_ms), ends_s)

    def _send(self, frame: bytes, ends_s: float | None) -> None:
        """Send all bytes; a frame that was begun and not finished ends the connection."""
        rest = memoryview(frame)
        while rest:
            try:
                with self._io:
                    rest = rest[self._socket.send(rest) :]
            except _WANTS_MORE as error:
                is_writing = not isinstance(error, ssl.SSLWantReadError)
                if not self._is_ready(ends_s, writing=is_writing):
                    fault = LostError("UNAVAILABLE", "the request could not be sent in time")
                    self.fail(fault)
                    raise TransportError("DEADLINE_EXCEEDED", "the request could not be sent in time") from None
            except (OSError, ValueError) as error:
                raise self._lost(error) from None

    def _send_cancel(self, number: int) -> None:
        """Tell the server that nobody waits any more, if that is possible without waiting."""
        frame = encode_cancel(number)
        with self._sending:
            try:
                with self._io:
                    sent = self._socket.send(frame)
            except (OSError, ValueError):
                return
            if sent < len(frame):
                self.fail(LostError("UNAVAILABLE", "the connection is full"))

    def _wait(self, waiter: _Waiter, ends_s: float | None) -> None:
        """Wait until another thread has read the answer, or read it."""
        with self._lock:
            while waiter.frame is None and self._is_read and self._fault is None:
                left_s = None if ends_s is None else ends_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    raise _late()
                self._changed.wait(left_s)
            if waiter.frame is not None:
                return
            if self._fault is not None:
                raise self._fault
            self._is_read = True
        try:
            while waiter.frame is None:
                # A server that sends without end what nobody waits for must not hold a request beyond its deadline.
                is_last = ends_s is not None and time.monotonic() >= ends_s
                self._read(ends_s)
                if is_last and waiter.frame is None:
                    raise _late()
        finally:
            with self._lock:
                self._is_read = False
                self._changed.notify_all()

    def _read(self, ends_s: float | None) -> None:
        """Receive what has come, and hand it to those who wait for it."""
        if not self._has_pending() and not self._is_ready(ends_s, writing=False):
            raise _late()
        try:
            with self._io:
                data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                raise self._lost(None)
            frames = self._reader.feed(data)
        except _WANTS_MORE:
            return
        except LeanWireError as error:
            fault = TransportError("UNKNOWN", f"the server answered with {error}")
            self.fail(fault)
            raise fault from None
        except (OSError, ValueError) as error:
            raise self._lost(error) from None
        self.heard_s = time.monotonic()
        with self._lock:
            for frame in frames:
                self.answers += 1
                # Answers that come after their deadline have no waiter any more.
                if (waiter := self._waiters.get(frame.number)) is not None:
                    waiter.frame = frame
            if len(self._waiters) > 1:
                self._changed.notify_all()
        for frame in frames:
            if frame.kind == ERROR and frame.number == NO_NUMBER:
                fault = stated_error(frame.body)
                self.fail(fault)
                raise fault

    def _has_pending(self) -> bool:
        """Return whether TLS holds bytes that it has received already."""
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def _is_ready(self, ends_s: float | None, *, writing: bool) -> bool:
        """Wait until the socket can be used; return False if the deadline came first."""
        return wait_for(self._socket, ends_s, writing=writing)

    def _lost(self, error: Exception | None) -> TransportError:
        """Note that the connection has ended, and return the reason."""
        why = "the server closed the connection" if error is None else f"the connection broke: {error}"
        self.fail(LostError("UNAVAILABLE", why))
        assert self._fault is not None
        return self._fault


def wait_for(connected: socket.socket, ends_s: float | None, *, writing: bool) -> bool:
    """Wait until a socket can be read or written; return False if a time on the monotonic clock came first."""
    left_s = None if ends_s is None else max(0.0, ends_s - time.monotonic())
    try:
        poll = select.poll()
        poll.register(connected, select.POLLOUT if writing else select.POLLIN)
        # poll would round down, and the last millisecond would be spent in a busy loop.
        return bool(poll.poll(None if left_s is None else -(-left_s * 1e3 // 1)))
    except (OSError, ValueError):
        return True  # it was closed; the next call on it says so


def _late() -> TransportError:
    return TransportError("DEADLINE_EXCEEDED", "no answer came in time")


def stated_error(body: bytes) -> TransportError:
    """Return what the body of an error frame says."""
    status, message = decode_error(body)
    return TransportError(known_status(status), message)
