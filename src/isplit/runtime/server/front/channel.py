"""Move bytes between a socket and a connection, in plain text or TLS, in pieces that do not block the event loop.

asyncio's own TLS keeps a quarter of a mebibyte for every connection, and continues to read while a handshake floods
it. Here, all connections read into one buffer, piece by piece, and a stranger's piece waits for its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from typing import TYPE_CHECKING, cast

from isplit.runtime.lean.device_frames import ALPN, MAGIC
from isplit.runtime.server.front.connection import Connection
from isplit.runtime.server.front.lean import LeanConnection
from isplit.runtime.server.front.strangers import KNOWN_RANK

if TYPE_CHECKING:
    from isplit.runtime.server.front.hub import Hub
    from isplit.runtime.server.front.peer import Peer

_STRANGER_BYTES = 2**10
_DEBTOR_BYTES = 2**12
"""Bytes that are read at a time of a known peer whose calls cost much. It begins one call a turn, and sends long
messages."""
_TLS_BYTES = 2**14
"""Bytes of one TLS record. OpenSSL's buffers stay as large as their largest content was."""
_WRITE_BUFFER_BYTES = 2**16
_SPREAD = (0.75, 1.25)
"""Random factors of `stranger_seconds`. They keep peers that came together from being closed, and coming back,
together.
"""
_CLOSE_S = 2.0
"""Seconds that a peer may take to read the remaining bytes before its connection is closed."""


