"""A TCP proxy on loopback that can cut: connections are reset, or nothing passes and nobody is told."""

import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Generator
from types import TracebackType
from typing import Literal, Self

State = Literal["open", "reset", "silent"]


class CuttingProxy:
    """Passes connections on to `upstream` (HOST:PORT); `address` is where it listens itself.

    One thread and a selector: fast enough for thousands of small requests a second.
    """

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._selector = selectors.DefaultSelector()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._dead: list[socket.socket] = []
        self._state: State = "open"
        self._wanted: State = "open"
        self._settled = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._front = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = f"127.0.0.1:{self._front.getsockname()[1]}"
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._front, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._wake.send(b"x")
        self._thread.join()
        for peer in (*self._peers, *self._dead, self._front, self._wake, self._woken):
            peer.close()
        self._selector.close()

    @contextlib.contextmanager
    def reset(self) -> Generator[None]:
        """Reset every connection, and new ones too."""
        self._switch("reset")
        yield
        self._switch("open")

    @contextlib.contextmanager
    def silence(self) -> Generator[None]:
        """Forget every connection without a word, for ever; swallow what new ones say."""
        self._switch("silent")
        yield
        self._switch("open")

    def _switch(self, state: State) -> None:
        self._settled.clear()
        self._wanted = state
        self._wake.send(b"x")
        self._settled.wait()

    def _run(self) -> None:
        while not self._stopped:
            for key, _ in self._selector.select():
                peer = key.fileobj
                assert isinstance(peer, socket.socket)
                if peer is self._front:
                    self._accept()
                elif peer is self._woken:
                    self._woken.recv(64)
                    self._change()
                elif peer in self._peers:
                    self._pass_on(peer)

    def _change(self) -> None:
        if self._wanted != self._state:
            self._state = self._wanted
            if self._state == "reset":
                for peer in list(self._peers):
                    self._drop(peer, hard=True)
            elif self._state == "silent":
                # Their state is lost, as in a router that restarted: nothing they send will ever pass again.
                for peer in list(self._peers):
                    self._selector.unregister(peer)
                self._dead += self._peers
                self._peers.clear()
        self._settled.set()

    def _accept(self) -> None:
        client, _ = self._front.accept()
        if self._state == "silent":
            self._dead.append(client)
            return
        if self._state == "reset":
            _close_hard(client)
            return
        try:
            server = socket.create_connection(self._upstream, timeout=1.0)
        except OSError:
            _close_hard(client)
            return
        for peer, other in ((client, server), (server, client)):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.settimeout(1.0)
            self._peers[peer] = other
            self._selector.register(peer, selectors.EVENT_READ)

    def _pass_on(self, peer: socket.socket) -> None:
        try:
            content = peer.recv(1 << 18)
            if content:
                self._peers[peer].sendall(content)
                return
        except OSError:
            pass
        self._drop(peer)

    def _drop(self, peer: socket.socket, *, hard: bool = False) -> None:
        """Close both ends of a connection."""
        other = self._peers.pop(peer, None)
        if other is None:
            return
        self._peers.pop(other, None)
        for end in (peer, other):
            self._selector.unregister(end)
            _close_hard(end) if hard else end.close()


def _close_hard(peer: socket.socket) -> None:
    """Close with a reset instead of an orderly end."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
