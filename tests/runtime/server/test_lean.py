"""The lean wire as a server answers it: rightful requests, and whatever else may come over the same port."""

import socket
import ssl
import struct
import threading
import time
import urllib.request

import numpy as np
import pytest

from isplit.runtime.lean.device_frames import (
    ALPN,
    MAGIC,
    MAX_CONTENT_BYTES,
    NO_NUMBER,
    Opening,
    encode_cancel,
    encode_opening,
    encode_request,
    hello,
)
from isplit.runtime.lean.server_frames import ANSWER, ERROR, FrameReader, decode_answer, decode_error
from isplit.runtime.server import ServerTls, serving
from isplit.runtime.server.engine import BatchCost
from isplit.runtime.server.front.sweeping import SWEEP_S
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


@pytest.fixture
def connect():
    """Open raw connections; they are closed in the end."""
    peers = []

    def open_peer(address, **options):
        peers.append(LeanPeer(address, **options))
        return peers[-1]

    yield open_peer
    for peer in peers:
        peer.close()


@pytest.fixture(scope="module")
def served(tiny):
    """A server of this module's own: what other tests attack owes processor time to its attackers' address."""
    with serving(tiny.bundle, metrics_port=0) as server:
        yield server


def refusals(server, reason):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=LIMIT_S) as reply:
        lines = reply.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if f'reason="{reason}"' in line)


def opened(model="tiny.stage.1", tensor="payload", **options):
    return Opening(**{"model": model, "tensor": tensor, "classes": len(CLASSES), "best": 2} | options)


def payload(tiny, number, cut="stage.1"):
    return tiny.bundle.codec(cut).encode_symbols(tiny.latents[cut][number])


@pytest.mark.parametrize("cut", ["stage.1", "stage.2"])
@pytest.mark.parametrize("tensor", ["payload", "latent"])
def test_logits_and_times(tiny, served, connect, cut, tensor):
    """All logits come when they are asked for, equal to the whole model's, with the server's times."""
    opening = opened(f"tiny.{cut}", tensor, wants_logits=True, wants_timings=True)
    peer = connect(served.address).greet()
    peer.send(encode_opening(3, opening))
    for number in range(4):
        content = payload(tiny, number, cut) if tensor == "payload" else tiny.latents[cut][number].tobytes()
        peer.send(encode_request(3, number, content, deadline_ms=60_000))
        frame = peer.frame()
        answer = decode_answer(opening, frame.body)
        assert (ANSWER, number) == (frame.kind, frame.number)
        assert tiny.logits[number].tolist() == answer.logits.tolist()
        assert answer.times.batch_size == 1
        assert 0 < answer.times.infer_ms <= answer.times.server_ms


def test_requests_that_come_together(tiny, served, connect, monkeypatch):
    """A lone request is computed at once; requests that came together are computed together, however quick each is."""
    monkeypatch.setattr(BatchCost, "parts", lambda *_, **__: 1)  # on a busy machine the model may not look quick
    opening = opened("tiny.stage.1", "latent", wants_logits=True, wants_timings=True)
    peer = connect(served.address).greet()
    peer.send(encode_opening(0, opening))
    latents = [tiny.latents["stage.1"][number].tobytes() for number in range(8)]
    for count in (1, 8, 1):
        peer.send(b"".join(encode_request(0, number, latents[number], deadline_ms=None) for number in range(count)))
        for number in range(count):
            frame = peer.frame()
            answer = decode_answer(opening, frame.body)
            assert (number, count) == (frame.number, answer.times.batch_size)
            assert tiny.logits[number].tolist() == answer.logits.tolist()


def test_a_peer_that_is_slow_to_greet(served, connect):
    """The server says nothing before the peer's first bytes, which tell what it speaks, however often it looks."""
    peer = connect(served.address)
    time.sleep(3 * SWEEP_S)
    peer.greet()


