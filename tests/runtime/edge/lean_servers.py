"""Servers that answer a device on the lean wire with a script, and what stands for gRPC behind it."""

import contextlib
import socket
import threading

import numpy as np

from isplit.runtime.edge.connecting import Wanted
from isplit.runtime.edge.transport import Reply, Request
from tests.runtime.conftest import CLASSES

LIMIT_S = 30
REQUEST = Request(id="a-1", model="tiny.stage.1", tensor="payload", content=b"abc", shape=(1,))
WANTED = Wanted(classes=len(CLASSES), best=2, logits=False, times=False)


class Scripted:
    """Accepts connections, answers the first bytes of each with a script, and then closes or stays silent."""

    def __init__(self, script, *, closes=True):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listening.getsockname()[1]}"
        self.script, self.closes = script, closes
        self.accepted = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connected, _ = self.listening.accept()
            except OSError:
                return
            self.accepted.append(connected)
            with contextlib.suppress(OSError):  # the test may end, and close the connection, at any moment
                connected.recv(2**12)
                connected.sendall(self.script)
            if self.closes:
                connected.close()

    def close(self):
        self.listening.close()
        for connected in self.accepted:
            connected.close()


class Other:
    """Stands for gRPC."""

    def infer(self, request, *, timeout_s):
        del timeout_s
        return Reply(id=request.id, logits=np.zeros(5, np.float32))

    def close(self):
        pass
