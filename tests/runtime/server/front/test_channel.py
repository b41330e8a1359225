"""The socket's side of a connection: TLS, and peers that do not go on."""

import contextlib
import socket
import ssl
from types import SimpleNamespace

import pytest
from h2.settings import SettingCodes

from isplit.runtime.server import ServerTls
from isplit.runtime.server.front.channel import Channel

REFUSED_CALL = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/test.Service/Echo"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
]


@pytest.fixture(scope="module")
def contexts(authority, server_pair):
    """The server's context and a client's; with client certificates, the same and a client without one."""

    def client(pair=None):
        context = ssl.create_default_context(cafile=authority.ca)
        context.set_alpn_protocols(["h2"])
        if pair:
            context.load_cert_chain(*pair)
        return context

    mutual = ServerTls.from_files(*server_pair, authority.ca).context()
    device = authority.issue("channel-device")
    return {
        "tls": (ServerTls.from_files(*server_pair, None).context(), client()),
        "mtls": (mutual, client(device)),
        "no certificate": (mutual, client()),
    }


@pytest.mark.parametrize("link", ["tls", "mtls"])
@pytest.mark.parametrize("size", [5, 2**21])
def test_answer(start_front, connect, contexts, link, size):
    """Calls are answered through TLS as in plain text, short ones and long ones."""
    server, client = contexts[link]
    outcome = connect(start_front(tls=server).port, context=client).ask(bytes(size))
    assert ("0", size + 5) == (outcome.status, len(outcome.data))


def test_certificate_is_enough(start_front, connect, contexts):
    """Where certificates are asked for and no token is, a connection is trusted from the start; else only by a call."""
    server, client = contexts["mtls"]
    front = start_front(tls=server, token=None)
    connection = connect(front.port, context=client)
    connection.until(lambda: connection.http2.remote_settings.max_concurrent_streams == 100)
    assert 0 == front.look(lambda hub: hub.stranger_count)
    front = start_front(tls=server)
    connection = connect(front.port, context=client)
    connection.until(lambda: connection.http2.remote_settings.max_concurrent_streams == 100)
    assert 1 == front.look(lambda hub: hub.stranger_count)


def test_no_certificate(start_front, connect, contexts, http2):
    """Without the certificate that is asked for there is no connection, and the operator sees it."""
    server, client = contexts["no certificate"]
    front = start_front(tls=server)
    connection = connect(front.port, context=client)
    connection.until(lambda: connection.closed)
    http2.until(lambda: 1 == front.refusals("handshake"))


def test_plain_text_to_tls(start_front, contexts, http2):
    """Plain text on a TLS port ends the connection."""
    front = start_front(tls=contexts["tls"][0])
    with socket.create_connection(("127.0.0.1", front.port), timeout=http2.limit_s) as raw:
        raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        while raw.recv(100):
            pass
    assert 1 == front.refusals("handshake")


def test_other_protocol(start_front, contexts, authority, http2):
    """A TLS peer that does not offer HTTP/2 is told goodbye."""
    front = start_front(tls=contexts["tls"][0])
    context = ssl.create_default_context(cafile=authority.ca)
    with (
        socket.create_connection(("127.0.0.1", front.port), timeout=http2.limit_s) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secure,
    ):
        assert b"" == secure.recv(100)
    assert 1 == front.refusals("handshake")


def test_handshake_that_stops(start_front, contexts, http2):
    """A handshake that does not go on is ended."""
    front = start_front(tls=contexts["tls"][0], receive_seconds=0.1)
    with socket.create_connection(("127.0.0.1", front.port), timeout=http2.limit_s) as raw:
        raw.sendall(b"\x16\x03\x01\x02")
        with contextlib.suppress(ConnectionResetError):
            assert not raw.recv(100)
    http2.until(lambda: 1 == front.refusals("handshake"))


def test_peer_that_does_not_read(start_front, connect, http2):
    """A peer that asks and never reads is read no further, and closed after a while; others are answered."""
    front = start_front(send_seconds=0.2)
    greedy = connect(front.port, settings={SettingCodes.INITIAL_WINDOW_SIZE: 2**24})
    greedy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    greedy.http2.increment_flow_control_window(2**24)
    streams = [greedy.call() for _ in range(4)]
    for stream in streams:
        greedy.send(stream, http2.framed(bytes(2**20))[:-1])
    for stream in streams:
        greedy.http2.send_data(stream, b"x", end_stream=True)
    greedy.flush()
    http2.until(lambda: 1 == front.refusals("not_read"))
    assert "0" == connect(front.port).ask().status


@pytest.mark.parametrize(("link", "expected"), [(None, (1024, 65_536)), ("tls", (1024, 16_384))])
def test_pieces(start_front, contexts, link, expected):
    """A stranger is read 1 KiB at a time, a trusted peer 64 KiB, or one record of TLS."""

    def sizes(hub):
        channel = Channel(hub, link and contexts[link][0])
        stranger = len(channel.get_buffer(-1))
        channel.connection = SimpleNamespace(trusted=True)
        return stranger, len(channel.get_buffer(-1))

    assert expected == start_front().look(sizes)


