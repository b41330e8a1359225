"""A server is checked once at the start: what is wrong with it is said, and every image is answered all the same."""

import contextlib
import itertools
import socket
import threading

import grpc
import numpy as np
import onnx
import pytest

import isplit
from isplit.errors import InputError, ServerError
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge import server_side
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.policy import BreakerSettings, Retry
from isplit.runtime.edge.security import Tls
from isplit.runtime.server import ServerTls
from isplit.runtime.server.run import serving
from tests.runtime.conftest import write_tiny_bundle
from tests.runtime.edge.conftest import InProcess, put, write_pictures
from tests.runtime.edge.foreign_servers import TOKEN, serve_bundle

CUTS = ("stage.1", "stage.2", "remote")


@pytest.fixture
def folder(tiny, tmp_path):
    """Three images as PNG files."""
    return write_pictures(tmp_path / "images", tiny.images[:3])


@pytest.fixture(scope="module")
def other_weights(tiny, tmp_path_factory):
    """A bundle of the same name, cuts, shapes and codecs, whose server computes something else."""
    directory = tmp_path_factory.mktemp("other") / "tiny"
    record = write_tiny_bundle(directory)
    for name in ("stage.1.tail.onnx", "stage.2.tail.onnx", "whole.onnx"):
        model = onnx.load(directory / name)
        for tensor in model.graph.initializer:
            if tensor.name == "bias":
                tensor.raw_data = np.arange(5, dtype="<f4").tobytes()
        record = put(directory, record, name, model.SerializeToString()).record
    return Bundle.open(directory)


@pytest.fixture(scope="module")
def other_name(tmp_path_factory):
    """The same bundle under another name."""
    directory = tmp_path_factory.mktemp("renamed") / "large"
    write_tiny_bundle(directory, name="large")
    return Bundle.open(directory)


@pytest.mark.parametrize("placement", CUTS)
@pytest.mark.parametrize("wire", ["payload", "latent"])
def test_the_right_server(tiny, placement, wire):
    """The bundle's own server passes, for every placement and both wires, and the images are answered by it."""
    with (
        serving(tiny.bundle) as server,
        EdgeClient(tiny.bundle, server.address, placement=placement, wire=wire, fallback=False) as client,
    ):
        client.check_server()
        assert client.classify(tiny.images[0]).source in ("split", "remote")


def refused(bundle, address, words, **options):
    """The client is not even opened, and the reason has these words."""
    with pytest.raises(ServerError) as error:
        EdgeClient(bundle, address, **options)
    for word in words:
        assert word in str(error.value), str(error.value)


@pytest.mark.parametrize("placement", CUTS)
@pytest.mark.parametrize("wire", ["payload", "latent"])
def test_another_bundle_of_the_same_name(tiny, other_weights, placement, wire):
    """A server with other weights is found out, though every shape and every codec is the same."""
    with serving(other_weights) as server:
        words = ("the server cannot be used for tiny.", "this server has another bundle")
        refused(tiny.bundle, server.address, words, placement=placement, wire=wire)
        EdgeClient(other_weights, server.address, placement=placement, wire=wire).close()


@pytest.mark.parametrize("placement", CUTS)
def test_unknown_model(tiny, other_name, placement):
    """A server with another bundle's models names those that it has."""
    with serving(other_name) as server:
        refused(tiny.bundle, server.address, (f"no model 'tiny.{placement}'", "large.stage.1"), placement=placement)


@pytest.mark.parametrize(("given", "status"), [(None, "UNAUTHENTICATED"), ("x" * 16, "UNAUTHENTICATED")])
def test_wrong_token(tiny, given, status):
    """A wrong token, and none, are said."""
    with serving(tiny.bundle, token=TOKEN) as server:
        refused(tiny.bundle, server.address, (status, "give the token"), token=given)
        EdgeClient(tiny.bundle, server.address, token=TOKEN).close()


def test_tls(tiny, certificates):
    """No TLS, another authority and a missing certificate of one's own are said; with everything right it passes."""
    tls = ServerTls.from_files(certificates.server, certificates.server_key, certificates.ca)
    ours = {"cert": certificates.client, "key": certificates.client_key}
    with serving(tiny.bundle, tls=tls) as server:
        words = ("UNAVAILABLE", "do both sides use TLS, or neither?")
        refused(tiny.bundle, server.address, words)
        refused(tiny.bundle, server.address, words, tls=Tls(ca=certificates.ca))
        refused(tiny.bundle, server.address, words, tls=Tls(ca=certificates.other_ca, **ours))
        EdgeClient(tiny.bundle, server.address, tls=Tls(ca=certificates.ca, **ours)).close()
    with serving(tiny.bundle) as server:
        refused(tiny.bundle, server.address, words, tls=Tls(ca=certificates.ca))


