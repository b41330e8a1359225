"""Connections: how many, which of them give way, and how all of them end."""

import ssl

import pytest

from isplit.runtime.server import ServerTls
from isplit.runtime.server.front.debt import Debt

GRACE_S = 0.2
"""Enough for a client to acknowledge the server's settings, which would wake it if it were parked already."""


@pytest.fixture(params=["plain", "tls"])
def link(request, authority, server_pair):
    """The server's TLS context and a client's; None and None for plain text."""
    if request.param == "plain":
        return None, None
    client = ssl.create_default_context(cafile=authority.ca)
    client.set_alpn_protocols(["h2"])
    return ServerTls.from_files(*server_pair, None).context(), client


@pytest.fixture
def join(connect, http2, link):
    """Connect strangers one after the other, each once the server has taken the one before."""

    def connect_stranger(front):
        stranger = connect(front.port, context=link[1])
        stranger.until(lambda: stranger.http2.remote_settings.max_concurrent_streams == 100)
        return stranger

    return lambda front, count: [connect_stranger(front) for _ in range(count)]


def test_strangers_give_way(start_front, connect, join, link, http2):
    """Beyond their number the oldest idle stranger gives way; those that made an authorised call stay."""
    front = start_front(tls=link[0], max_strangers=3, stranger_grace_seconds=0)
    rightful = connect(front.port, context=link[1])
    assert "0" == rightful.ask().status
    strangers = join(front, 5)
    assert (3, 2) == front.look(lambda hub: (hub.stranger_count, hub.parked_count))
    assert 2 == front.refusals("strangers")
    assert "0" == rightful.ask().status
    assert "0" == strangers[-1].ask().status


def test_parked_stranger_is_told_when_it_sends(start_front, join, link, http2):
    """A stranger that gave way stays connected, and hears that no call was taken as soon as it makes one."""
    front = start_front(tls=link[0], max_strangers=1, stranger_grace_seconds=GRACE_S)
    first, _ = join(front, 2)
    for _ in range(3):
        first.read()
    assert not first.closed
    stream = first.call()
    first.until(lambda: first.closed)
    assert not first.outcomes[stream].headers
    http2.until(lambda: 0 == front.look(lambda hub: hub.parked_count))


def test_parked_strangers_are_bounded(start_front, join, link):
    """Beyond `max_parked` the stranger that was parked first is closed, and after `stranger_seconds` all are."""
    front = start_front(tls=link[0], max_strangers=1, max_parked=1, stranger_grace_seconds=GRACE_S, stranger_seconds=2)
    first, second, _ = join(front, 3)
    first.until(lambda: first.closed)
    assert 1 == front.look(lambda hub: hub.parked_count)
    second.until(lambda: second.closed)


class Stranger:
    """The part of a channel that the hub looks at when a stranger must give way."""

    peer, connection, parked = "192.0.2.1", None, False

    def __init__(self, *, opened_s, silent_s, idle, debt=None):
        self.address_debt = debt or Debt()
        self.opened_at, self.heard_at, self.idle = -opened_s, -silent_s, idle

    def park(self):
        self.parked = True

    def abort(self):
        pass

    go_away = abort

    def sweep(self, now):
        pass


@pytest.mark.parametrize(
    ("strangers", "leaving"),
    [
        # Seconds since the connection was opened, seconds of silence, and whether the server owes nothing.
        ([(9, 4, False), (8, 3, True), (7, 2, True)], 1),
        ([(9, 9, False), (1.9, 0.6, True), (1, 0.4, True)], 1),
        ([(1, 0.4, True), (3, 0.3, True), (2.5, 0.2, True)], 1),
        ([(1, 0.4, True), (1.9, 0.3, True)], None),
        ([(3, 3, False), (1, 0.4, True)], 0),
    ],
    ids=["silent", "waits for the server", "had its time", "all are new", "old and waiting"],
)
def test_which_stranger_gives_way(start_front, strangers, leaving):
    """The one silent for the longest time, unless the server has not read what it sent; else one that is old enough."""
    front = start_front(max_strangers=len(strangers), stranger_seconds=1e9)

    def make_room(hub):
        channels = [Stranger(opened_s=opened, silent_s=silent, idle=idle) for opened, silent, idle in strangers]
        hub.now = lambda: 0.0
        for channel in channels:
            hub.opened(channel)
        has_room = hub.make_room()
        left = [channel not in hub.channels for channel in channels]
        hub.channels.clear()
        return has_room, left

    has_room, left = front.look(make_room)
    assert (leaving is not None) == has_room
    assert [number == leaving for number in range(len(strangers))] == left


