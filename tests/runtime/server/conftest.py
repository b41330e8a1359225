"""A running server, requests in the protocol's own words, and an engine that waits to be told."""

import asyncio
import io
import threading
import time
import urllib.request
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import service_pb2, service_pb2_grpc

from isplit.runtime.server import Server, serving

LIMIT_S = 60


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
        found = [text.rpartition(" ")[2] for text in self.metrics().splitlines() if text.startswith(f"{line} ")]
        return float(found[0]) if found else None

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


@pytest.fixture(scope="session")
def running(tiny):
    """The tiny bundle, served with default limits."""
    with serving(tiny.bundle, metrics_port=0) as server, grpc.insecure_channel(server.address) as channel:
        yield Running(server, channel, service_pb2_grpc.GRPCInferenceServiceStub(channel))


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
