"""Whatever a connection does to a server's bytes, every image gets one answer in time, on both wires.

Between the device and a real server stands a relay that damages what the server sends: it changes a byte, cuts or
resets the connection after so many bytes, sends them one at a time, repeats them, or goes on with bytes of its own.
"""

import contextlib
import json
import socket
import struct
import threading

import numpy as np
import pytest

from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.policy import Retry
from isplit.runtime.server import serving

DEADLINE_MS = 250.0
LIMIT_S = 60
LONGEST_B = 330
"""About what a server sends over gRPC until its first answer is whole."""


class Relay:
    """Passes bytes on in both directions; what comes from the server goes through `damage(data, start)` first.

    `damage` gets the bytes and their place in the stream. It returns those to send, or None to end the connection.
    """

    def __init__(self, upstream, damage, *, resets=False, drips=False):
        host, _, port = upstream.rpartition(":")
        self.upstream = host.strip("[]"), int(port)
        self.damage, self.resets, self.drips = damage, resets, drips
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listening.getsockname()[1]}"
        self.open = [self.listening]
        self.is_closed = threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                device, _ = self.listening.accept()
                server = socket.create_connection(self.upstream)
            except OSError:
                return
            self.open += [device, server]
            threading.Thread(target=self.pump, args=(device, server, None), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, device, self.damage), daemon=True).start()

    def pump(self, source, target, damage):
        start = 0
        try:
            while data := source.recv(2**16):
                sent = data if damage is None else damage(data, start)
                start += len(data)
                if sent is None:
                    break
                if damage is not None and self.drips:
                    for place in range(len(sent)):
                        target.sendall(sent[place : place + 1])
                        if self.is_closed.wait(0.02):
                            return
                else:
                    target.sendall(sent)
        except OSError:
            pass
        finally:
            for end in (source, target):
                with contextlib.suppress(OSError):  # the other direction may have ended it
                    if self.resets:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def close(self):
        self.is_closed.set()
        for end in self.open:
            end.close()


def changed(place, mask):
    """Change the bits of one byte."""

    def damage(data, start):
        if start <= place < start + len(data):
            damaged = bytearray(data)
            damaged[place - start] ^= mask
            return bytes(damaged)
        return data

    return damage


def cut_after(count):
    """End the connection after so many bytes."""

    def damage(data, start):
        return data[: max(0, count - start)] if start < count else None

    return damage


def followed_by(place, more):
    """Put other bytes in the middle."""

    def damage(data, start):
        inside = start <= place < start + len(data)
        return data[: place - start] + more + data[place - start :] if inside else data

    return damage


RANDOM = np.random.default_rng(12)
FAULTS = (
    [(lambda data, start: data, {})]  # nothing is damaged
    + [(changed(place, 1 << place % 8), {}) for place in range(0, LONGEST_B, 7)]
    + [
        (cut_after(count), {"resets": count % 2 == 1})
        for count in (0, 1, 5, 8, 9, 12, 14, 17, 25, 40, 60, 100, 150, 250)
    ]
    + [(followed_by(place, RANDOM.bytes(40)), {}) for place in (0, 8, 15, 30, 90, 200)]
    + [(followed_by(8, b"\xff" * 2**20), {}), (followed_by(8, bytes(2**20)), {})]
    + [(lambda data, start: data, {"drips": True}), (lambda data, start: data + data, {})]
)


@pytest.mark.parametrize("protocol", ["grpc", "lean"])
def test_every_image_is_answered(tiny, protocol, caplog):
    """An answer comes within the deadline and a margin; it is the server's, or this device's with a reason."""
    sources = set()
    with serving(tiny.bundle) as server:
        for number, (damage, how) in enumerate(FAULTS):
            relay = Relay(server.address, damage, **how)
            client = EdgeClient(
                tiny.bundle,
                relay.address,
                placement="stage.2",
                deadline_ms=DEADLINE_MS if number else 1e3 * LIMIT_S,
                require_server=False,
                protocol=protocol,
                retry=Retry(attempts=2 if number else 1),
                verify=False,
            )
            try:
                answer = client.classify(tiny.images[0], name="a\x1b[31m")
                sources.add(answer.source)
                assert number or answer.source == "split", answer.reason
                assert answer.label is not None
                assert (answer.source == "split") == (answer.reason is None)
                line = answer.to_line(logits=True)
                assert line.count("\n") == 1
                assert line[:-1].isprintable()
                assert answer.id == json.loads(line)["id"]
            finally:
                client.close()
                relay.close()
    assert {"split", "local-fallback"} == sources
    # gRPC itself reports a status whose text is not UTF-8; `isplit run` keeps that off the terminal.
    messages = [entry.getMessage() for entry in caplog.records if entry.name.startswith("grpc")]
    assert [] == [message for message in messages if not message.startswith("Invalid encoding on ")]