def test_best_classes(tiny, served, connect):
    """Without logits, the most probable classes come; the first is the whole model's answer."""
    opening = opened()
    peer = connect(served.address).greet()
    peer.send(encode_opening(0, opening) + encode_request(0, 9, payload(tiny, 0), deadline_ms=None))
    best = decode_answer(opening, peer.frame().body).best
    odds = np.exp(tiny.logits[0].astype(np.float64) - tiny.logits[0].max())
    order = np.argsort(-tiny.logits[0], kind="stable")[:2]
    assert order.tolist() == [label for label, _ in best]
    assert pytest.approx((odds / odds.sum())[order].tolist(), abs=1e-5) == [probability for _, probability in best]


def test_an_image(tiny, served, wire, connect):
    """A compressed image is answered, too."""
    opening = opened("tiny.remote", "image", wants_logits=True)
    peer = connect(served.address).greet()
    peer.send(encode_opening(0, opening) + encode_request(0, 1, wire.encoded(tiny.images[5]), deadline_ms=None))
    assert tiny.logits[5].tolist() == decode_answer(opening, peer.frame().body).logits.tolist()


def test_requests_may_be_torn_anywhere(tiny, served, connect):
    """Bytes that arrive one by one make the same answers as bytes that arrive together."""
    opening = opened(wants_logits=True)
    content = hello("") + encode_opening(0, opening)
    content += b"".join(encode_request(0, number, payload(tiny, number), deadline_ms=None) for number in (1, 2))
    peer = connect(served.address)
    peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(len(content)):
        peer.send(content[at : at + 1])
    peer.exactly(len(MAGIC))
    answers = {frame.number: decode_answer(opening, frame.body) for frame in (peer.frame(), peer.frame())}
    assert {number: tiny.logits[number].tolist() for number in (1, 2)} == {
        number: answer.logits.tolist() for number, answer in answers.items()
    }


def test_many_requests_at_once(tiny, served, connect):
    """Sixty requests in one piece are all answered, each under its number."""
    opening = opened(wants_logits=True)
    peer = connect(served.address).greet()
    content = encode_opening(0, opening)
    for number in range(60):
        content += encode_request(0, number, payload(tiny, number % 24), deadline_ms=None)
    peer.send(content)
    answers = {frame.number: decode_answer(opening, frame.body) for frame in (peer.frame() for _ in range(60))}
    assert {number: tiny.logits[number % 24].tolist() for number in range(60)} == {
        number: answer.logits.tolist() for number, answer in answers.items()
    }


@pytest.mark.parametrize(
    ("opening", "status"),
    [
        (opened("tiny.nothing"), "NOT_FOUND"),
        (opened("tiny.remote", "payload"), "INVALID_ARGUMENT"),
        (opened(classes=4), "INVALID_ARGUMENT"),
        (opened(sha256="ab" * 32), "INVALID_ARGUMENT"),
        (None, "INVALID_ARGUMENT"),
    ],
)
def test_a_slot_without_a_model(tiny, served, connect, opening, status):
    """Requests at a slot that could not be opened get the reason, and the connection goes on."""
    peer = connect(served.address).greet()
    if opening:
        peer.send(encode_opening(1, opening))
    peer.send(encode_request(1, 5, bytes(300), deadline_ms=None))
    assert (5, status) == peer.error()[:2]
    right = opened(wants_logits=True)
    peer.send(encode_opening(2, right) + encode_request(2, 6, payload(tiny, 0), deadline_ms=None))
    assert tiny.logits[0].tolist() == decode_answer(right, peer.frame().body).logits.tolist()


def test_wrong_contents(tiny, served, connect):
    """A damaged payload, one that is too long, and an empty one are refused; the next request is answered."""
    opening = opened(wants_logits=True)
    peer = connect(served.address).greet()
    peer.send(encode_opening(0, opening))
    for number, content in enumerate((b"damaged", bytes(MAX_CONTENT_BYTES), b"")):
        peer.send(encode_request(0, number, content, deadline_ms=None))
        assert number == peer.error()[0]
    peer.send(encode_request(0, 7, payload(tiny, 0), deadline_ms=None))
    assert tiny.logits[0].tolist() == decode_answer(opening, peer.frame().body).logits.tolist()


