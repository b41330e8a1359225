"""Bytes between a socket and a connection, in plain text or through TLS, in pieces that the loop can afford.

asyncio's own TLS keeps a quarter of a mebibyte for every connection, and reads on while a handshake floods it. Here all
connections read into one buffer, a piece at a time, and a stranger's piece waits for its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from typing import TYPE_CHECKING, cast

from isplit.runtime.server.front.connection import Connection

if TYPE_CHECKING:
    from isplit.runtime.server.front.hub import Hub

_STRANGER_BYTES = 2**10
_TLS_BYTES = 2**14
"""Of one TLS record. OpenSSL's buffers stay as large as what was put into them."""
_WRITE_BUFFER_BYTES = 2**16
_SPREAD = (0.75, 1.25)
"""Factors of `stranger_seconds`, so that peers that came together are not closed, and do not come back, together."""
_CLOSE_S = 2.0
"""How long a peer may take to read what was written before its connection was closed."""


class Channel(asyncio.BufferedProtocol):
    """The socket's side of one connection. `tls` is None for plain text."""

    def __init__(self, hub: Hub, tls: ssl.SSLContext | None) -> None:
        self.hub = hub
        self.peer = "unknown"
        self.spent_s = 0.0
        """Processor time that this peer has cost as a stranger."""
        self.opened_at = self.heard_at = hub.now()
        self.patience_s = hub.limits.stranger_seconds * random.uniform(*_SPREAD)
        self.connection: Connection | None = None
        self._transport: asyncio.Transport | None = None
        self._piece = b""
        self._paused_at: float | None = None
        self._waiting = False
        self._closer: asyncio.TimerHandle | None = None
        self._goodbye: bytearray | None = None
        """What a parked peer is sent in the end; None while the connection is in use."""
        self._tls: ssl.SSLObject | None = None
        self._handshaken = tls is None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        if tls is not None:
            self._tls = tls.wrap_bio(self._in, self._out, server_side=True)

    @property
    def known(self) -> bool:
        """Whether the peer has shown that it may ask."""
        return self.connection is not None and self.connection.known

    @property
    def idle(self) -> bool:
        """Whether the server owes this peer nothing: no piece waits for its turn, and no call is open."""
        return not self._waiting and not (self.connection and self.connection.calls)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        address = self._transport.get_extra_info("peername")
        self.peer = str(address[0]) if address else "unknown"
        self.hub.opened(self)
        if self._tls is None:
            self.connection = Connection(self, self.hub)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to."""
        size = _STRANGER_BYTES if not self.known else _TLS_BYTES if self._tls else len(self.hub.read_buffer)
        return memoryview(self.hub.read_buffer)[:size]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read: at once from a known peer, in its turn from a stranger."""
        if self._goodbye is not None:
            self.leave()
            return
        self._piece = bytes(memoryview(self.hub.read_buffer)[:nbytes])
        if self.known:
            self.work()
            return
        self.heard_at = self.hub.now()
        self.hub.heard(self)
        if not self.hub.strangers.offer(self):
            self._waiting = True
            self._adjust()

    def eof_received(self) -> bool:
        """Close: a peer that sends nothing more gets nothing more."""
        return False

    def pause_writing(self) -> None:
        """Read nothing more from a peer that does not read."""
        self._paused_at = self.hub.now()
        self._adjust()

    def resume_writing(self) -> None:
        """Go on."""
        self._paused_at = None
        self._adjust()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up."""
        self._drop_state()
        self._transport = None
        if self._closer:
            self._closer.cancel()
        self.hub.closed(self)

    # What the others call.

    def work(self) -> None:
        """Give what was read to the connection."""
        piece, self._piece = self._piece, b""
        if self._waiting:
            self._waiting = False
            self._adjust()
        if self._transport is None or self._transport.is_closing() or not piece:
            return
        if self._tls is None:
            assert self.connection
            self.connection.receive(piece)
            return
        self._in.write(piece)
        if self._handshaken or self._handshake(self._tls):
            self._read_tls(self._tls)

    def write(self, data: bytes) -> None:
        """Send bytes; they are dropped once the connection closes."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._tls is None:
            self._send(data)
            return
        try:
            self._tls.write(data)
        except ssl.SSLError:
            self.abort()
            return
        self._flush_tls()

    def close(self) -> None:
        """Close once everything has been sent; a peer that is being parked is only prepared for its end."""
        if self._transport and not self._transport.is_closing():
            if self._tls and self._handshaken:
                # The other side has not said goodbye yet, and we do not wait for it.
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                self._flush_tls()
            if self._goodbye is None:
                self._close_transport(self._transport)

    def park(self) -> None:
        """Give up everything but the socket, and keep the goodbye for later.

        A peer whose connection is closed comes back at once, and pays nothing for it. One that is not told stays away,
        and costs a socket. The goodbye is encrypted now, because the TLS state is given up with the rest.
        """
        self._goodbye = bytearray()
        if self.connection:
            self.connection.go_away()
        self._drop_state()

    def leave(self) -> None:
        """Say goodbye to a parked peer, which may then connect again."""
        if self._transport and not self._transport.is_closing() and self._goodbye is not None:
            self._transport.write(bytes(self._goodbye))
            self._close_transport(self._transport)

    def abort(self) -> None:
        """Close now."""
        if self._transport:
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """Close a peer that does not read, or that has not shown for too long that it may ask."""
        limits = self.hub.limits
        if self._paused_at is not None and now - self._paused_at > limits.send_seconds:
            self.hub.note("not_read", peer=self.peer, detail=f"nothing was read for {limits.send_seconds:.0f} s")
            self.abort()
            return
        if self.connection is None:
            if now - self.opened_at > limits.receive_seconds:
                self.hub.note("handshake", peer=self.peer, detail="the TLS handshake took too long")
                self.abort()
            return
        self.connection.sweep(now)
        useful_at = max(self.opened_at, self.connection.active_at)
        if not self.connection.known and not self.connection.calls and now - useful_at > self.patience_s:
            self.hub.note("idle_stranger", peer=self.peer, detail=f"no call within {self.patience_s:.0f} s")
            self.connection.go_away()

    def _adjust(self) -> None:
        """Read while there is nothing to wait for."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._waiting or self._paused_at is not None:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _handshake(self, tls: ssl.SSLObject) -> bool:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush_tls()
            return False
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._flush_tls()  # the alert that tells the peer why
            self.hub.note("handshake", peer=self.peer, detail=getattr(error, "reason", None) or str(error))
            self.close()
            return False
        self._flush_tls()
        self._handshaken = True
        if tls.selected_alpn_protocol() != "h2":
            self.hub.note("handshake", peer=self.peer, detail="the peer does not offer HTTP/2 (ALPN h2)")
            self.close()
            return False
        self.connection = Connection(self, self.hub)
        if tls.context.verify_mode is ssl.CERT_REQUIRED and not self.hub.wants_token:
            self.connection.known = True
            self.hub.became_known(self.connection)
        return True

    def _read_tls(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                data = tls.read(_TLS_BYTES)
            except ssl.SSLWantReadError:
                self._flush_tls()  # TLS may have answered something by itself
                return
            except ssl.SSLError as error:
                if not isinstance(error, ssl.SSLZeroReturnError):
                    self.hub.note("protocol_error", peer=self.peer, detail=f"TLS: {error.reason}")
                self.abort()
                return
            if not data:
                self.close()
                return
            if self.connection is None or self.connection.closing:
                return
            self.connection.receive(data)

    def _flush_tls(self) -> None:
        if data := self._out.read():
            self._send(data)

    def _send(self, data: bytes) -> None:
        if self._goodbye is not None:
            self._goodbye += data
        elif self._transport and not self._transport.is_closing():
            self._transport.write(data)

    def _close_transport(self, transport: asyncio.Transport) -> None:
        transport.close()
        self._closer = asyncio.get_running_loop().call_later(_CLOSE_S, self.abort)

    def _drop_state(self) -> None:
        if self.connection:
            self.connection.lost()
            self.connection = None  # they point at each other, and a flood would leave thousands for the collector
        self._tls = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._piece = b""