def test_nobody_listens(tiny):
    """That nobody listens is said."""
    refused(tiny.bundle, "127.0.0.1:1", ("UNAVAILABLE", "is `isplit serve` running there"))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("PERMISSION_DENIED", "does not let this device in"),
        ("UNIMPLEMENTED", "does not speak the Open Inference Protocol"),
        ("INVALID_ARGUMENT", "start the server with this bundle"),
        ("FAILED_PRECONDITION", "FAILED_PRECONDITION: as scripted"),
    ],
)
def test_refusals(tiny, status, words):
    """Every refusal is a reason."""
    with pytest.raises(ServerError, match=words):
        EdgeClient(tiny.bundle, transport=InProcess(tiny.bundle, [status]), require_server=True)


@pytest.mark.parametrize(
    ("logits", "words"), [(np.zeros((1, 7), np.float32), "7 logits"), (np.full((1, 5), np.nan), "not finite")]
)
def test_answers_that_are_none(tiny, server, logits, words):
    """A server that gives too many logits, or NaN, is not this bundle's."""
    server.logits = lambda placement, request: logits
    with pytest.raises(ServerError, match=words):
        EdgeClient(tiny.bundle, transport=server, require_server=True)
    assert server.closed


def test_what_is_checked(tiny, server):
    """One request per check, for the placement in use, which says which file is meant; images say nothing of it."""
    files = tiny.bundle.record.files
    with EdgeClient(tiny.bundle, transport=server, require_server=True) as client:
        client.check_server("stage.2")
        client.check_server("remote")
        client.check_server("local")
        client.classify(tiny.images[0])
    names = ("stage.1.tail.onnx", "stage.2.tail.onnx", "whole.onnx")
    assert [*(files[name].sha256 for name in names), None] == [request.model_sha256 for request in server.asked]
    assert ["tiny.stage.1", "tiny.stage.2", "tiny.remote", "tiny.stage.1"] == [it.model for it in server.asked]
    assert [5.0] * 4 == server.timeouts_s  # an attempt's own limit is shorter than the check's


def test_how_long_a_check_may_take(tiny, server):
    """A check ends after ten seconds, however patient the attempts are."""
    EdgeClient(tiny.bundle, transport=server, require_server=True, attempt_timeout_ms=60_000).close()
    assert 9 < server.timeouts_s[0] <= 10


def test_a_busy_server_is_asked_again(tiny):
    """A server that is just busy is asked again, and passes."""
    transport = InProcess(tiny.bundle, ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
    EdgeClient(tiny.bundle, transport=transport, require_server=True, retry=Retry(first_ms=0, max_ms=0)).close()
    assert 3 == len(transport.asked)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, 0),  # a transport of one's own is not checked unless that is wished
        ({"require_server": False}, 0),
        ({"require_server": True}, 1),
        ({"require_server": True, "placement": "local"}, 0),
    ],
)
def test_when_it_is_checked(tiny, server, options, asked):
    """The check takes place where it is wished, and where there is something to ask."""
    EdgeClient(tiny.bundle, transport=server, **options).close()
    assert asked == len(server.asked)


def test_required_and_not_given(tiny):
    """A server that is required has to be given."""
    with pytest.raises(InputError, match="no server is given"):
        EdgeClient(tiny.bundle, require_server=True)


def test_the_error_is_public():
    """Who embeds the client can tell this error from others."""
    assert isplit.ServerError is ServerError
    assert issubclass(ServerError, InputError)


@pytest.mark.parametrize(("provider", "reported"), [("qnn", "cpu"), ("auto", None), ("cpu", None)])
def test_a_server_without_its_provider(tiny, without_provider, provider, reported, caplog):
    """A server whose provider is not there answers from the CPU, logs it, and says so in every answer."""
    with (
        caplog.at_level("INFO"),
        serving(tiny.bundle, provider=provider) as server,
        EdgeClient(tiny.bundle, server.address, fallback=False) as client,
    ):
        answers = list(client.run(tiny.images[:3]))
    assert [("split", reported)] * 3 == [(answer.source, answer.server_provider) for answer in answers]
    events = [record for record in caplog.records if record.getMessage() == "the CPU runs a model"]
    assert (3 if reported else 0) == len(events)
    assert all(record.levelname == "WARNING" for record in events)


# --- isplit run ---


