"""Servers for the edge client: one without a socket that fails on command, and a small real one."""

import io
import json
import shutil
import subprocess
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc

from isplit.codec.image import decode_image, restore
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.grpc_transport import GrpcTransport
from isplit.runtime.edge.policy import BreakerSettings, Retry
from isplit.runtime.edge.transport import Reply, TransportError
from isplit.runtime.server import serving
from isplit.runtime.session import Session
from tests.runtime.edge.lean_servers import Scripted


class InProcess:
    """A transport that is its own server: it runs the bundle's tails, unless the next entry of `script` is a status.

    `asked` keeps the requests, `timeouts_s` how long each was to wait.
    """

    def __init__(self, bundle, script=()):
        self.bundle = bundle
        self.script = deque(script)
        self.asked = []
        self.timeouts_s = []
        self.closed = False
        self.lock = threading.Lock()
        self.tails = {cut.name: Session(bundle.tail_path(cut.name)) for cut in bundle.record.cuts}
        self.whole = Session(bundle.remote_path)

    def infer(self, request, *, timeout_s):
        with self.lock:
            self.asked.append(request)
            self.timeouts_s.append(timeout_s)
            status = self.script.popleft() if self.script else "OK"
        if status != "OK":
            raise TransportError(status, "as scripted")
        name, _, placement = request.model.partition(".")
        assert name == self.bundle.name
        return Reply(
            id=request.id,
            logits=self.logits(placement, request)[0],
            queue_ms=0.25,
            decode_ms=0.5,
            infer_ms=1.0,
            server_ms=2.0,
            batch_size=1,
        )

    def logits(self, placement, request):
        if request.tensor == "image":
            picture = decode_image(io.BytesIO(request.content), name="image")
            return self.whole.run(restore(picture, self.bundle.record.preprocessing)[None])
        if request.tensor == "latent":
            latent = np.frombuffer(request.content, np.uint8).reshape(request.shape)
        else:
            latent = self.bundle.codec(placement).decode_symbols(request.content)[None]
        return self.tails[placement].run(latent)

    def close(self):
        self.closed = True


@pytest.fixture
def server(tiny):
    """A server without a socket, which answers."""
    return InProcess(tiny.bundle)


@pytest.fixture
def client(tiny, server):
    """A client of `server` that never waits, and whose breaker hardly ever opens."""
    with EdgeClient(tiny.bundle, transport=server, **PATIENT) as client:
        yield client


@pytest.fixture
def without_provider(monkeypatch):
    """Make every onnxruntime one that has the CPU alone; return what is said to somebody who asks it for "qnn"."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    return "qnn: the installed onnxruntime was built without it"


PATIENT = {
    "retry": Retry(attempts=3, first_ms=0, max_ms=0),
    "breaker": BreakerSettings(failures=1000),
}


@pytest.fixture(scope="session")
def without_local(tiny, tmp_path_factory):
    """The bundle for a device that does not hold the whole model."""
    from isplit.runtime.bundle import Bundle

    record = tiny.bundle.record.model_copy(update={"local": None})
    return Bundle(directory=tiny.directory, record=record)


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers ModelInfer with what `answer(request, context)` returns."""

    def __init__(self, answer):
        self.answer = answer

    def ModelInfer(self, request, context):
        return self.answer(request, context)


def response(request, logits, *, name="logits", raw=True, **parameters):
    """Return a ModelInferResponse of float32 logits; float parameters become doubles, integers int64."""
    message = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
    values = np.asarray(logits, "<f4")
    output = message.outputs.add(name=name, datatype="FP32", shape=[1, values.size])
    if raw:
        message.raw_output_contents.append(values.tobytes())
    else:
        output.contents.fp32_contents.extend(values.tolist())
    for key, value in parameters.items():
        if isinstance(value, float):
            message.parameters[key].double_param = value
        else:
            message.parameters[key].int64_param = value
    return message


def listen(answer, *, port=0, credentials=None):
    """Start a server; return it and its port."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(answer), server)
    address = f"127.0.0.1:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    return server, bound


@pytest.fixture
def listening():
    """`listening(answer, ...)` starts a server and returns (server, "127.0.0.1:PORT"); all are stopped in the end."""
    started = []

    def start(answer, **options):
        server, port = listen(answer, **options)
        started.append(server)
        return server, f"127.0.0.1:{port}"

    yield start
    for server in started:
        server.stop(None).wait()


def nan_for_black(tiny):
    """Return a whole model (ONNX) whose five logits are NaN for a black image, and 0 for any other."""
    from onnx import TensorProto, helper, numpy_helper

    ones = numpy_helper.from_array(np.ones((192, 5), np.float32), "ones")
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("MatMul", ["flat", "ones"], ["sums"]),
        helper.make_node("Log", ["sums"], ["logs"]),
        helper.make_node("Sub", ["logs", "logs"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "nan",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 8, 8, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [ones],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def put(directory, record, name, content):
    """Replace a file of a bundle, and say so in its manifest; return the bundle."""
    from isplit.records import BundledFile
    from isplit.runtime.bundle import Bundle

    (directory / name).write_bytes(content)
    changed = record.model_copy(update={"files": record.files | {name: BundledFile.of(directory / name)}})
    changed.save(directory)
    return Bundle.open(directory)


def png(pixels):
    """Return pixels as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_pictures(directory, images):
    """Write images as the PNG files 0.png, 1.png and so on into a new directory, and return it."""
    directory.mkdir()
    for number, image in enumerate(images):
        (directory / f"{number}.png").write_bytes(png(image))
    return directory


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, a server (127.0.0.1) and a client that it vouches for, and another authority."""

    ca: Path
    other_ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Certificates made for these tests by openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed, which makes the certificates")
    directory = tmp_path_factory.mktemp("certificates")

    def make(name, *options):
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", *options),
            ],
            cwd=directory,
            check=True,
            capture_output=True,
        )

    for authority in ("ca", "other"):
        make(authority)
    for name in ("server", "client"):
        make(name, "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
    return Certificates(
        ca=directory / "ca.pem",
        other_ca=directory / "other.pem",
        server=directory / "server.pem",
        server_key=directory / "server.key",
        client=directory / "client.pem",
        client_key=directory / "client.key",
    )


@pytest.fixture
def connect():
    """Open a transport that is closed in the end."""
    opened = []

    def open_transport(address, **options):
        opened.append(GrpcTransport(address, **options))
        return opened[-1]

    yield open_transport
    for transport in opened:
        transport.close()


@pytest.fixture(scope="module")
def served(tiny):
    """A server of this module's own."""
    with serving(tiny.bundle) as server:
        yield server


@pytest.fixture
def scripted():
    """Start servers that answer the first bytes with a script."""
    servers = []

    def start(script, **options):
        servers.append(Scripted(script, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def folder(tiny, tmp_path):
    """Five images as PNG files."""
    return write_pictures(tmp_path / "images", tiny.images[:5])


def lines(text):
    """Return the records that `isplit run --json` printed, one a line."""
    return [json.loads(line) for line in text.splitlines()]
