"""A device on the lean wire: the same answers as over gRPC, fewer bytes, and what happens where nobody speaks it."""

import contextlib
import socket
import statistics
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from isplit.errors import InputError, ServerError
from isplit.runtime.bench.proxy import proxied
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.connecting import Wanted
from isplit.runtime.edge.lean_connect import NotLeanError
from isplit.runtime.edge.lean_link import LeanLink
from isplit.runtime.edge.lean_transport import LeanTransport
from isplit.runtime.edge.transport import Reply, Request, TransportError
from isplit.runtime.lean.device_frames import MAGIC, Opening
from isplit.runtime.lean.server_frames import ANSWER, server_frame
from isplit.runtime.server import serving
from tests.runtime.conftest import CLASSES

TOKEN = "correct-horse-battery-staple"
LIMIT_S = 30
REQUEST = Request(id="a-1", model="tiny.stage.1", tensor="payload", content=b"abc", shape=(1,))
WANTED = Wanted(classes=len(CLASSES), best=2, logits=False, times=False)


@pytest.fixture(scope="module")
def served(tiny):
    """A server of this module's own."""
    with serving(tiny.bundle) as server:
        yield server


@pytest.mark.parametrize("placement", ["stage.1", "stage.2", "remote"])
def test_the_same_logits_as_over_grpc(tiny, served, placement):
    """With all logits, the answers are those of gRPC but for their ids and times."""
    answers = {}
    for protocol in ("lean", "grpc"):
        with EdgeClient(tiny.bundle, served.address, fallback=False, protocol=protocol, logits=True) as client:
            answers[protocol] = list(client.run(tiny.images, placement=placement, depth=3))
    for lean, grpc in zip(answers["lean"], answers["grpc"], strict=True):
        assert (grpc.source, grpc.logits, grpc.best) == (lean.source, lean.logits, lean.best)
        assert (grpc.label, grpc.probability) == (lean.label, lean.probability)
        assert lean.timings.server_infer_ms <= lean.timings.server_ms


def test_best_classes_without_logits(tiny, served):
    """By default, the five best classes come, with their probabilities in 16 bits."""
    with EdgeClient(tiny.bundle, served.address, fallback=False, protocol="lean", best_classes=2) as client:
        answers = [client.classify(image) for image in tiny.images]
        assert client.wire_note is None
    for answer, logits in zip(answers, tiny.logits, strict=True):
        odds = np.exp(logits.astype(np.float64) - logits.max())
        order = np.argsort(-logits, kind="stable")[:2].tolist()
        assert (None, order[0], order) == (answer.logits, answer.label, [label for label, _ in answer.best])
        expected = (odds / odds.sum())[order].tolist()
        assert pytest.approx(expected, abs=1 / 65_535) == [probability for _, probability in answer.best]


@pytest.mark.parametrize(("server_times", "down_bytes"), [(True, 33), (False, 23)])
def test_bytes_on_the_wire(tiny, served, server_times, down_bytes):
    """A request takes 9 bytes beyond its payload, and an answer 33 in all, or 23 without the server's times."""
    options = {"fallback": False, "protocol": "lean", "server_times": server_times}
    with proxied(served.address) as (address, counted), EdgeClient(tiny.bundle, address, **options) as client:
        client.classify(tiny.images[0], placement="stage.2")
        ups, downs = [], []
        for image in tiny.images:
            before = replace(counted)
            answer = client.classify(image, placement="stage.2")
            ups.append(counted.up_bytes - before.up_bytes - answer.payload_bytes)
            downs.append(counted.down_bytes - before.down_bytes)
    assert {9} == set(ups)
    assert {down_bytes} == set(downs)
    assert statistics.median(downs) <= 40