class Channel(asyncio.BufferedProtocol):
    """Move the bytes of one connection between its socket and its wire. `tls` is None for plain text."""

    def __init__(self, hub: Hub, tls: ssl.SSLContext | None) -> None:
        self.hub = hub
        self.peer = "unknown"
        self.spent_s = 0.0
        """Processor time that this peer has cost as a stranger, in seconds."""
        self.opened_at = self.heard_at = hub.now()
        self.address_debt = hub.debts.of(self.peer)
        self.patience_s = hub.limits.stranger_seconds * random.uniform(*_SPREAD)
        self.connection: Peer | None = None
        self._transport: asyncio.Transport | None = None
        self._piece = b""
        self._rest = b""
        """Bytes, decrypted under TLS, that the connection has left for a later turn."""
        self._unsent: list[bytes] = []
        """What was written in this turn of the event loop. It is sent together, because each call of the system takes
        as long as much of the work for a small answer."""
        self._is_working = False
        self.paused_at: float | None = None
        """The time since which the peer has not read what it was sent; None while it reads."""
        self._waiting = False
        self._closer: asyncio.TimerHandle | None = None
        self._goodbye: bytearray | None = None
        """Bytes that a parked peer is sent at the end; None while the connection is in use."""
        self._tls: ssl.SSLObject | None = None
        self._handshaken = tls is None
        self._has_chosen = False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        if tls is not None:
            self._tls = tls.wrap_bio(self._in, self._out, server_side=True)

    @property
    def trusted(self) -> bool:
        """Whether the peer has shown that it may ask, and costs no more than others."""
        return self.connection is not None and self.connection.trusted

    @property
    def rank(self) -> int:
        """How much the peer's address has cost, from 0 to 2; 3 for a known peer that waits for its own debt."""
        if self.connection is not None and self.connection.known:
            return KNOWN_RANK
        return self.address_debt.rank(now=self.hub.now())

    @property
    def _untrusted_bytes(self) -> int:
        """The bytes that are processed at a time of a peer that is not trusted."""
        return _DEBTOR_BYTES if self.connection is not None and self.connection.known else _STRANGER_BYTES

    @property
    def idle(self) -> bool:
        """Whether nothing is pending for this peer: no piece waits for its turn, and no call is open."""
        return not self._waiting and not (self.connection and self.connection.calls)

    # Methods that asyncio calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the connection."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        address = self._transport.get_extra_info("peername")
        self.peer = str(address[0]) if address else "unknown"
        self.address_debt = self.hub.debts.of(self.peer)
        self.hub.opened(self)
        if self._tls is None:
            self.connection = Connection(self, self.hub)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer to read into."""
        trusted_bytes = _TLS_BYTES if self._tls else len(self.hub.read_buffer)
        return memoryview(self.hub.read_buffer)[: trusted_bytes if self.trusted else self._untrusted_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        """Process the bytes that were read: at once for a trusted peer, in its turn for another."""
        if self._goodbye is not None:
            self.leave()
            return
        self._piece = bytes(memoryview(self.hub.read_buffer)[:nbytes])
        if self.trusted:
            self.work()
            return
        self.heard_at = self.hub.now()
        self.hub.heard(self)
        if not self.hub.strangers.offer(self):
            self._waiting = True
            self._adjust()

    def eof_received(self) -> bool:
        """Close the connection, because a peer that sends nothing more gets nothing more."""
        return False

    def pause_writing(self) -> None:
        """Stop reading from a peer that does not read."""
        self.paused_at = self.hub.now()
        self._adjust()

    def resume_writing(self) -> None:
        """Resume reading."""
        self.paused_at = None
        self._adjust()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection holds."""
        self._drop_state()
        self._transport = None
        if self._closer:
            self._closer.cancel()
        self.hub.closed(self)

    # Methods that the connection and the hub call:

    def work(self) -> None:
        """Pass the bytes that were read to the connection, and count the processor time that this takes."""
        started_s = time.thread_time()
        piece, self._piece = self._piece, b""
        if self._waiting:
            self._waiting = False
            self._adjust()
        if self._transport is None or self._transport.is_closing():
            return
        self._is_working = True
        try:
            if self._tls is None:
                if piece and self.connection:
                    self._choose_wire(self.connection, piece)
                self._pass_on(self._rest + piece)
            else:
                self._in.write(piece)
                if self._handshaken or self._handshake(self._tls):
                    self._read_tls(self._tls)
        finally:
            self._is_working = False
            self._flush()
        now, spent_s = self.hub.now(), time.thread_time() - started_s
        self.address_debt.cost(spent_s, now=now)
        if self.connection:
            self.connection.debt.cost(spent_s, now=now)

    def write(self, data: bytes) -> None:
        """Send bytes; they are dropped once the connection closes."""
        if self._transport is None or self._transport.is_closing():
            return
        if not self._unsent and not self._is_working:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(data)

    def close(self) -> None:
        """Close once everything has been sent; a peer that is being parked is only prepared for its end."""
        self._flush()
        if self._transport and not self._transport.is_closing():
            if self._tls and self._handshaken:
                # This does not wait for the peer to close its side of TLS.
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                self._flush_tls()
            if self._goodbye is None:
                self._close_transport(self._transport)

    def park(self) -> None:
        """Release everything but the socket, and keep the closing message for later.

        A peer whose connection is closed reconnects at once, and pays nothing for it. A peer that is not told stays
        away and costs only a socket. The closing message is encrypted now, because the TLS state is released too.
        """
        self._flush()
        self._goodbye = bytearray()
        if self.connection:
            self.connection.go_away()
        self._flush()
        self._drop_state()

    def leave(self) -> None:
        """Send a parked peer its closing message; it may then connect again."""
        if self._transport and not self._transport.is_closing() and self._goodbye is not None:
            self._transport.write(bytes(self._goodbye))
            self._close_transport(self._transport)

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport:
            self._transport.abort()

    def _choose_wire(self, connection: Peer, piece: bytes) -> None:
        """Speak what the first byte of a connection in plain text begins."""
        if not self._has_chosen and piece[0] == MAGIC[0] and self.hub.open_lean is not None:
            connection.lost()
            self.connection = LeanConnection(self, self.hub)
        self._has_chosen = True

    def _adjust(self) -> None:
        """Start or stop reading, depending on whether bytes or answers are still pending."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._waiting or self.paused_at is not None:
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
        protocol = tls.selected_alpn_protocol()
        if protocol not in ("h2", ALPN):
            self.hub.note("handshake", peer=self.peer, detail="the peer does not offer HTTP/2 (ALPN h2)")
            self.close()
            return False
        self.connection = LeanConnection(self, self.hub) if protocol == ALPN else Connection(self, self.hub)
        if tls.context.verify_mode is ssl.CERT_REQUIRED and not self.hub.wants_token:
            self.connection.known = True
            self.hub.became_known(self.connection)
        return True

    def _pass_on(self, data: bytes) -> bool:
        """Let the connection process bytes, and return whether it can process more in this turn."""
        self._rest = b""
        connection = self.connection
        if not data or connection is None or connection.closing:
            return False
        taken = connection.receive(data)
        if connection.closing:
            return False
        if taken < len(data):
            self._rest = data[taken:]
            self._wait_for_turn()
        return not self._rest

    def _wait_for_turn(self) -> None:
        """Process the rest of what was received in a later turn, and read nothing until then."""
        self._waiting = True
        self._adjust()
        asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        if self.trusted:
            self.work()
        else:
            self.hub.strangers.offer(self)

    def _read_tls(self, tls: ssl.SSLObject) -> None:
        """Pass on the content of all records at once, because each may hold as many calls as are begun in a turn."""
        limit_bytes = 2 * _TLS_BYTES if self.trusted else self._untrusted_bytes
        content, is_ended = self._rest, False
        while len(content) < limit_bytes and not is_ended:
            try:
                data = tls.read(min(_TLS_BYTES, limit_bytes - len(content)))
            except ssl.SSLWantReadError:
                self._flush_tls()  # TLS may have answered something by itself
                break
            except ssl.SSLError as error:
                if not isinstance(error, ssl.SSLZeroReturnError):
                    self.hub.note("protocol_error", peer=self.peer, detail=f"TLS: {error.reason}")
                self.abort()
                return
            content += data
            is_ended = not data
        if content and not self._pass_on(content):
            return
        if is_ended:
            self.close()
        elif tls.pending() or self._in.pending:
            self._wait_for_turn()

    def _flush(self) -> None:
        """Send what was written in this turn of the event loop."""
        if not self._unsent or self._transport is None or self._transport.is_closing():
            self._unsent.clear()
            return
        data = self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent)
        self._unsent.clear()
        if self._tls is None:
            self._send(data)
            return
        try:
            self._tls.write(data)
        except ssl.SSLError:
            self.abort()
            return
        self._flush_tls()

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
            self.connection = None  # they refer to each other, and a flood would leave thousands
        self._tls = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._piece = self._rest = b""