@pytest.mark.parametrize("extra", [(), ("--require-server",)])
def test_a_wrong_set_up_stops_the_command(isplit, tiny, folder, other_weights, extra):
    """Without a word more, and with --quiet, a wrong server ends the run at the start, exit code 2, no answer given."""
    out = folder.parent / "answers.jsonl"
    with serving(other_weights) as server:
        result = isplit("run", tiny.directory, folder, "--server", server.address, "--output", out, "--quiet", *extra)
    assert (2, "") == (result.code, result.out)
    assert "another bundle" in result.err
    assert "--no-require-server starts without it" in result.err
    assert 1 == len(result.err.splitlines())
    assert not out.exists()


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_a_device_that_must_start_alone(isplit, tiny, folder, quiet):
    """With --no-require-server every image is answered here; the last line says so and why, --quiet or not."""
    result = isplit("run", tiny.directory, folder, "--server", "127.0.0.1:1", "--no-require-server", *quiet)
    assert 0 == result.code
    *_, reason, last = result.err.splitlines()
    assert "3 answers: 3 local-fallback" in last
    assert reason.startswith("the last reason: ")
    assert "UNAVAILABLE" in result.err


def test_quiet_when_all_is_well(isplit, tiny, folder):
    """--quiet says nothing where every answer came from where it should."""
    with serving(tiny.bundle) as server:
        result = isplit("run", tiny.directory, folder, "--server", server.address, "--quiet")
    assert (0, "", "") == (result.code, result.out, result.err)


def test_a_server_that_goes_away(isplit, tiny, folder, listening):
    """After a good start, answers that came from the fallback are counted in the last line, with --quiet too."""
    count = itertools.count()

    def answer(request, context):
        if next(count) >= 2:
            context.abort(grpc.StatusCode.NOT_FOUND, "unloaded")
        return serve_bundle(tiny.bundle)(request, context)

    _, address = listening(answer)
    result = isplit("run", tiny.directory, folder, "--server", address, "--quiet", "--depth", "1")
    assert 0 == result.code
    assert ["the last reason: NOT_FOUND: unloaded", "3 answers: 2 local-fallback, 1 split"] == [
        line.partition(";")[0] for line in result.err.splitlines()
    ]


def test_required_without_a_server(isplit, tiny, folder):
    """--require-server needs --server."""
    result = isplit("run", tiny.directory, folder, "--require-server")
    assert 2 == result.code
    assert "no server is given" in result.err


# --- servers that hang ---

_SETTINGS = bytes.fromhex("000000040000000000")
_ACK = bytes.fromhex("000000040100000000")
# HEADERS of stream 1: ":status: 200" and "content-type: application/grpc", uncompressed.
_BLOCK = b"\x88\x40\x0ccontent-type\x10application/grpc"
_HEADERS = len(_BLOCK).to_bytes(3, "big") + b"\x01\x04" + (1).to_bytes(4, "big") + _BLOCK
# DATA of stream 1: a message of 100 bytes is announced, and 10 of them come.
_DATA = (15).to_bytes(3, "big") + b"\x00\x00" + (1).to_bytes(4, "big") + b"\0\0\0\0\x64" + b"0123456789"

PHASES = {
    "connects": None,
    "accepts": b"",
    "half a preface": _SETTINGS[:4],
    "settings": _SETTINGS,
    "acknowledges": _SETTINGS + _ACK,
    "headers": _SETTINGS + _ACK + _HEADERS,
    "half a message": _SETTINGS + _ACK + _HEADERS + _DATA,
    "speaks HTTP/1": b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n",
    "speaks nonsense": b"\0" * 4096,
    "closes": "close",
}


@contextlib.contextmanager
def hanging(phase):
    """Listen, send what the phase sends to whoever comes, and then nothing more; yield the address."""
    sends = PHASES[phase]
    over = threading.Event()
    held = []
    with socket.create_server(("127.0.0.1", 0)) as front:
        front.settimeout(0.05)

        def accept():
            while not over.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = front.accept()
                    held.append(connection)
                    if sends == "close":
                        connection.close()
                    elif sends:
                        connection.recv(65536)  # gRPC speaks first
                        connection.sendall(sends)

        helper = threading.Thread(target=accept)
        if sends is not None:
            helper.start()
        try:
            yield f"127.0.0.1:{front.getsockname()[1]}"
        finally:
            over.set()
            if sends is not None:
                helper.join()
            for connection in held:
                connection.close()


@pytest.mark.parametrize("phase", PHASES)
def test_hangs(tiny, monkeypatch, phase):
    """A server that stops at any phase of a call does not pass, and does not hold a device that starts without it."""
    monkeypatch.setattr(server_side, "CHECK_MS", 300.0)
    with hanging(phase) as address:
        refused(tiny.bundle, address, ("the server cannot be used for tiny.stage.1: ",))
        options = {"retry": Retry(attempts=2, first_ms=0, max_ms=0), "breaker": BreakerSettings(failures=1000)}
        with EdgeClient(tiny.bundle, address, require_server=False, deadline_ms=100, **options) as client:
            client.warm_up()
            answers = list(client.run(tiny.images[:3]))
        assert ["local-fallback"] * 3 == [answer.source for answer in answers]
        assert [tuple(row) for row in tiny.logits[:3].tolist()] == [answer.logits for answer in answers]