def test_many_threads_share_a_connection(tiny, served):
    """Requests of eight threads at once get their own answers over one connection."""
    wrong = []
    with EdgeClient(tiny.bundle, served.address, fallback=False, protocol="lean", logits=True) as client:

        def work(first):
            for number in [(first + step) % 24 for step in range(24)]:
                answer = client.classify(tiny.images[number], placement="stage.2")
                if answer.logits != tuple(tiny.logits[number].tolist()):
                    wrong.append((number, answer.reason))

        threads = [threading.Thread(target=work, args=(3 * number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT_S)
    assert [] == wrong


def test_a_server_that_came_back(tiny):
    """An idle connection that the server closed is replaced, and the image gets its answer at the first attempt."""
    with serving(tiny.bundle) as server:
        port = server.port
        client = EdgeClient(tiny.bundle, server.address, fallback=False, protocol="lean")
        assert "split" == client.classify(tiny.images[0]).source
    with serving(tiny.bundle, port=port), client:
        answer = client.classify(tiny.images[0])
        assert ("split", 1) == (answer.source, answer.attempts)


def test_a_wrong_token(tiny):
    """The reason is the token, and gRPC is not asked the same again."""
    with serving(tiny.bundle, token=TOKEN) as server:
        with pytest.raises(ServerError, match=r"UNAUTHENTICATED.*give the token"):
            EdgeClient(tiny.bundle, server.address, token=TOKEN[::-1], fallback=False, protocol="lean")
        with EdgeClient(tiny.bundle, server.address, token=TOKEN, fallback=False, protocol="lean") as client:
            assert "split" == client.classify(tiny.images[0]).source


def test_nobody_listens(tiny):
    """A refused connection is UNAVAILABLE at once, as over gRPC."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ServerError, match="UNAVAILABLE"):  # while the port is taken, so that nobody else listens
            EdgeClient(tiny.bundle, address, fallback=False, protocol="lean")


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


@pytest.fixture
def scripted():
    """Start servers that answer the first bytes with a script."""
    servers = []

    def start(script, **options):
        servers.append(Scripted(script, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


class Other:
    """Stands for gRPC."""

    def infer(self, request, *, timeout_s):
        del timeout_s
        return Reply(id=request.id, logits=np.zeros(5, np.float32))

    def close(self):
        pass


@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        MAGIC[:-1] + b"\x02",
        b"\x01\xff",
    ],
)
def test_who_does_not_speak_it_is_asked_over_grpc(scripted, script):
    """An old server, a proxy, another version and a closed connection: gRPC is used, and the reason is said."""
    server = scripted(script)
    transport = LeanTransport(server.address, WANTED, over_grpc=Other)
    for _ in range(3):
        assert "a-1" == transport.infer(REQUEST, timeout_s=LIMIT_S).id
    assert "first bytes" in transport.note
    assert 1 == len(server.accepted)
    transport.close()


def test_it_is_tried_again(scripted):
    """After a while the lean wire is asked for again, because the server may have been replaced."""
    server = scripted(b"")
    transport = LeanTransport(server.address, WANTED, over_grpc=Other, again_s=0.0)
    transport.infer(REQUEST, timeout_s=LIMIT_S)
    ends_s = time.monotonic() + LIMIT_S
    while len(server.accepted) < 2:
        assert time.monotonic() < ends_s
        transport.infer(REQUEST, timeout_s=LIMIT_S)
    transport.close()


def test_no_request_waits_for_another_attempt():
    """While the lean wire is tried again, requests go on over gRPC."""
    ends = threading.Event()
    attempts = []

    def connect(*_, **__):
        attempts.append(None)
        if len(attempts) > 1:
            ends.wait(LIMIT_S)
        msg = "another protocol"
        raise NotLeanError(msg)

    transport = LeanTransport("127.0.0.1:1", WANTED, over_grpc=Other, again_s=0.0, connect=connect)
    for _ in range(3):
        assert transport.infer(REQUEST, timeout_s=LIMIT_S) is not None
    assert not ends.is_set()
    ends.set()
    transport.close()


def test_a_server_that_is_down_is_asked_as_rarely(monkeypatch):
    """After a fall back to gRPC, an attempt that cannot connect is followed by the next only after the same while."""
    now_s = 1000.0
    attempts = []
    monkeypatch.setattr("isplit.runtime.edge.lean_transport.time", SimpleNamespace(monotonic=lambda: now_s))

    def connect(*_, **__):
        attempts.append(now_s)
        if len(attempts) == 1:
            msg = "another protocol"
            raise NotLeanError(msg)
        raise TransportError("UNAVAILABLE", "nobody listens")

    def ask(count):
        for _ in range(count):
            assert "a-1" == transport.infer(REQUEST, timeout_s=LIMIT_S).id
            ends_s = time.monotonic() + LIMIT_S
            while transport._attempt is not None:  # an attempt that no request waits for
                assert time.monotonic() < ends_s
                time.sleep(0.001)

    transport = LeanTransport("127.0.0.1:1", WANTED, over_grpc=Other, again_s=60.0, connect=connect)
    ask(3)
    now_s = 1061.0
    ask(5)
    now_s = 1100.0
    ask(5)
    now_s = 1122.0
    ask(5)
    assert [1000.0, 1061.0, 1122.0] == attempts
    transport.close()


def test_lean_only(scripted):
    """Without gRPC behind it, the transport says what is wrong."""
    transport = LeanTransport(scripted(b"HTTP/1.1 400 Bad\r\n").address, WANTED, over_grpc=None)
    with pytest.raises(TransportError, match="UNIMPLEMENTED: the lean wire cannot be used: the answer to the first"):
        transport.infer(REQUEST, timeout_s=LIMIT_S)
    transport.close()


def test_lean_only_after_a_connection_broke_off(scripted):
    """A connection that ends at its first bytes may be a server's that has just failed: the next request connects."""
    server = scripted(b"")
    transport = LeanTransport(server.address, WANTED, over_grpc=None)
    for _ in range(2):
        with pytest.raises(TransportError, match="UNAVAILABLE: the connection was closed at its first bytes"):
            transport.infer(REQUEST, timeout_s=LIMIT_S)
    assert 2 == len(server.accepted)
    transport.close()


@pytest.mark.parametrize(("protocol", "note"), [("auto", "the server is a Unix socket"), ("lean", None)])
def test_only_a_client_that_uses_grpc_says_so(tiny, protocol, note):
    """A client that must not use gRPC never says that it does; its answers give the reason of the failure."""
    with EdgeClient(tiny.bundle, "unix:/nowhere", require_server=False, protocol=protocol) as client:
        assert note == client.wire_note


def test_a_real_grpc_server_is_asked_over_grpc(tiny, served):
    """A server of before answers the first bytes as HTTP/2; the client falls back and says it."""
    opener = served._hub.open_lean
    served.loop.call_soon_threadsafe(setattr, served._hub, "open_lean", None)
    try:
        with EdgeClient(tiny.bundle, served.address, fallback=False, protocol="auto") as client:
            answer = client.classify(tiny.images[0])
            assert tuple(tiny.logits[0].tolist()) == answer.logits
            assert "first bytes" in client.wire_note
    finally:
        served.loop.call_soon_threadsafe(setattr, served._hub, "open_lean", opener)


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        (b"\x02" + bytes(6), "UNKNOWN"),
        (b"\x00\x00\x00\x00\x00\x00\x01\xff", "UNKNOWN"),
        (b"\x00\x00\x00\x00\x00\x00\x00", "UNKNOWN"),
        (b"\x01\x00\x00\x00\x00\x00\x01\x63", "UNKNOWN"),
        (b"\x01\x00\x00\x00\x00\x00\x03\x08no", "RESOURCE_EXHAUSTED"),
        (b"\x01\xff\xff\xff\xff\x00\x03\x0ego", "UNAVAILABLE"),
        (b"\x00\x00\x00\x00\x07\x00\x00" * 100, "DEADLINE_EXCEEDED"),
    ],
)
def test_a_hostile_server(scripted, frame, status):
    """Whatever a server sends, a request ends in time and with one error; answers to nobody are dropped."""
    server = scripted(MAGIC + frame, closes=False)
    transport = LeanTransport(server.address, WANTED, over_grpc=Other)
    with pytest.raises(TransportError) as caught:
        transport.infer(REQUEST, timeout_s=1.0 if status == "DEADLINE_EXCEEDED" else LIMIT_S)
    assert status == caught.value.status
    transport.close()


