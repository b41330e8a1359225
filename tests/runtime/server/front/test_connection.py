"""Calls over one connection: refused before a byte of them is kept, answered as gRPC says, and gone when they end."""

import asyncio
import contextlib
import gc
import socket
import weakref

import pytest

from isplit.runtime.server.refusal import RefusedError

UNAUTHENTICATED, LATE, INVALID, UNIMPLEMENTED, UNAVAILABLE = "16", "4", "3", "12", "14"


def test_answer(start_front, connect):
    """A whole call is answered with its message, and OK in the trailers."""
    outcome = connect(start_front().port).ask(b"hello")
    assert ("0", b"\0\0\0\0\5hello", "200") == (outcome.status, outcome.data, outcome.headers[":status"])


@pytest.mark.parametrize("size", [0, 1, 65529, 65530, 65531, 65536, 2**20, 2**20 + 1, 2**22])
def test_sizes(start_front, connect, size):
    """A message of any size up to the limit arrives whole, whatever share of memory it belongs to."""
    front = start_front()
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert "0" == connect(front.port).ask(message).status
    assert [message] == front.arrived
    assert 0 == front.look(lambda hub: hub.receiving.bytes)


def test_refused_before_the_message(start_front, connect, http2):
    """Without the token a call ends at its headers: no window is opened, nothing is kept, the connection is closed."""
    front = start_front()
    client = connect(front.port)
    outcome = client.result(client.call(token=None))
    assert UNAUTHENTICATED == outcome.status
    assert "authorization: Bearer TOKEN" in outcome.headers["grpc-message"]
    client.until(lambda: client.closed)
    assert 0 == client.window_updates
    assert (0, 0) == front.look(lambda hub: (hub.receiving.calls, hub.receiving.bytes))
    assert 1 == front.refusals("token")


def test_health_needs_no_token(start_front, connect, http2):
    """A public method is answered without the token, but the connection is not trusted for it."""
    front = start_front()
    client = connect(front.port)
    assert "0" == client.ask(path=http2.health, token=None).status
    assert 1 == front.look(lambda hub: hub.stranger_count)
    assert "0" == client.ask(path=http2.health).status
    assert 0 == front.look(lambda hub: hub.stranger_count)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", INVALID),
        (b"\0\0\0", INVALID),
        (b"\0\0\0\0\5hell", INVALID),
        (b"\0\0\0\0\4hello", INVALID),
        (b"\0\0\0\0\0\0\0\0\0\0", INVALID),
        (b"\1\0\0\0\5hello", UNIMPLEMENTED),
    ],
)
def test_wrong_messages(start_front, connect, data, status):
    """A message that is cut, followed by another, or compressed is refused, and the connection goes on."""
    client = connect(start_front().port)
    stream = client.call()
    client.send(stream, data, end_stream=True)
    assert status == client.result(stream).status
    assert "0" == client.ask().status


def test_wrong_calls(start_front, connect, http2):
    """An unknown method, a compressed call and a call that is not gRPC each get their answer."""
    front = start_front()
    client = connect(front.port)
    assert UNIMPLEMENTED == client.ask(path="/test.Service/None").status
    assert UNIMPLEMENTED == client.ask(grpc_encoding="gzip").status
    stream = client.http2.get_next_available_stream_id()
    lines = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")]
    client.http2.send_headers(stream, lines, end_stream=True)
    client.outcomes[stream] = client.outcomes[1].__class__()
    client.flush()
    assert "415" == client.result(stream).headers[":status"]
    assert (1, 1, 1) == tuple(front.refusals(reason) for reason in ("unknown_method", "compressed", "not_grpc"))


def test_wrong_call_that_is_cancelled_at_once(start_front, connect):
    """A refused call and its reset arrive in one piece; the connection and its other calls go on."""
    front = start_front()
    client = connect(front.port)
    assert "0" == client.ask().status
    stream = client.http2.get_next_available_stream_id()
    lines = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")]
    client.http2.send_headers(stream, lines, end_stream=True)
    client.http2.reset_stream(stream)
    client.flush()
    assert "0" == client.ask().status
    assert 1 == front.refusals("not_grpc")