@pytest.mark.parametrize(
    "content",
    [
        b"isplit\x00\x02" + bytes(4),
        MAGIC + b"\xff\xff",
        b"i" * 100,
        hello("") + b"\xf2",
        hello("") + bytes((0xF0, 64)) + bytes(9),
        hello("") + bytes((0xF0, 0, 0, 0, 1, 0, 0, 0, 1, 0xFF, 0xFF)),
        hello("") + struct.pack(">BHIH", 0, 0, NO_NUMBER, 0),
        hello("") + struct.pack(">BHIH", 0, 65_535, 1, 0),
    ],
)
def test_bytes_of_no_protocol_end_the_connection(served, connect, content):
    """A wrong greeting, kind, slot, number or length is the end, and the operator sees it."""
    before = refusals(served, "protocol_error")
    peer = connect(served.address)
    peer.send(content)
    assert peer.is_closed()
    assert before + 1 == refusals(served, "protocol_error")


@pytest.mark.parametrize("token", ["", "wrong-horse-battery-staple"])
def test_without_the_token(tiny, connect, token):
    """A peer without the token is told so and closed, before anything that it sent is kept."""
    with serving(tiny.bundle, token=TOKEN) as server:
        peer = connect(server.address)
        peer.send(hello(token) + encode_opening(0, opened()) + encode_request(0, 1, bytes(9), deadline_ms=None))
        assert (NO_NUMBER, "UNAUTHENTICATED") == peer.error()[:2]
        assert peer.is_closed()
        assert 0 == server.message_bytes
        connect(server.address).greet(TOKEN)


def test_a_changed_token_ends_what_was_authorised(tiny, connect):
    """After the server's token has changed, the next request on an old connection is refused."""
    opening = opened()
    with serving(tiny.bundle, token=TOKEN) as server:
        peer = connect(server.address).greet(TOKEN)
        peer.send(encode_opening(0, opening) + encode_request(0, 1, payload(tiny, 0), deadline_ms=None))
        assert ANSWER == peer.frame().kind
        server.loop.call_soon_threadsafe(server.reload, None, TOKEN[::-1])
        end = time.monotonic() + LIMIT_S
        while (frame := _ask(peer, tiny)) is not None and frame.kind == ANSWER:
            assert time.monotonic() < end, "the token did not change"
        assert (NO_NUMBER, "UNAUTHENTICATED") == (frame.number, decode_error(frame.body)[0])
        assert peer.is_closed()


def _ask(peer, tiny):
    peer.send(encode_request(0, 1, payload(tiny, 0), deadline_ms=None))
    return peer.frame()


def test_a_message_that_never_ends(tiny, connect, wire):
    """A request that stalls is refused in time and its memory is freed; what it sends later is skipped."""
    opening = opened(wants_logits=True)
    with serving(tiny.bundle, receive_seconds=1.5) as server:
        peer = connect(server.address).greet()
        content = payload(tiny, 0)
        frame = encode_request(0, 1, content, deadline_ms=None)
        peer.send(encode_opening(0, opening) + frame[:-3])
        wire.until(lambda: server.receiving_calls == 1)
        assert (1, "DEADLINE_EXCEEDED") == peer.error()[:2]
        wire.until(lambda: (0, 0) == (server.receiving_calls, server.message_bytes))
        peer.send(frame[-3:] + encode_request(0, 2, content, deadline_ms=None))
        assert tiny.logits[0].tolist() == decode_answer(opening, peer.frame().body).logits.tolist()


def test_stalled_messages_leave_room_for_others(tiny, connect, wire):
    """Many connections that announce long messages and send nothing do not keep others from being answered."""
    opening = opened("tiny.remote", "image")
    with serving(tiny.bundle) as server:
        for _ in range(120):
            peer = connect(server.address).greet()
            peer.send(encode_opening(0, opening) + encode_request(0, 1, bytes(20_000), deadline_ms=None)[:100])
        wire.until(lambda: server.receiving_calls == 120)
        assert server.message_bytes <= server.limits.max_message_memory
        right = opened(wants_logits=True)
        rightful = connect(server.address).greet()
        rightful.send(encode_opening(0, right) + encode_request(0, 1, payload(tiny, 0), deadline_ms=None))
        assert tiny.logits[0].tolist() == decode_answer(right, rightful.frame().body).logits.tolist()


