"""The lean wire as a server answers it: rightful requests, on whatever connection and however they come."""

import socket
import ssl
import threading
import time

import numpy as np
import pytest

from isplit.runtime.lean.device_frames import (
    ALPN,
    MAGIC,
    NO_NUMBER,
    encode_opening,
    encode_request,
    hello,
)
from isplit.runtime.lean.server_frames import ANSWER, decode_answer
from isplit.runtime.server import ServerTls, serving
from isplit.runtime.server.engine import BatchCost
from isplit.runtime.server.front.sweeping import SWEEP_S
from tests.runtime.server.lean_peer import LIMIT_S, TOKEN, opened, payload


@pytest.mark.parametrize("cut", ["stage.1", "stage.2"])
@pytest.mark.parametrize("tensor", ["payload", "latent"])
def test_logits_and_times(tiny, served, open_peer, cut, tensor):
    """All logits come when they are asked for, equal to the whole model's, with the server's times."""
    opening = opened(f"tiny.{cut}", tensor, wants_logits=True, wants_timings=True)
    peer = open_peer(served.address).greet()
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


def test_requests_that_come_together(tiny, served, open_peer, monkeypatch):
    """A lone request is computed at once; requests that came together are computed together, however quick each is."""
    monkeypatch.setattr(BatchCost, "parts", lambda *_, **__: 1)  # on a busy machine the model may not look quick
    opening = opened("tiny.stage.1", "latent", wants_logits=True, wants_timings=True)
    peer = open_peer(served.address).greet()
    peer.send(encode_opening(0, opening))
    latents = [tiny.latents["stage.1"][number].tobytes() for number in range(8)]
    for count in (1, 8, 1):
        peer.send(b"".join(encode_request(0, number, latents[number], deadline_ms=None) for number in range(count)))
        for number in range(count):
            frame = peer.frame()
            answer = decode_answer(opening, frame.body)
            assert (number, count) == (frame.number, answer.times.batch_size)
            assert tiny.logits[number].tolist() == answer.logits.tolist()


def test_a_peer_that_is_slow_to_greet(served, open_peer):
    """The server says nothing before the peer's first bytes, which tell what it speaks, however often it looks."""
    peer = open_peer(served.address)
    time.sleep(3 * SWEEP_S)
    peer.greet()


def test_best_classes(tiny, served, open_peer):
    """Without logits, the most probable classes come; the first is the whole model's answer."""
    opening = opened()
    peer = open_peer(served.address).greet()
    peer.send(encode_opening(0, opening) + encode_request(0, 9, payload(tiny, 0), deadline_ms=None))
    best = decode_answer(opening, peer.frame().body).best
    odds = np.exp(tiny.logits[0].astype(np.float64) - tiny.logits[0].max())
    order = np.argsort(-tiny.logits[0], kind="stable")[:2]
    assert order.tolist() == [label for label, _ in best]
    assert pytest.approx((odds / odds.sum())[order].tolist(), abs=1e-5) == [probability for _, probability in best]


def test_an_image(tiny, served, wire, open_peer):
    """A compressed image is answered, too."""
    opening = opened("tiny.remote", "image", wants_logits=True)
    peer = open_peer(served.address).greet()
    peer.send(encode_opening(0, opening) + encode_request(0, 1, wire.encoded(tiny.images[5]), deadline_ms=None))
    assert tiny.logits[5].tolist() == decode_answer(opening, peer.frame().body).logits.tolist()


def test_requests_may_be_torn_anywhere(tiny, served, open_peer):
    """Bytes that arrive one by one make the same answers as bytes that arrive together."""
    opening = opened(wants_logits=True)
    content = hello("") + encode_opening(0, opening)
    content += b"".join(encode_request(0, number, payload(tiny, number), deadline_ms=None) for number in (1, 2))
    peer = open_peer(served.address)
    peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(len(content)):
        peer.send(content[at : at + 1])
    peer.exactly(len(MAGIC))
    answers = {frame.number: decode_answer(opening, frame.body) for frame in (peer.frame(), peer.frame())}
    assert {number: tiny.logits[number].tolist() for number in (1, 2)} == {
        number: answer.logits.tolist() for number, answer in answers.items()
    }


def test_many_requests_at_once(tiny, served, open_peer):
    """Sixty requests in one piece are all answered, each under its number."""
    opening = opened(wants_logits=True)
    peer = open_peer(served.address).greet()
    content = encode_opening(0, opening)
    for number in range(60):
        content += encode_request(0, number, payload(tiny, number % 24), deadline_ms=None)
    peer.send(content)
    answers = {frame.number: decode_answer(opening, frame.body) for frame in (peer.frame() for _ in range(60))}
    assert {number: tiny.logits[number % 24].tolist() for number in range(60)} == {
        number: answer.logits.tolist() for number, answer in answers.items()
    }


def test_a_draining_server(tiny, open_peer):
    """Requests after draining began are refused as over gRPC."""
    with serving(tiny.bundle) as server:
        peer = open_peer(server.address).greet()
        peer.send(encode_opening(0, opened()) + encode_request(0, 1, payload(tiny, 0), deadline_ms=None))
        assert ANSWER == peer.frame().kind
        is_draining = threading.Event()
        server.loop.call_soon_threadsafe(setattr, server._service, "ready", False)
        server.loop.call_soon_threadsafe(is_draining.set)
        assert is_draining.wait(LIMIT_S)
        peer.send(encode_request(0, 2, payload(tiny, 0), deadline_ms=None))
        assert (2, "UNAVAILABLE") == peer.error()[:2]


def test_over_tls(tiny, authority, server_pair, open_peer):
    """TLS chooses the lean wire by its name, and HTTP/2 for everybody else; the token is still required."""
    cert, key = server_pair
    with serving(tiny.bundle, tls=ServerTls.from_files(cert, key, None), token=TOKEN) as server:
        context = ssl.create_default_context(cafile=str(authority.ca))
        context.set_alpn_protocols([ALPN, "h2"])
        opening = opened(wants_logits=True)
        peer = open_peer(server.address, context=context)
        assert ALPN == peer.socket.selected_alpn_protocol()
        peer.greet(TOKEN)
        peer.send(encode_opening(0, opening) + encode_request(0, 1, payload(tiny, 0), deadline_ms=None))
        assert tiny.logits[0].tolist() == decode_answer(opening, peer.frame().body).logits.tolist()
        stranger = open_peer(server.address, context=context)
        stranger.send(hello(""))
        assert (NO_NUMBER, "UNAUTHENTICATED") == stranger.error()[:2]
        context.set_alpn_protocols(["h2"])
        assert "h2" == open_peer(server.address, context=context).socket.selected_alpn_protocol()
