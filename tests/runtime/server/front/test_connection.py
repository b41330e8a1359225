"""Calls over one connection: refused before a byte of them is kept, bounded while they come, answered as gRPC says."""

import asyncio
import contextlib
import gc
import socket
import weakref

import pytest

from isplit.runtime.server.front.strangers import KNOWN_RANK
from isplit.runtime.server.refusal import RefusedError

UNAUTHENTICATED, EXHAUSTED, LATE, INVALID, UNIMPLEMENTED, UNAVAILABLE = "16", "8", "4", "3", "12", "14"


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


def test_many_refused_at_once(start_front, connect, http2):
    """Of many calls without the token that come together, one is looked at; the connection is closed before others."""
    front = start_front()
    client = connect(front.port)
    for _ in range(90):
        lines = [(":method", "POST"), (":scheme", "http"), (":path", http2.echo), (":authority", "x")]
        lines.append(("content-type", "application/grpc"))
        client.http2.send_headers(client.http2.get_next_available_stream_id(), lines)
    client.flush()
    client.until(lambda: client.closed)
    assert 1 == front.refusals("token")


def test_health_needs_no_token(start_front, connect, http2):
    """A public method is answered without the token, but the connection is not trusted for it."""
    front = start_front()
    client = connect(front.port)
    assert "0" == client.ask(path=http2.health, token=None).status
    assert 1 == front.look(lambda hub: hub.stranger_count)
    assert "0" == client.ask(path=http2.health).status
    assert 0 == front.look(lambda hub: hub.stranger_count)


def test_health_has_a_share_of_its_own(start_front, connect, http2):
    """Half-open health calls are few for each connection and bounded in all; they take nothing from other calls."""
    front, clients = start_front(max_health_streams=2, max_health_receiving=3), []
    streams = []
    for number, client in enumerate(connect(front.port) for _ in range(2)):
        streams += [client.call(http2.health, token=None) for _ in range(2)]
        http2.until(lambda wanted=2 + number: wanted == front.look(lambda hub: hub.receiving.calls))
        clients.append(client)
    # The fourth was one too many for all: the first, silent for longest, gave way.
    assert EXHAUSTED == clients[0].result(streams[0]).status
    # The third of one connection is one too many for it.
    assert EXHAUSTED == clients[1].result(clients[1].call(http2.health, token=None)).status
    assert (1, 1) == (front.refusals("gave_way"), front.refusals("too_many_calls"))
    assert "0" == connect(front.port).ask().status


def test_half_open_calls_give_way(start_front, connect, http2):
    """When too many calls are still sending, the one that was silent for longest gives way to a new one."""
    front = start_front(max_receiving=5)
    clumsy = connect(front.port)
    streams = [clumsy.call() for _ in range(5)]
    http2.until(lambda: 5 == front.look(lambda hub: hub.receiving.calls))
    assert "0" == connect(front.port).ask().status
    assert EXHAUSTED == clumsy.result(streams[0]).status
    clumsy.read()
    assert [None] * 4 == [clumsy.outcomes[stream].status for stream in streams[1:]]


def test_slow_message(start_front, connect):
    """A message that does not arrive in time ends its call, and the message says so."""
    front = start_front(receive_seconds=0.1)
    client = connect(front.port)
    stream = client.call()
    client.send(stream, b"\0\0\0\0\5hell")
    outcome = client.result(stream)
    assert LATE == outcome.status
    assert "did not arrive" in outcome.headers["grpc-message"]
    assert 1 == front.refusals("too_slow")


def test_stalled_long_message(start_front, connect):
    """A long message that stands still ends when another waits behind it, which then gets its turn."""
    front = start_front(stall_seconds=0.1)
    size = 2**22
    stalled, rightful = connect(front.port), connect(front.port)
    stream = stalled.call()
    stalled.send(stream, b"\0" + size.to_bytes(4, "big") + bytes(size - 1))
    assert "0" == rightful.ask(bytes(size)).status
    assert EXHAUSTED == stalled.result(stream).status
    assert 1 == front.refusals("stalled")


def test_long_messages_are_bounded(start_front, connect):
    """However many long messages stop short, memory is taken for as many as the shares allow; short ones go on."""
    front = start_front()
    size = 2**22
    for _ in range(3):
        client = connect(front.port)
        for _ in range(20):
            stream = client.call()
            window = client.http2.local_flow_control_window(stream)
            client.send(stream, (b"\0" + size.to_bytes(4, "big") + bytes(size))[: min(window, 2**14)])
        client.read()
    bound = front.look(lambda hub: sum(share.total_bytes for share in hub.limits.shares()))
    assert front.look(lambda hub: hub.receiving.bytes) <= bound
    assert "0" == connect(front.port).ask().status