@pytest.mark.parametrize(("rank", "leaving"), [(0, 1), (1, 1), (2, None)])
def test_costly_address_gives_way(start_front, rank, leaving):
    """A stranger whose address has cost more than a newcomer's gives way at once, whatever it is about to send."""
    front = start_front(max_strangers=3, stranger_seconds=1e9)

    def make_room(hub):
        noticed, costly = Debt(), Debt()
        noticed.cost(0.2, now=0.0)
        costly.cost(0.6, now=0.0)
        channels = [Stranger(opened_s=0.1, silent_s=0, idle=False, debt=debt) for debt in (noticed, costly, costly)]
        hub.now = lambda: 0.0
        for channel in channels:
            hub.opened(channel)
        has_room = hub.make_room(rank=rank)
        left = [channel not in hub.channels for channel in channels]
        hub.channels.clear()
        return has_room, left

    has_room, left = front.look(make_room)
    assert (leaving is not None) == has_room
    assert [number == leaving for number in range(3)] == left


def test_connections_give_way(start_front, connect, http2):
    """Beyond the number of connections the one that was answered longest ago is closed, before any that computes."""
    front = start_front(max_connections=3)
    busy, old, recent = (connect(front.port) for _ in range(3))
    for client in (busy, old, recent):
        assert "0" == client.ask().status
    release = front.hold()
    stream = busy.call()
    busy.send(stream, http2.framed(b"busy"), end_stream=True)
    http2.until(lambda: b"busy" in front.arrived)
    newcomer = connect(front.port)
    old.until(lambda: old.closed)
    release()
    assert "0" == busy.result(stream).status
    for client in (recent, newcomer):
        assert "0" == client.ask().status
    assert 1 == front.refusals("connections")


def test_idle_stranger(start_front, connect):
    """A connection without a call is closed after a while; the metrics say so."""
    front = start_front(stranger_seconds=0.1)
    client = connect(front.port)
    client.until(lambda: client.closed)
    assert 1 == front.refusals("idle_stranger")


def test_without_token(start_front, connect):
    """Without a token set, everybody is answered."""
    assert "0" == connect(start_front(token=None).port).ask(token=None).status


def test_new_token(start_front, connect, http2):
    """A token that is replaced counts from the next call on, on connections that are open, too."""
    front = start_front()
    client = connect(front.port)
    assert "0" == client.ask().status
    front.look(lambda hub: hub.set_token("another-token-of-ours"))
    assert "16" == client.ask().status
    assert "0" == client.ask(token="another-token-of-ours").status


def test_close(start_front, connect, http2):
    """On closing, calls that are computed or still sending end with UNAVAILABLE, and their connections close."""
    front = start_front()
    front.hold()
    client = connect(front.port)
    computing, sending = client.call(), client.call()
    client.send(computing, http2.framed(b"x"), end_stream=True)
    http2.until(lambda: front.arrived and 1 == front.look(lambda hub: hub.receiving.calls))
    front.run(front.hub.close(1.0))
    for stream in (computing, sending):
        outcome = client.result(stream)
        assert ("14", "the server has stopped: ask another") == (outcome.status, outcome.headers["grpc-message"])
    client.until(lambda: client.closed)
    assert 2 == front.refusals("stopped")


def test_calls_of_a_connection_that_gives_way(start_front, connect, http2, caplog):
    """The callers on a connection that is closed for another are told to try again, and the log says how many fit."""
    front = start_front(max_connections=1)
    client = connect(front.port)
    assert "0" == client.ask().status
    stream = client.call()
    http2.until(lambda: 1 == front.look(lambda hub: hub.receiving.calls))
    caplog.set_level("WARNING", logger="isplit.server")
    newcomer = connect(front.port)
    outcome = client.result(stream)
    assert ("14", "there are too many connections: try again later") == (
        outcome.status,
        outcome.headers["grpc-message"],
    )
    assert "0" == newcomer.ask().status
    details = [record.fields.get("detail") for record in caplog.records if hasattr(record, "fields")]
    assert "there are more than 1: this one gave way" in details


def test_one_buffer_for_all_connections(start_front):
    """What all connections read into has 64 KiB, however many there are."""
    assert 65_536 == start_front().look(lambda hub: len(hub.read_buffer))
