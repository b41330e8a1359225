"""What the lean wire refuses: wrong slots, contents, bytes and tokens, slow peers, and more than a server holds."""

import socket
import struct
import time
import urllib.request

import pytest

from isplit.runtime.lean.device_frames import (
    MAGIC,
    MAX_CONTENT_BYTES,
    NO_NUMBER,
    encode_cancel,
    encode_opening,
    encode_request,
    hello,
)
from isplit.runtime.lean.server_frames import ANSWER, decode_answer, decode_error
from isplit.runtime.server import serving
from tests.runtime.server.lean_peer import LIMIT_S, TOKEN, opened, payload


def refusals(server, reason):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=LIMIT_S) as reply:
        lines = reply.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if f'reason="{reason}"' in line)


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
def test_a_slot_without_a_model(tiny, served, open_peer, opening, status):
    """Requests at a slot that could not be opened get the reason, and the connection goes on."""
    peer = open_peer(served.address).greet()
    if opening:
        peer.send(encode_opening(1, opening))
    peer.send(encode_request(1, 5, bytes(300), deadline_ms=None))
    assert (5, status) == peer.error()[:2]
    right = opened(wants_logits=True)
    peer.send(encode_opening(2, right) + encode_request(2, 6, payload(tiny, 0), deadline_ms=None))
    assert tiny.logits[0].tolist() == decode_answer(right, peer.frame().body).logits.tolist()


def test_wrong_contents(tiny, served, open_peer):
    """A damaged payload, one that is too long, and an empty one are refused; the next request is answered."""
    opening = opened(wants_logits=True)
    peer = open_peer(served.address).greet()
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
def test_bytes_of_no_protocol_end_the_connection(served, open_peer, content):
    """A wrong greeting, kind, slot, number or length is the end, and the operator sees it."""
    before = refusals(served, "protocol_error")
    peer = open_peer(served.address)
    peer.send(content)
    assert peer.is_closed()
    assert before + 1 == refusals(served, "protocol_error")


@pytest.mark.parametrize("token", ["", "wrong-horse-battery-staple"])
def test_without_the_token(tiny, open_peer, token):
    """A peer without the token is told so and closed, before anything that it sent is kept."""
    with serving(tiny.bundle, token=TOKEN) as server:
        peer = open_peer(server.address)
        peer.send(hello(token) + encode_opening(0, opened()) + encode_request(0, 1, bytes(9), deadline_ms=None))
        assert (NO_NUMBER, "UNAUTHENTICATED") == peer.error()[:2]
        assert peer.is_closed()
        assert 0 == server.message_bytes
        open_peer(server.address).greet(TOKEN)


def test_a_changed_token_ends_what_was_authorised(tiny, open_peer):
    """After the server's token has changed, the next request on an old connection is refused."""
    opening = opened()
    with serving(tiny.bundle, token=TOKEN) as server:
        peer = open_peer(server.address).greet(TOKEN)
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


def test_a_message_that_never_ends(tiny, open_peer, wire):
    """A request that stalls is refused in time and its memory is freed; what it sends later is skipped."""
    opening = opened(wants_logits=True)
    with serving(tiny.bundle, receive_seconds=1.5) as server:
        peer = open_peer(server.address).greet()
        content = payload(tiny, 0)
        frame = encode_request(0, 1, content, deadline_ms=None)
        peer.send(encode_opening(0, opening) + frame[:-3])
        wire.until(lambda: server.receiving_calls == 1)
        assert (1, "DEADLINE_EXCEEDED") == peer.error()[:2]
        wire.until(lambda: (0, 0) == (server.receiving_calls, server.message_bytes))
        peer.send(frame[-3:] + encode_request(0, 2, content, deadline_ms=None))
        assert tiny.logits[0].tolist() == decode_answer(opening, peer.frame().body).logits.tolist()


def test_stalled_messages_leave_room_for_others(tiny, open_peer, wire):
    """Many connections that announce long messages and send nothing do not keep others from being answered."""
    opening = opened("tiny.remote", "image")
    with serving(tiny.bundle) as server:
        for _ in range(120):
            peer = open_peer(server.address).greet()
            peer.send(encode_opening(0, opening) + encode_request(0, 1, bytes(20_000), deadline_ms=None)[:100])
        wire.until(lambda: server.receiving_calls == 120)
        assert server.message_bytes <= server.limits.max_message_memory
        right = opened(wants_logits=True)
        rightful = open_peer(server.address).greet()
        rightful.send(encode_opening(0, right) + encode_request(0, 1, payload(tiny, 0), deadline_ms=None))
        assert tiny.logits[0].tolist() == decode_answer(right, rightful.frame().body).logits.tolist()


def test_too_many_open_requests(tiny, gated, open_peer, wire):
    """A peer has as many open requests as over gRPC; the next are refused, and cancelled ones make room."""
    gated_server, engine = gated(max_queue=2000)
    server = gated_server.server
    peer = open_peer(server.address).greet()
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


def test_a_deadline_passes(tiny, gated, open_peer):
    """A request whose deadline passes while the engine works is answered with that."""
    server, engine = gated()
    peer = open_peer(server.server.address).greet()
    peer.send(encode_opening(0, opened()) + encode_request(0, 1, payload(tiny, 0), deadline_ms=40))
    assert (1, "DEADLINE_EXCEEDED") == peer.error()[:2]
    engine.gate.release()


def test_a_peer_that_does_not_read(tiny, open_peer, wire):
    """Answers that nobody reads fill no memory: the server stops reading from their peer."""
    opening = opened(wants_logits=True, wants_timings=True)
    with serving(tiny.bundle) as server:
        peer = open_peer(server.address)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.greet()
        peer.send(encode_opening(0, opening))
        request = encode_request(0, 1, payload(tiny, 0), deadline_ms=None)
        peer.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            peer.send(request * 200_000)
        assert server.message_bytes <= server.limits.max_message_memory