def test_deadline(start_front, connect, http2):
    """A call that is not answered by its deadline ends then, whoever computes it."""
    front = start_front()
    release = front.hold()
    client = connect(front.port)
    assert LATE == client.ask(grpc_timeout="50m").status
    assert 1 == front.refusals("late")
    release()


def test_cancelled(start_front, connect, http2):
    """A call that its caller resets is no longer computed."""
    front = start_front()
    front.hold()
    client = connect(front.port)
    stream = client.call()
    client.send(stream, http2.framed(b"x" * 1000), end_stream=True)
    http2.until(lambda: front.arrived)
    assert 1000 == front.look(lambda hub: hub.receiving.bytes)
    client.http2.reset_stream(stream)
    client.flush()
    http2.until(lambda: 0 == front.look(lambda hub: hub.receiving.bytes))
    http2.until(lambda: 1 == front.given_up)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2,
        b"\x16\x03\x01\x02\x00" + bytes(600),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\4\1\4\0\0\0\1\xff\xff\xff\xff",
        # A block of headers that never ends.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + b"\0\x10\0\1\0\0\0\0\1" + bytes(4096)
        + (b"\0\x10\0\x09\0\0\0\0\1" + bytes(4096)) * 4,
    ],
)  # fmt: skip
def test_nonsense(start_front, connect, data):
    """Bytes that are no HTTP/2, or more headers than any call needs, end their connection alone."""
    front = start_front()
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as raw:
        raw.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(2**16):
                pass
    assert 1 == front.refusals("protocol_error")
    assert "0" == connect(front.port).ask().status


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (RefusedError("NOT_FOUND", "no such model"), "5", "no such model"),
        (ZeroDivisionError("by zero"), "13", "the server failed (ZeroDivisionError); its log says more"),
        (asyncio.CancelledError(), UNAVAILABLE, "the server has stopped: ask another"),
    ],
)
def test_a_method_that_fails(start_front, connect, error, status, words):
    """Whatever a method raises, its caller hears of it, and the connection goes on."""
    front = start_front()
    front.error = error
    client = connect(front.port)
    outcome = client.ask()
    assert (status, words) == (outcome.status, outcome.headers["grpc-message"])
    front.error = None
    assert "0" == client.ask().status


def test_the_window_is_refilled_in_steps(start_front, connect):
    """16 KiB that have arrived open the connection's window again by as many; a byte less does not yet."""
    client = connect(start_front().port)
    stream = client.call()
    client.send(stream, b"\0" + (60_000).to_bytes(4, "big") + bytes(2**14 - 6))
    client.result(client.call("/test.Service/None", end_stream=True))  # what came before it has been looked at
    assert 0 == client.window_updates
    client.send(stream, b"x")
    client.until(lambda: 1 == client.window_updates)
    assert 65_535 == client.http2.outbound_flow_control_window


def test_a_call_that_ends_while_it_waits_for_room(start_front, connect, http2):
    """A long message whose caller goes away before its turn is forgotten, and takes no memory when its turn comes."""
    front = start_front()
    size = 2**22
    first, second = connect(front.port), connect(front.port)
    prefix = b"\0" + size.to_bytes(4, "big")
    stream = first.call()
    first.send(stream, prefix + bytes(2**15))
    http2.until(lambda: size == front.look(lambda hub: hub.receiving.bytes))
    waiting = second.call()
    second.send(waiting, prefix)
    http2.until(lambda: 2 == front.look(lambda hub: hub.receiving.calls))
    second.http2.reset_stream(waiting)
    second.flush()
    http2.until(lambda: 1 == front.look(lambda hub: hub.receiving.calls))
    first.http2.reset_stream(stream)
    first.flush()
    http2.until(lambda: 0 == front.look(lambda hub: hub.receiving.calls))
    assert 0 == front.look(lambda hub: hub.receiving.bytes)
    assert "0" == connect(front.port).ask(bytes(size)).status


def test_lost_connection_takes_no_memory(start_front, connect, http2):
    """What HTTP/2 keeps of a connection is free as soon as the connection is lost, without the garbage collector."""
    front = start_front()
    client = connect(front.port)
    assert "0" == client.ask().status
    state = front.look(lambda hub: weakref.ref(next(iter(hub.channels)).connection._http2))
    assert state() is not None
    gc.collect()
    gc.disable()
    try:
        client.close()
        http2.until(lambda: state() is None)
    finally:
        gc.enable()
