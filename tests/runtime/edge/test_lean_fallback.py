"""A device on the lean wire, and servers that do not speak it, are down, hostile or silent."""

import threading
import time
from types import SimpleNamespace

import pytest

from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.lean_connect import NotLeanError
from isplit.runtime.edge.lean_link import LeanLink
from isplit.runtime.edge.lean_transport import LeanTransport
from isplit.runtime.edge.transport import TransportError
from isplit.runtime.lean.device_frames import MAGIC, Opening
from isplit.runtime.lean.server_frames import ANSWER, server_frame
from tests.runtime.edge.lean_servers import LIMIT_S, REQUEST, WANTED, Other


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