def test_short_messages_are_bounded(start_front, connect):
    """Short messages that stop short give way to others of their connection, so that they never take all memory."""
    front = start_front()
    client = connect(front.port)
    size = 60_000
    for _ in range(40):
        client.send(client.call(), b"\0" + size.to_bytes(4, "big") + b"x")
    assert "0" == client.ask().status
    assert front.look(lambda hub: hub.receiving.bytes) <= 2**20
    assert front.refusals("gave_way") >= 40 - 2**20 // size


def test_too_long(start_front, connect):
    """A message that is too long is refused when its length is known, before anything else of it comes."""
    front = start_front(message_bytes=2**21)
    client = connect(front.port)
    stream = client.call()
    client.send(stream, b"\0" + (2**21 + 1).to_bytes(4, "big"))
    outcome = client.result(stream)
    assert EXHAUSTED == outcome.status
    assert "2097153 bytes, at most 2097152" in outcome.headers["grpc-message"]
    assert 1 == front.refusals("message_too_long")


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


def test_answer_that_is_not_read(start_front, connect):
    """A peer whose windows stay shut is not waited for."""
    front = start_front(send_seconds=0.1)
    client = connect(front.port)
    for _ in range(2):
        client.ask(bytes(30_000))
    client.http2.update_settings({4: 0})  # SETTINGS_INITIAL_WINDOW_SIZE
    client.flush()
    outcome = client.ask(b"hello")
    assert (True, None) == (outcome.reset, outcome.status)
    assert 1 == front.refusals("not_read")


def test_many_streams(start_front, connect, http2):
    """More calls at a time than were allowed end the connection, and others do not notice."""
    front = start_front(max_streams=10)
    client = connect(front.port)
    client.ask()
    client.http2.remote_settings.update({3: 1000})
    client.http2.remote_settings.acknowledge()
    for _ in range(20):
        client.call()
    client.until(lambda: client.closed)
    http2.until(lambda: 1 == front.refusals("protocol_error"))
    assert "0" == connect(front.port).ask().status


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


def test_cost_without_answers(start_front, connect, http2):
    """A peer with the token that costs much and is answered nothing waits like a stranger, and is forgiven later."""
    front = start_front()
    costly = connect(front.port)
    assert "0" == costly.ask().status
    (first,) = front.look(lambda hub: [channel.connection for channel in hub.channels])
    other = connect(front.port)
    assert "0" == other.ask().status
    front.look(lambda hub: first.debt.cost(1.0, now=hub.now()))
    assert first.known
    assert not first.trusted
    front.look(lambda hub: hub.strangers.spend(0.06, rank=KNOWN_RANK))
    waiting = costly.call()
    costly.send(waiting, http2.framed(b"later"), end_stream=True)
    assert "0" == other.ask().status
    assert b"later" not in front.arrived
    assert "0" == costly.result(waiting).status
    assert not first.trusted
    now = front.look(lambda hub: hub.now())
    front.look(lambda hub: setattr(hub, "now", lambda: now + 60))
    assert first.trusted


def test_answers_pay(start_front, connect, http2):
    """The answers that a peer gets pay for what it costs."""
    front = start_front()
    client = connect(front.port)
    assert "0" == client.ask().status
    (connection,) = front.look(lambda hub: [channel.connection for channel in hub.channels])
    now = front.look(lambda hub: hub.now())
    front.look(lambda hub: setattr(hub, "now", lambda: now))  # so that nothing is forgiven
    front.look(lambda hub: connection.debt.cost(0.52, now=now))
    assert not connection.trusted
    assert "0" == client.ask(bytes(2**20)).status
    http2.until(lambda: connection.trusted)


@pytest.mark.parametrize("path", ["/test.Service/Unknown", "/test.Service/Health"])
def test_refused_calls_cost(start_front, connect, http2, path):
    """Whoever makes many calls that are refused is no longer trusted."""
    front = start_front(max_health_streams=0)
    client = connect(front.port)
    assert "0" == client.ask().status
    (connection,) = front.look(lambda hub: [channel.connection for channel in hub.channels])
    for _ in range(40):
        assert "0" != client.result(client.call(path)).status
    http2.until(lambda: not connection.trusted)


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
