"""The client over real sockets: what is sent, and what becomes of servers that are not there, slow, gone or silent."""

import contextlib
import queue
import socket
import threading
from dataclasses import replace
from unittest.mock import MagicMock

import grpc
import pytest

from isplit.runtime.edge import grpc_transport
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.grpc_transport import GrpcTransport, failure_words
from isplit.runtime.edge.policy import Retry
from isplit.runtime.edge.transport import TransportError
from tests.runtime.edge.conftest import PATIENT
from tests.runtime.edge.foreign_servers import REQUEST, echo, refused, serve_bundle

ONCE = {"retry": Retry(attempts=1)}


@pytest.mark.parametrize("placement", ["stage.1", "stage.2", "remote", "local"])
@pytest.mark.parametrize("wire", ["payload", "latent"])
def test_answers_over_a_socket(tiny, listening, placement, wire):
    """Over a real connection the answers are the same, from each placement, without connecting anew."""
    _, address = listening(serve_bundle(tiny.bundle))
    with EdgeClient(tiny.bundle, address, wire=wire, fallback=False) as client:
        answers = list(client.run(tiny.images, placement=placement))
    assert {"remote", "local"} & {placement} or {"split"} == {answer.source for answer in answers}
    if placement != "remote":  # which is lossy here
        assert [tuple(row) for row in tiny.logits.tolist()] == [answer.logits for answer in answers]