def test_too_many_open_requests(tiny, gated, connect, wire):
    """A peer has as many open requests as over gRPC; the next are refused, and cancelled ones make room."""
    gated_server, engine = gated(max_queue=2000)
    server = gated_server.server
    peer = connect(server.address).greet()
    content = encode_opening(0, opened())
    limit = server.limits.max_streams
    for number in range(limit + 5):
        content += encode_request(0, number, payload(tiny, 0), deadline_ms=None)
    peer.send(content)
    assert {(number, "RESOURCE_EXHAUSTED") for number in range(limit, limit + 5)} == {
        peer.error()[:2] for _ in range(5)
    }
    peer.send(b"".join(encode_cancel(number) for number in range(limit)))
    peer.send(encode_request(0, 500, payload(tiny, 0), deadline_ms=None))
    for _ in range(20):
        engine.gate.release()
    assert (ANSWER, 500) == ((frame := peer.frame()).kind, frame.number)


def test_a_deadline_passes(tiny, gated, connect):
    """A request whose deadline passes while the engine works is answered with that."""
    server, engine = gated()
    peer = connect(server.server.address).greet()
    peer.send(encode_opening(0, opened()) + encode_request(0, 1, payload(tiny, 0), deadline_ms=40))
    assert (1, "DEADLINE_EXCEEDED") == peer.error()[:2]
    engine.gate.release()


def test_a_draining_server(tiny, connect):
    """Requests after draining began are refused as over gRPC."""
    with serving(tiny.bundle) as server:
        peer = connect(server.address).greet()
        peer.send(encode_opening(0, opened()) + encode_request(0, 1, payload(tiny, 0), deadline_ms=None))
        assert ANSWER == peer.frame().kind
        is_draining = threading.Event()
        server.loop.call_soon_threadsafe(setattr, server._service, "ready", False)
        server.loop.call_soon_threadsafe(is_draining.set)
        assert is_draining.wait(LIMIT_S)
        peer.send(encode_request(0, 2, payload(tiny, 0), deadline_ms=None))
        assert (2, "UNAVAILABLE") == peer.error()[:2]


def test_over_tls(tiny, authority, server_pair, connect):
    """TLS chooses the lean wire by its name, and HTTP/2 for everybody else; the token is still required."""
    cert, key = server_pair
    with serving(tiny.bundle, tls=ServerTls.from_files(cert, key, None), token=TOKEN) as server:
        context = ssl.create_default_context(cafile=str(authority.ca))
        context.set_alpn_protocols([ALPN, "h2"])
        opening = opened(wants_logits=True)
        peer = connect(server.address, context=context)
        assert ALPN == peer.socket.selected_alpn_protocol()
        peer.greet(TOKEN)
        peer.send(encode_opening(0, opening) + encode_request(0, 1, payload(tiny, 0), deadline_ms=None))
        assert tiny.logits[0].tolist() == decode_answer(opening, peer.frame().body).logits.tolist()
        stranger = connect(server.address, context=context)
        stranger.send(hello(""))
        assert (NO_NUMBER, "UNAUTHENTICATED") == stranger.error()[:2]
        context.set_alpn_protocols(["h2"])
        assert "h2" == connect(server.address, context=context).socket.selected_alpn_protocol()


def test_a_peer_that_does_not_read(tiny, connect, wire):
    """Answers that nobody reads fill no memory: the server stops reading from their peer."""
    opening = opened(wants_logits=True, wants_timings=True)
    with serving(tiny.bundle) as server:
        peer = connect(server.address)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.greet()
        peer.send(encode_opening(0, opening))
        request = encode_request(0, 1, payload(tiny, 0), deadline_ms=None)
        peer.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            peer.send(request * 200_000)
        assert server.message_bytes <= server.limits.max_message_memory
