"""Signals: the first one drains, a second one does not wait."""

import asyncio
import os
import signal
import threading

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from isplit.errors import InputError
from isplit.runtime.server import ServerSettings, serve


class StuckEngine:
    """Computes nothing until the server stops."""

    concurrency = 1

    def __init__(self, entered):
        self.entered = entered

    async def run(self, batch):
        self.entered.set()
        await asyncio.Event().wait()


@pytest.fixture
def stuck():
    """An engine factory, and an event that says when the engine has been given something."""
    entered = threading.Event()
    return (lambda path, *, input_shape, outputs: StuckEngine(entered)), entered


def send():
    os.kill(os.getpid(), signal.SIGTERM)


def test_nothing_to_finish(tiny):
    """With nothing under way the first signal ends it, and everything that was taken has its answer."""
    assert asyncio.run(serve(tiny.bundle, ServerSettings(port=0), started=lambda server: send()))


def test_second_signal(tiny, stuck, wire):
    """A second signal gives up on what is under way; its caller is refused, and the result says so."""
    make_engine, entered = stuck
    refused = []

    def ask(address):
        with grpc.insecure_channel(address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            raw = tiny.latents["stage.1"][:1].tobytes()
            future = stub.ModelInfer.future(wire.infer_request("tiny.stage.1", "latent", "UINT8", [1, 4, 4, 4], raw))
            assert entered.wait(wire.limit_s)
            send()
            wire.until(lambda: not stub.ServerReady(wire.ready_request()).ready)
            send()
            refused.append(future.code())

    threads = []

    def started(server):
        threads.append(threading.Thread(target=ask, args=(server.address,)))
        threads[0].start()

    settings = ServerSettings(port=0, drain_seconds=wire.limit_s)
    assert not asyncio.run(serve(tiny.bundle, settings, make_engine=make_engine, started=started))
    threads[0].join()
    assert grpc.StatusCode.UNAVAILABLE == refused[0]


def test_handlers_are_restored(tiny):
    """Afterwards signals mean what they meant before."""
    before = signal.getsignal(signal.SIGTERM)
    asyncio.run(serve(tiny.bundle, ServerSettings(port=0), started=lambda server: send()))
    assert before == signal.getsignal(signal.SIGTERM)


def test_reload(tiny, caplog):
    """On SIGHUP the server goes on with what `reload` returns; what it refuses is logged and changes nothing."""
    answers = [InputError("no such file"), (None, "a-token-of-16-chars"), (None, "another-of-16-chars")]

    def reload():
        answer = answers.pop(0)
        # Signals that come faster than they are heard would be one: each is sent once the one before is heard.
        os.kill(os.getpid(), signal.SIGHUP if answers else signal.SIGTERM)
        if isinstance(answer, InputError):
            raise answer
        return answer

    def started(server):
        os.kill(os.getpid(), signal.SIGHUP)

    caplog.set_level("INFO", logger="isplit.server")
    settings = ServerSettings(port=0, token="first-of-16-characters")
    assert asyncio.run(serve(tiny.bundle, settings, started=started, reload=reload))
    events = [record.getMessage() for record in caplog.records]
    assert ["nothing was reloaded", "reloaded", "reloaded"] == [event for event in events if "reloaded" in event]
