"""A device on the lean wire: the same answers as over gRPC, in fewer bytes."""

import socket
import statistics
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from isplit.errors import InputError, ServerError
from isplit.runtime.bench.proxy import proxied
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.lean_transport import LeanTransport
from isplit.runtime.edge.transport import TransportError
from isplit.runtime.lean.device_frames import MAGIC
from isplit.runtime.server import serving
from tests.runtime.edge.lean_servers import LIMIT_S, REQUEST, WANTED, Other

TOKEN = "correct-horse-battery-staple"


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
