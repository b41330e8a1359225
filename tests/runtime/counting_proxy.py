"""A TCP proxy on loopback that counts the bytes of each direction."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Counts:
    """The bytes that have passed so far: `up` from the clients, `down` to them."""

    up: int = 0
    down: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> tuple[int, int]:
        """Return both counts."""
        with self.lock:
            return self.up, self.down


class CountingProxy:
    """Accepts connections, opens one to the server for each, and passes bytes on both ways."""

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.counts = Counts()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close the listener and every connection."""
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
            except OSError:
                return
            self._sockets += [client, server]
            for source, sink, direction in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=self._pass_on, args=(source, sink, direction), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                # Counted before it is sent: an answer that has arrived has been counted.
                with self.counts.lock:
                    setattr(self.counts, direction, getattr(self.counts, direction) + len(data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def counting_proxy(server: str) -> Iterator[CountingProxy]:
    """Run a proxy to a server's address HOST:PORT."""
    proxy = CountingProxy(server)
    try:
        yield proxy
    finally:
        proxy.close()
