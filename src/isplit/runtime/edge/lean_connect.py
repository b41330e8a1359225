"""Connect to a server and agree on the lean wire, or say why that is not possible."""

import socket
import ssl
import time
from dataclasses import dataclass

from isplit.errors import IsplitError
from isplit.runtime.edge.lean_link import LeanLink, stated_error, wait_for
from isplit.runtime.edge.security import Tls
from isplit.runtime.edge.transport import TransportError
from isplit.runtime.lean.device_frames import ALPN, MAGIC, NO_NUMBER, LeanWireError, hello
from isplit.runtime.lean.server_frames import ERROR, FrameReader

CONNECT_S = 10.0
"""Seconds that one address of a server may take to accept a connection."""

WELCOME_S = 4.0
"""Seconds that a server may take to answer the first bytes; a proxy that waits for something else never does."""

KNOWN_S = 1.0
"""The least seconds that a server gets to do again what it has done before. A lost packet alone takes 0.2 to 0.6."""

KNOWN_ATTEMPTS = 4
"""Attempts in a row that end so early before the server counts as unknown."""


class NotLeanError(IsplitError):
    """Something answers, but not on the lean wire; the message says what."""


class BrokenOffError(NotLeanError):
    """The first bytes got no answer: the server does not know them, or has just failed."""


@dataclass(eq=False)
class Patience:
    """How long the next attempt to connect may take.

    A link that swallows everything for a moment swallows the attempt as well, and the next one begins only when this
    one is given up. So a server that has welcomed the device is given up soon: after four times what it took then. When
    `KNOWN_ATTEMPTS` in a row were given up, it may be the link that has become slow: the server is unknown again.

    Attributes:
        known_s: Seconds for each of connecting, TLS and the welcome; None while the server is unknown.
        attempts: How many may still be given up so soon.

    """

    known_s: float | None = None
    attempts: int = 0

    @property
    def connect_s(self) -> float:
        """Seconds in which the server has to accept a connection."""
        return CONNECT_S if self.known_s is None else self.known_s

    @property
    def welcome_s(self) -> float:
        """Seconds in which it has to answer the first bytes."""
        return WELCOME_S if self.known_s is None else self.known_s

    def after_welcome(self, took_s: float) -> None:
        """Take note that the server welcomed the device."""
        self.known_s, self.attempts = min(max(KNOWN_S, 4 * took_s), WELCOME_S), KNOWN_ATTEMPTS

    def after_failure(self, took_s: float) -> bool:
        """Return whether an attempt without an answer failed only because a known server was given up so soon."""
        if self.known_s is None or took_s < self.known_s:
            return False
        self.attempts -= 1
        if self.attempts == 0:
            self.known_s = None
        return True


def connect_lean(
    server: str, *, token: str | None, context: ssl.SSLContext | None, patience: Patience | None = None
) -> LeanLink:
    """Return a connection on which the server speaks the lean wire. `server` is HOST:PORT.

    Raises:
        NotLeanError: What listens there does not speak it, or TLS failed; BrokenOffError if it gave no answer.
        TransportError: Nothing listens there (UNAVAILABLE), or the token is refused (UNAUTHENTICATED).

    """
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    patience = patience or Patience()
    try:
        connected = socket.create_connection((host, int(port)), timeout=patience.connect_s)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise TransportError("UNAVAILABLE", f"cannot connect to {server}: {reason}") from None
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connected.settimeout(patience.welcome_s)
        if context is not None:
            connected = _secure(connected, context, host)
        _agree(connected, token or "", patience.welcome_s)
        connected.setblocking(False)
    except BaseException:
        connected.close()
        raise
    return LeanLink(connected)


def lean_context(tls: Tls) -> ssl.SSLContext:
    """Return the TLS context of a device, which offers the lean wire before HTTP/2.

    Raises:
        InputError: A file cannot be read or is not PEM.
        OSError: OpenSSL cannot use a file.

    """
    context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN, "h2"])
    if tls.cert is not None and tls.key is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context


def _secure(connected: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    try:
        secured = context.wrap_socket(connected, server_hostname=host)
    except OSError as error:  # all errors of TLS are of this class
        msg = f"TLS failed: {error}"
        is_stated = isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
        raise (NotLeanError if is_stated else BrokenOffError)(msg) from None
    if secured.selected_alpn_protocol() != ALPN:
        secured.close()
        msg = f"the other side of TLS speaks {secured.selected_alpn_protocol() or 'no protocol that was offered'}"
        raise NotLeanError(msg)
    return secured


def _agree(connected: socket.socket, token: str, welcome_s: float) -> None:
    """Say hello, and wait for the welcome.

    Raises:
        NotLeanError: The answer is no welcome; BrokenOffError if none came.
        TransportError: The token is refused.

    """
    ends_s = time.monotonic() + welcome_s
    answer = b""
    try:
        connected.sendall(hello(token))
        while len(answer) < len(MAGIC) and MAGIC.startswith(answer):
            piece = connected.recv(len(MAGIC) - len(answer))
            if not piece:
                msg = "the connection was closed at its first bytes"
                raise BrokenOffError(msg)
            answer += piece
        if answer == MAGIC:
            return
        _raise_refusal(connected, answer, ends_s)
    except TimeoutError:
        msg = f"there was no answer to the first bytes within {welcome_s:.0f} s"
        raise BrokenOffError(msg) from None
    except OSError as error:
        msg = f"the connection broke at its first bytes: {error}"
        raise BrokenOffError(msg) from None
    except LeanWireError as error:
        msg = f"the answer to the first bytes cannot be read: {error}"
        raise NotLeanError(msg) from None
    msg = f"the answer to the first bytes was {answer!r}"
    raise NotLeanError(msg)


def _raise_refusal(connected: socket.socket, answer: bytes, ends_s: float) -> None:
    """Raise what an error frame says, if that is what came."""
    if answer[0] != ERROR:
        return
    reader = FrameReader()
    frames = reader.feed(answer)
    while not frames and wait_for(connected, ends_s, writing=False):
        piece = connected.recv(2**12)
        if not piece:
            return
        frames = reader.feed(piece)
    for frame in frames:
        if frame.kind == ERROR and frame.number == NO_NUMBER:
            raise stated_error(frame.body)
