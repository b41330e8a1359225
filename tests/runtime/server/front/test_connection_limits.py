"""What one connection may cost: half-open calls, long and stalled messages, calls without answers."""

import pytest

from isplit.runtime.server.front.strangers import KNOWN_RANK

EXHAUSTED, LATE = "8", "4"


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