def test_a_silent_server_is_given_up_in_time(scripted):
    """A server that accepts and says nothing costs no more than the deadline."""
    transport = LeanTransport(scripted(b"", closes=False).address, WANTED, over_grpc=Other)
    with pytest.raises(TransportError, match="DEADLINE_EXCEEDED"):
        transport.infer(REQUEST, timeout_s=0.2)
    transport.close()


class Flood:
    """A connection on which answers to nobody come without end."""

    def __init__(self):
        self.received = 0

    def send(self, data):
        return len(data)

    def recv(self, size):
        self.received += 1
        assert self.received < 10, "the deadline was not noticed"
        return server_frame(ANSWER, 7, b"")

    def shutdown(self, how):
        pass


def test_a_server_that_never_stops_sending_is_given_up_in_time(monkeypatch):
    """Answers to nobody that always are there to be read do not hold a request beyond its deadline."""
    monkeypatch.setattr("isplit.runtime.edge.lean_link.wait_for", lambda *arguments, **options: True)
    flood = Flood()
    opening = Opening(model="tiny.pool1", tensor="payload", classes=5, best=1)
    with pytest.raises(TransportError, match="DEADLINE_EXCEEDED"):
        LeanLink(flood).exchange(opening, b"x", ends_s=0.0)
    assert 1 == flood.received


def test_closing_ends_those_who_wait(scripted):
    """Requests that wait when the transport is closed fail with CANCELLED."""
    server = scripted(MAGIC, closes=False)
    transport = LeanTransport(server.address, WANTED, over_grpc=Other)
    errors = []

    def ask():
        try:
            transport.infer(REQUEST, timeout_s=LIMIT_S)
        except TransportError as error:
            errors.append(error.status)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    ends_s = time.monotonic() + LIMIT_S
    while transport._link is None or transport._link.users < 3:
        assert time.monotonic() < ends_s
        time.sleep(0.005)
    transport.close()
    for thread in threads:
        thread.join(LIMIT_S)
    assert ["CANCELLED"] * 3 == errors


@pytest.mark.parametrize(
    ("options", "message"), [({"protocol": "ftp"}, "auto, lean, grpc"), ({"best_classes": 0}, "1 to 255")]
)
def test_bad_options(tiny, options, message):
    """An unknown protocol and a number out of range are refused."""
    with pytest.raises(InputError, match=message):
        EdgeClient(tiny.bundle, "127.0.0.1:1", require_server=False, **options)