def test_patience_is_spread(start_front):
    """Strangers that came together have between 15 and 25 of 20 seconds, each another time."""
    front = start_front(stranger_seconds=20)
    patience_s = front.look(lambda hub: [Channel(hub, None).patience_s for _ in range(200)])
    assert 15 <= min(patience_s) < 17
    assert 23 < max(patience_s) <= 25


def joined(client):
    """Wait until the server has greeted a client."""
    client.until(lambda: client.http2.remote_settings.max_concurrent_streams == 100)
    return client


def test_known_peers_do_not_wait_for_strangers(start_front, connect):
    """When strangers have used up their time for ever, whoever is known is answered, and a stranger is not read."""
    front = start_front()
    known, stranger = (joined(connect(front.port)) for _ in range(2))
    assert "0" == known.ask().status
    front.look(lambda hub: hub.strangers.spend(1e6, rank=0))
    stream = stranger.call(end_stream=True)
    assert ["0"] * 3 == [known.ask().status for _ in range(3)]
    stranger.read()
    assert not stranger.outcomes[stream].headers


def test_a_stranger_that_had_to_wait_is_read_on(start_front, connect):
    """A stranger whose bytes waited for their turn is answered in its turn, and heard again afterwards."""
    front = start_front()
    stranger = joined(connect(front.port))
    front.look(lambda hub: hub.strangers.spend(0.1, rank=0))
    assert "0" == stranger.ask().status
    assert "0" == stranger.ask().status


def test_refused_call_is_no_protocol_error(start_front, connect, contexts, http2):
    """What a refused peer had sent in the same TLS record is not read, and not counted as a fault of its own."""
    server, client = contexts["tls"]
    front = start_front(tls=server)
    stranger = connect(front.port, context=client)
    stranger.until(lambda: stranger.http2.remote_settings.max_concurrent_streams == 100)
    for _ in range(90):
        stranger.http2.send_headers(stranger.http2.get_next_available_stream_id(), REFUSED_CALL)
    stranger.flush()
    stranger.until(lambda: stranger.closed)
    assert 1 == front.refusals("token")
    http2.until(lambda: 0 == front.look(lambda hub: len(hub.channels)))
    assert 0 == front.refusals("protocol_error")


def test_record_of_many_calls_takes_many_turns(start_front, connect, contexts, http2):
    """A peer that is no longer trusted gets four KiB of a long TLS record at a time, and the rest in its next turns."""
    server, client = contexts["tls"]
    front = start_front(tls=server)
    peer = connect(front.port, context=client)
    assert "0" == peer.ask().status
    (channel,) = front.look(lambda hub: list(hub.channels))
    front.look(lambda hub: channel.connection.debt.cost(60.0, now=hub.now()))
    turns = []
    work = channel.work
    front.look(lambda hub: setattr(channel, "work", lambda: (turns.append(1), work())))
    assert ("0", 8_005) == ((outcome := peer.ask(bytes(8_000))).status, len(outcome.data))
    assert len(turns) >= 2


@pytest.mark.parametrize("link", [None, "tls"])
@pytest.mark.parametrize(("debt_s", "most"), [(0.0, 8), (5.0, 1)])
def test_many_calls_take_many_turns(start_front, connect, contexts, http2, link, debt_s, most):
    """Eight calls begin in a turn, or one of a peer that costs much, also of records of their own; all are answered."""
    server, client = contexts[link] if link else (None, None)
    front = start_front(tls=server)
    peer = connect(front.port, context=client)
    peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert "0" == peer.ask().status
    (channel,) = front.look(lambda hub: list(hub.channels))
    front.look(lambda hub: channel.connection.debt.cost(debt_s, now=hub.now()))
    begun, work, calls = [], channel.work, channel.connection.calls

    def count():
        before = len(calls)
        work()
        begun.append(len(calls) - before)

    front.look(lambda hub: setattr(channel, "work", count))
    with front.stalled():
        streams = [peer.call() for _ in range(30)]
    http2.until(lambda: 30 == front.look(lambda hub: hub.receiving.calls))
    assert most == max(begun)
    for stream in streams:
        peer.send(stream, http2.framed(b"hello"), end_stream=True)
    assert ["0"] * 30 == [peer.result(stream).status for stream in streams]


class RecordingTransport:
    """A transport that remembers what it is asked to write."""

    def __init__(self):
        self.written = []
        self.is_open = True

    def get_extra_info(self, name):
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high):
        pass

    def is_closing(self):
        return not self.is_open

    def write(self, data):
        assert self.is_open
        self.written.append(data)

    def close(self):
        self.is_open = False


@pytest.mark.parametrize("closes", [False, True])
def test_one_write_for_each_turn(start_front, closes):
    """What is written in one turn of the event loop is sent with one call of the system, also when it is the last."""
    front = start_front()
    transport = RecordingTransport()

    def answer(hub):
        channel = Channel(hub, None)
        channel.connection_made(transport)
        for content in (b"first ", b"second ", b"third"):
            channel.write(content)
        if closes:
            channel.close()
        return channel

    channel = front.look(answer)
    assert [b"first second third"] == front.look(lambda _: list(transport.written))
    front.look(lambda _: channel.connection_lost(None))
    front.look(lambda _: channel.write(b"too late"))
    assert [b"first second third"] == front.look(lambda _: list(transport.written))
