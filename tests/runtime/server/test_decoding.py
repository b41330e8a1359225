"""Pictures are decoded apart from payloads, for as long as somebody waits for them, and cost what their headers say."""

import threading

import numpy as np
import pytest

from isplit.runtime.server import models
from tests.runtime.server.conftest import serving_with_metrics


class Gate:
    """Stands for a decoder that takes its time: notes each picture, and goes on when it may."""

    def __init__(self, decode):
        self.decode = decode
        self.begun = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)
        self.count = 0

    def __call__(self, *arguments):
        self.count += 1
        self.begun.release()
        assert self.allowed.acquire(timeout=60)
        return self.decode(*arguments)

    def wait_begun(self):
        assert self.begun.acquire(timeout=60), "no picture was decoded"

    def open(self):
        for _ in range(1000):
            self.allowed.release()


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(models.decode_picture)
    monkeypatch.setattr(models, "decode_picture", gate)
    yield gate
    gate.open()


@pytest.fixture
def pictures(tiny, wire):
    """A request with so many pictures."""

    def request(count, size=None):
        image = np.zeros((*size, 3), np.uint8) if size else tiny.images[0]
        content = wire.prefixed(*[wire.encoded(image)] * count)
        return wire.infer_request("tiny.remote", "image", "BYTES", [count], content)

    return request


def payload(tiny, wire):
    frames = [tiny.bundle.codec("stage.2").encode_symbols(latent) for latent in tiny.latents["stage.2"][:4]]
    return wire.infer_request("tiny.stage.2", "payload", "BYTES", [4], wire.prefixed(*frames))


def test_pictures_do_not_hold_up_payloads(tiny, wire, pictures, gate, running):
    """While every decoder of pictures is busy, payloads are decoded."""
    gate.open()
    first = running.stub.ModelInfer(payload(tiny, wire), timeout=60)
    assert tiny.logits[:4].tobytes() == first.raw_output_contents[0]
    gate.allowed = threading.Semaphore(0)
    futures = [running.stub.ModelInfer.future(pictures(12), timeout=60) for _ in range(16)]
    gate.wait_begun()
    reply = running.stub.ModelInfer(payload(tiny, wire), timeout=30)
    assert tiny.logits[:4].tobytes() == reply.raw_output_contents[0]
    gate.open()
    for future in futures:
        future.result(timeout=60)


def test_deadline_between_pictures(pictures, gate, running, wire):
    """Once the deadline has passed, the pictures of a request that are left are not decoded."""
    future = running.stub.ModelInfer.future(pictures(20), timeout=1.5)  # long enough to arrive
    gate.wait_begun()
    assert "DEADLINE_EXCEEDED" == future.code().name
    # The server's deadline may be later than the caller's.
    wire.until(lambda: 0 == running.metric('isplit_waiting_images{model="tiny.remote"}'))
    gate.open()
    reply = running.stub.ModelInfer(pictures(1), timeout=60)
    assert reply.raw_output_contents
    assert gate.count == 2


def test_cancelled_between_pictures(pictures, gate, running, wire):
    """What nobody waits for any longer is not decoded, begun or not."""
    futures = [running.stub.ModelInfer.future(pictures(20), timeout=60) for _ in range(5)]
    gate.wait_begun()
    wire.until(lambda: 100 == running.metric('isplit_waiting_images{model="tiny.remote"}'))
    for future in futures:
        future.cancel()
    wire.until(lambda: 0 == running.metric('isplit_waiting_images{model="tiny.remote"}'))
    begun = gate.count
    gate.open()
    assert running.stub.ModelInfer(pictures(1), timeout=60).raw_output_contents
    assert begun + 1 == gate.count


def test_cost_is_known_before_decoding(tiny, pictures, gate, wire):
    """A picture of many pixels counts for several in the queue, and is refused before any of it is decoded."""
    with serving_with_metrics(tiny.bundle, max_batch=2, max_queue=16) as running:
        futures = [running.stub.ModelInfer.future(pictures(2, (500, 1000)), timeout=60) for _ in range(4)]
        gate.wait_begun()
        wire.until(lambda: 8 == running.metric('isplit_waiting_images{model="tiny.remote"}'))
        code, details = running.status(pictures(2, (1000, 1000)))
        assert "RESOURCE_EXHAUSTED" == code
        assert "as long as 8 small images, 16 are waiting, and 16 may" in details
        gate.open()
        for future in futures:
            future.result(timeout=60)


@pytest.mark.parametrize("logits", [np.nan, np.inf, "fewer"])
def test_bad_logits(tiny, gated, wire, logits):
    """Logits that are not finite, or not as many as there are classes, are an error of the model, not an answer."""
    running, engine = gated()
    engine.gate.release()

    async def run(batch):
        return np.zeros((len(batch), 4), np.float32) if logits == "fewer" else np.full((len(batch), 5), logits)

    engine.run = run
    request = wire.infer_request("tiny.stage.1", "latent", "UINT8", [1, 4, 4, 4], tiny.latents["stage.1"][0].tobytes())
    code, details = running.status(request)
    assert "INTERNAL" == code
    assert "export the bundle again" in details
    assert 1 == running.metric('isplit_refusals_total{reason="bad_logits"}')
