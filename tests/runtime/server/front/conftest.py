"""A client that speaks HTTP/2 frame by frame, and fronts with limits small enough to be reached."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error
from prometheus_client import generate_latest

from isplit.runtime.server.front.hub import Hub
from isplit.runtime.server.front.limits import FrontLimits
from isplit.runtime.server.front.listener import Listener
from isplit.runtime.server.front.method import Method
from isplit.runtime.server.metrics import Metrics
from isplit.runtime.server.refusal_log import RefusalLog

LIMIT_S = 30
TOKEN = "correct-horse-battery-staple"
ECHO = "/test.Service/Echo"
HEALTH = "/test.Service/Health"


@dataclass
class Outcome:
    """What the server has sent of one call."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    ended: bool = False
    reset: bool = False

    @property
    def status(self):
        return self.headers.get("grpc-status")


class RawClient:
    """One connection. What the server sends is only looked at by `read` and `until`."""

    def __init__(self, port, *, context=None, settings=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.http2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.outcomes = {}
        self.window_updates = 0
        self.closed = False
        self.http2.initiate_connection()
        if settings:
            self.http2.update_settings(settings)
        self.flush()

    def close(self):
        self.socket.close()

    def flush(self):
        self.socket.settimeout(LIMIT_S)  # not the short one of `read`: what a slow server has no room for would be lost
        with contextlib.suppress(OSError):
            self.socket.sendall(self.http2.data_to_send())

    def call(self, path=ECHO, *, token=TOKEN, end_stream=False, **headers):
        """Send a call's headers; returns its stream id."""
        stream_id = self.http2.get_next_available_stream_id()
        lines = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
        lines += [("content-type", "application/grpc"), ("te", "trailers")]
        lines += [("authorization", f"Bearer {token}")] if token else []
        lines += [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.http2.send_headers(stream_id, lines, end_stream=end_stream)
        self.outcomes[stream_id] = Outcome()
        self.flush()
        return stream_id

    def send(self, stream_id, data, *, end_stream=False):
        """Send bytes of a message as the windows allow."""
        while data or end_stream:
            if data:
                self.until(lambda: self.http2.local_flow_control_window(stream_id) > 0)
            size = min(len(data), self.http2.local_flow_control_window(stream_id), 2**14)
            last = end_stream and size == len(data)
            self.http2.send_data(stream_id, data[:size], end_stream=last)
            self.flush()
            data = data[size:]
            if last:
                return

    def ask(self, message=b"hello", path=ECHO, **options):
        """Make a whole call and return its outcome."""
        stream_id = self.call(path, **options)
        self.send(stream_id, framed(message), end_stream=True)
        return self.result(stream_id)

    def result(self, stream_id):
        """Wait for a call's end."""
        outcome = self.outcomes[stream_id]
        self.until(lambda: outcome.ended or outcome.reset or self.closed)
        return outcome

    def until(self, condition):
        """Read until something is so; it must become so."""
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            self.read()

    def read(self, timeout_s=0.05):
        """Read what is there."""
        self.socket.settimeout(timeout_s)
        try:
            data = self.socket.recv(2**16)
        except (TimeoutError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self.closed = True
            time.sleep(0.01)
            return
        for event in self.http2.receive_data(data):
            outcome = self.outcomes.get(getattr(event, "stream_id", None), Outcome())
            if isinstance(event, ResponseReceived | TrailersReceived):
                outcome.headers |= dict(event.headers)
            elif isinstance(event, DataReceived):
                outcome.data += event.data
                with contextlib.suppress(H2Error):
                    self.http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                outcome.ended = True
            elif isinstance(event, StreamReset):
                outcome.reset = True
            elif isinstance(event, WindowUpdated):
                self.window_updates += 1
            elif isinstance(event, ConnectionTerminated):
                self.closed = True
        self.flush()


def framed(message):
    return b"\0" + len(message).to_bytes(4, "big") + message


class Front:
    """A front in a thread, with two methods: Echo answers with its message, Health needs no token."""

    def __init__(self, limits, *, token, tls):
        self.metrics = Metrics()
        self.arrived = []
        self.given_up = 0
        self.error = None
        self.gate = None
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.port = self.run(self._start(limits, token, tls))

    async def _start(self, limits, token, tls):
        methods = [
            Method(path=ECHO, answer=self.echo, max_bytes=limits.message_bytes),
            Method(path=HEALTH, answer=self.echo, max_bytes=1024, public=True),
        ]
        self.hub = Hub(methods, limits=limits, token=token, refusals=RefusalLog(self.metrics))
        self.listener = Listener(self.hub, tls)
        port = self.listener.bind("127.0.0.1", 0)
        self.listener.start()
        return port

    async def echo(self, call):
        message = bytes(call.message)
        self.arrived.append(message)
        if self.error:
            raise self.error
        try:
            if self.gate:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return message

    def hold(self):
        """Let no call be answered from now on; returns a function that lets them."""

        async def make():
            self.gate = asyncio.Event()
            return self.gate

        gate = self.run(make())
        return lambda: self.loop.call_soon_threadsafe(gate.set)

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT_S)

    def look(self, function):
        """Evaluate a function of the hub in its own thread."""

        async def evaluate():
            return function(self.hub)

        return self.run(evaluate())

    @contextlib.contextmanager
    def stalled(self):
        """Keep the event loop from everything else meanwhile, so that it finds all that was sent at once."""
        begins, ends = threading.Event(), threading.Event()
        self.loop.call_soon_threadsafe(lambda: (begins.set(), ends.wait(LIMIT_S)))
        assert begins.wait(LIMIT_S)
        try:
            yield
        finally:
            ends.set()

    def refusals(self, reason):
        text = generate_latest(self.metrics.registry).decode()
        lines = [line for line in text.splitlines() if line.startswith(f'isplit_refusals_total{{reason="{reason}"}}')]
        return float(lines[0].rpartition(" ")[2])

    def close(self):
        async def end():
            await self.listener.close()
            await self.hub.close(0.5)

        self.run(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def start_front():
    """Start a front: give its limits, and `token` and `tls`."""
    fronts = []

    def start(*, token=TOKEN, tls=None, message_bytes=2**22, **limits):
        fronts.append(Front(FrontLimits(message_bytes=message_bytes, **limits), token=token, tls=tls))
        return fronts[-1]

    yield start
    for front in fronts:
        front.close()


@pytest.fixture
def connect():
    """Open connections with `RawClient`."""
    clients = []

    def open_client(port, **options):
        clients.append(RawClient(port, **options))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


@pytest.fixture
def http2():
    """What test modules need of this file, as they cannot import it."""

    class Http2:
        token, echo, health, limit_s = TOKEN, ECHO, HEALTH, LIMIT_S
        framed = staticmethod(framed)

        @staticmethod
        def until(condition):
            deadline = time.monotonic() + LIMIT_S
            while not condition():
                assert time.monotonic() < deadline, "it did not happen"
                time.sleep(0.005)

    return Http2
