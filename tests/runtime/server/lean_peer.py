"""A raw connection of the lean wire, on which a test sends any bytes."""

import socket

from isplit.runtime.lean.device_frames import (
    MAGIC,
    Opening,
    hello,
)
from isplit.runtime.lean.server_frames import ERROR, FrameReader, decode_error
from tests.runtime.conftest import CLASSES

TOKEN = "correct-horse-battery-staple"
LIMIT_S = 30


class LeanPeer:
    """One raw connection on which a test sends any bytes."""

    def __init__(self, address, *, context=None):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=LIMIT_S)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.reader = FrameReader()
        self.frames = []

    def send(self, content):
        self.socket.sendall(content)

    def greet(self, token=""):
        self.send(hello(token))
        assert MAGIC == self.exactly(len(MAGIC))
        return self

    def exactly(self, size):
        content = b""
        while len(content) < size:
            piece = self.socket.recv(size - len(content))
            assert piece, f"the connection ended after {content!r}"
            content += piece
        return content

    def frame(self):
        while not self.frames:
            data = self.socket.recv(2**16)
            assert data, "the connection ended"
            self.frames += self.reader.feed(data)
        return self.frames.pop(0)

    def error(self):
        frame = self.frame()
        assert ERROR == frame.kind
        return frame.number, *decode_error(frame.body)

    def is_closed(self):
        try:
            while self.socket.recv(2**16):
                pass
        except ConnectionError:
            pass
        return True

    def close(self):
        self.socket.close()


def opened(model="tiny.stage.1", tensor="payload", **options):
    return Opening(**{"model": model, "tensor": tensor, "classes": len(CLASSES), "best": 2} | options)


def payload(tiny, number, cut="stage.1"):
    return tiny.bundle.codec(cut).encode_symbols(tiny.latents[cut][number])