@pytest.mark.parametrize(
    "status", ["INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "INTERNAL"]
)
def test_status(listening, connect, status):
    """A server's status comes through, with its words."""
    _, address = listening(lambda request, context: context.abort(grpc.StatusCode[status], "that is why"))
    with pytest.raises(TransportError, match="that is why") as error:
        connect(address).infer(REQUEST, timeout_s=30)
    assert status == error.value.status


def test_nobody_listens(connect):
    """Where nobody listens, that is known at once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        refused(connect(f"127.0.0.1:{port}"), "UNAVAILABLE")  # while the port is taken, so that nobody else listens


def test_deadline(listening, connect):
    """A server that takes too long is not waited for."""
    over = threading.Event()

    def slow(request, context):
        over.wait(30)
        return echo(request, context)

    _, address = listening(slow)
    refused(connect(address), "DEADLINE_EXCEEDED", timeout_s=0.05)
    over.set()


def test_deadline_of_a_client(tiny, listening):
    """An answer that would come too late is given by the fallback, and marked; the late one is never seen."""
    slow, over, received = threading.Event(), threading.Event(), queue.SimpleQueue()

    def answer_when_allowed(request, context):
        if slow.is_set():
            received.put(request.id)
            over.wait(30)
        return serve_bundle(tiny.bundle)(request, context)

    _, address = listening(answer_when_allowed)
    with EdgeClient(tiny.bundle, address, require_server=False, **ONCE) as client:
        client.classify(tiny.images[0])  # models and connection are there when the deadline begins to count
        slow.set()
        answers = [client.classify(tiny.images[0], deadline_ms=700)]
        over.set()
        answers.append(client.classify(tiny.images[1], deadline_ms=60_000))
    assert ["local-fallback", "split"] == [answer.source for answer in answers]
    assert [True, False] == [answer.late for answer in answers]
    assert "DEADLINE_EXCEEDED" in answers[0].reason
    assert [answer.id for answer in answers] == [received.get(timeout=30), received.get(timeout=30)]


def test_killed_under_a_request_and_restarted(tiny, listening):
    """A server that dies under a request does not take the answer with it: it is asked again, and answers."""
    started, over = threading.Event(), threading.Event()

    def hang(request, context):
        started.set()
        over.wait(30)

    server, address = listening(hang)
    port = int(address.rpartition(":")[2])

    def kill_and_restart():
        started.wait(30)
        server.stop(None).wait()
        listening(serve_bundle(tiny.bundle), port=port)

    helper = threading.Thread(target=kill_and_restart)
    helper.start()
    patient = PATIENT | {"retry": Retry(attempts=1000, first_ms=10, max_ms=50)}
    with EdgeClient(tiny.bundle, address, require_server=False, fallback=False, **patient) as client:
        answer = client.classify(tiny.images[0])
    helper.join()
    over.set()
    assert ("split", tuple(tiny.logits[0].tolist())) == (answer.source, answer.logits)
    assert answer.attempts > 1


def test_silent_link(listening, connect, monkeypatch):
    """A connection over which nothing comes any more is given up for a new one."""
    _, address = listening(echo)
    upstream = ("127.0.0.1", int(address.rpartition(":")[2]))
    monkeypatch.setattr(grpc_transport, "DEAD_AFTER_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as front:
        port = front.getsockname()[1]
        black_hole = []

        def accept():
            black_hole.append(front.accept()[0])  # the first connection is swallowed, the second passed on
            passed, _ = front.accept()
            with passed, socket.create_connection(upstream) as behind:
                forward = threading.Thread(target=pump, args=(passed, behind))
                forward.start()
                pump(behind, passed)
                forward.join()

        helper = threading.Thread(target=accept)
        helper.start()
        transport = connect(f"127.0.0.1:{port}")
        refused(transport, "DEADLINE_EXCEEDED", timeout_s=0.5)  # long enough to connect
        assert [1, 2, 3] == transport.infer(REQUEST, timeout_s=30).logits.tolist()
        transport.close()
        helper.join()
        black_hole[0].close()


def test_slow_answers_survive_a_new_connection(listening, connect, monkeypatch):
    """A request that waits on a connection which another gave up still gets its answer over it."""
    monkeypatch.setattr(grpc_transport, "DEAD_AFTER_S", 0.0)
    arrived, over = threading.Event(), threading.Event()

    def slow(request, context):
        if request.id == "patient":
            arrived.set()
        over.wait(30)
        return echo(request, context)

    _, address = listening(slow)
    transport = connect(address)
    replies = queue.SimpleQueue()
    patient = replace(REQUEST, id="patient")
    thread = threading.Thread(target=lambda: replies.put(transport.infer(patient, timeout_s=30)))
    thread.start()
    assert arrived.wait(30)
    refused(transport, "DEADLINE_EXCEEDED", timeout_s=0.05)
    over.set()
    assert "patient" == replies.get(timeout=30).id
    thread.join()
    assert [1, 2, 3] == transport.infer(REQUEST, timeout_s=30).logits.tolist()


def pump(source, target):
    """Copy until the source ends, and tell the target."""
    with contextlib.suppress(OSError):  # either side may be gone already
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


def test_closing_ends_requests(listening):
    """Closing a transport ends the requests under way, and refuses new ones."""
    started, over = threading.Event(), threading.Event()

    def hang(request, context):
        started.set()
        over.wait(30)
        return echo(request, context)

    _, address = listening(hang)
    transport = GrpcTransport(address)
    failures = queue.SimpleQueue()

    def work():
        try:
            transport.infer(REQUEST, timeout_s=30)
        except TransportError as error:
            failures.put(error.status)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait(30)
    transport.close()
    thread.join()
    over.set()
    assert "CANCELLED" == failures.get(timeout=30)
    refused(transport, "CANCELLED")


# --- connections that are given up ---


class Channel(MagicMock):
    """A channel that is never used, and says whether it was closed."""

    def is_closed(self):
        return self.close.called


class SilenceError(Exception):
    """What gRPC raises when nothing came."""

    def code(self):
        return grpc.StatusCode.DEADLINE_EXCEEDED

    def details(self):
        return "nothing came"


@pytest.fixture
def channels(monkeypatch):
    """The channels that transports have opened, in order; one that was silent is given up at once."""
    opened = []
    monkeypatch.setattr(grpc_transport, "DEAD_AFTER_S", 0.0)
    monkeypatch.setattr(grpc_transport, "open_channel", lambda *_: opened.append(Channel()) or opened[-1])
    return opened


def test_a_replaced_connection_is_closed_by_its_last_request(channels):
    """Of two requests on a connection that is given up, the second closes it; the new one stays open."""
    transport = GrpcTransport("127.0.0.1:1")
    first, second = transport._take(), transport._take()
    transport._failure(SilenceError(), first)

    transport._give_back(first)
    assert [False, False] == [channel.is_closed() for channel in channels]
    transport._give_back(second)
    assert [True, False] == [channel.is_closed() for channel in channels]

    link = transport._take()
    transport._give_back(link)
    assert [True, False] == [channel.is_closed() for channel in channels]


def test_a_closed_transport_opens_no_connection(channels):
    """A request that times out after the transport was closed is no reason to connect again."""
    transport = GrpcTransport("127.0.0.1:1")
    link = transport._take()
    transport.close()

    failure = transport._failure(SilenceError(), link)
    transport._give_back(link)

    assert ("DEADLINE_EXCEEDED", 1, True) == (failure.status, len(channels), channels[0].is_closed())


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (
            "errors resolving a.invalid:8001: [field:hostname lookup error:address lookup failed for a.invalid:8001: "
            "Domain name not found]",
            "no host of this name is known: check the address",
        ),
        ("DNS resolution failed for a.invalid:8001: C-ares", "no host of this name is known: check the address"),
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote "
            "host: connect: Connection refused (111)",
            "cannot connect: Connection refused",
        ),
        ("the bundle\nis another", "the bundle is another"),
    ],
)
def test_failures_in_plain_words(details, expected):
    """GRPC's own words name its parts and not what is wrong; what a server says stays as it is."""
    assert expected == failure_words(details)
