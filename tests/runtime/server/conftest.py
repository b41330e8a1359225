"""A running server, requests in the protocol's own words, and an engine that waits to be told."""

import asyncio
import datetime
import io
import ipaddress
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc

from isplit.runtime.server import Server, serving
from tests.runtime.server.lean_peer import LeanPeer

LIMIT_S = 60
# Of one latent at stage.1 of the tiny bundle.
SHAPE = [1, 4, 4, 4]


def infer_request(model, tensor, datatype, shape, *raw, **fields):
    """A ModelInferRequest with one input and raw content."""
    request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=raw, **fields)
    request.inputs.add(name=tensor, datatype=datatype, shape=shape)
    return request


def prefixed(*elements):
    """The raw content of a BYTES tensor."""
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def encoded(pixels, form="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


@dataclass
class Running:
    """A server with a channel to it."""

    server: Server
    channel: Any
    stub: Any

    def metrics(self):
        url = f"http://127.0.0.1:{self.server.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=LIMIT_S) as reply:
            return reply.read().decode()

    def metric(self, line):
        """The value of one line of the metrics; None when it is not there."""
        values = [text.rpartition(" ")[2] for text in self.metrics().splitlines() if text.startswith(f"{line} ")]
        return float(values[0]) if values else None

    def drain(self):
        """Start draining; returns a future."""
        return asyncio.run_coroutine_threadsafe(self.server.drain(), self.server.loop)

    def stop(self):
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.server.loop).result(LIMIT_S)

    def status(self, request, timeout=LIMIT_S):
        """The status and details with which a request is refused; it must be."""
        with pytest.raises(grpc.RpcError) as caught:
            self.stub.ModelInfer(request, timeout=timeout)
        return caught.value.code().name, caught.value.details()


@contextmanager
def serving_with_metrics(bundle, **settings):
    """Serve a bundle, with a channel to it, while the block runs."""
    with (
        serving(bundle, metrics_port=0, **settings) as server,
        grpc.insecure_channel(server.address, (("grpc.use_local_subchannel_pool", 1),)) as channel,
    ):
        yield Running(server, channel, service_pb2_grpc.GRPCInferenceServiceStub(channel))


@pytest.fixture(scope="session")
def running(tiny):
    """The tiny bundle, served with default limits."""
    with serving_with_metrics(tiny.bundle) as served:
        yield served


class GatedEngine:
    """Notes what it is given, and computes (zeros) when it is allowed to."""

    concurrency = 1

    def __init__(self, outputs):
        self.outputs = outputs
        self.batches = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    async def run(self, batch):
        self.batches.append(batch.copy())
        self.entered.release()
        while not self.gate.acquire(blocking=False):
            await asyncio.sleep(0.001)
        return np.zeros((len(batch), self.outputs), np.float32)

    def wait_entered(self):
        assert self.entered.acquire(timeout=LIMIT_S), "the engine was given nothing"


@pytest.fixture
def gated(tiny):
    """Serve with gated engines: a function that takes settings; yields (running, engine of stage.1)."""
    stack = []

    def start(**settings):
        engines = {}

        def make_engine(path, *, input_shape, outputs):
            return engines.setdefault(path.name, GatedEngine(outputs))

        context = serving(tiny.bundle, make_engine=make_engine, metrics_port=0, **settings)
        server = context.__enter__()
        channel = grpc.insecure_channel(server.address)
        stack.append((channel, context))
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return Running(server, channel, stub), engines["stage.1.tail.onnx"]

    yield start
    for channel, context in stack:
        channel.close()
        context.__exit__(None, None, None)


def until(condition):
    """Wait until something is so; it must become so."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


@dataclass
class Authority:
    """A certificate authority of the test's own."""

    directory: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, directory, name):
        directory.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        authority = cls(directory, key, sign(name, key.public_key(), name, key, ca=True))
        (directory / "ca.pem").write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
        return authority

    @property
    def ca(self):
        return self.directory / "ca.pem"

    def issue(self, name):
        """Write a certificate and its key; return their paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        certificate = sign(name, key.public_key(), issuer, self.key, ca=False)
        paths = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


def sign(name, public_key, issuer, key, *, ca):
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


@pytest.fixture(scope="session")
def make_authority():
    """A function that makes a certificate authority in a directory that is not there yet."""
    return Authority.make


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority.make(tmp_path_factory.mktemp("pki") / "ours", "ours")


@pytest.fixture(scope="session")
def server_pair(authority):
    return authority.issue("server")


@pytest.fixture
def wire():
    """The helpers above, for test modules (which cannot import each other)."""

    class Wire:
        infer_request = staticmethod(infer_request)
        prefixed = staticmethod(prefixed)
        encoded = staticmethod(encoded)
        until = staticmethod(until)
        limit_s = LIMIT_S
        ready_request = service_pb2.ServerReadyRequest

    return Wire


@pytest.fixture(scope="module")
def served(tiny):
    """A server of the module's own: what other tests attack owes processor time to its attackers' address."""
    with serving(tiny.bundle, metrics_port=0) as server:
        yield server


@pytest.fixture
def open_peer():
    """Open raw connections of the lean wire; they are closed in the end."""
    peers = []

    def connect(address, **options):
        peers.append(LeanPeer(address, **options))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.close()
