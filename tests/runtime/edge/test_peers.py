"""The edge client with a server that is not ours: KServe's Python model server, with plain uint8 tails."""

import os
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.policy import BreakerSettings, Retry

ROOT = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("ISPLIT_PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def kserve(tiny, tmp_path_factory):
    """The address of KServe's server with the tiny bundle's tails."""
    if not PYTHON.exists():
        pytest.skip("the peers are not installed: `make peers` installs KServe in an environment of its own")
    grpc_port, http_port = free_port(), free_port()
    log = tmp_path_factory.mktemp("kserve") / "log.txt"
    with log.open("w") as file:
        command = [PYTHON, ROOT / "tests" / "peers" / "kserve_server.py", tiny.directory, grpc_port, http_port]
        process = subprocess.Popen(list(map(str, command)), stdout=file, stderr=file)
    try:
        yield f"127.0.0.1:{grpc_port}"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("cut", ["stage.1", "stage.2"])
def test_kserve(tiny, kserve, cut):
    """A foreign server answers as ours does, bit for bit; it reports no times, so that the wire has them all."""
    # It takes seconds to start, and until then is asked again.
    patient = {"retry": Retry(attempts=100_000, first_ms=50, max_ms=100), "breaker": BreakerSettings(failures=100_000)}
    patient["require_server"] = False
    with EdgeClient(tiny.bundle, kserve, wire="latent", fallback=False, deadline_ms=120_000, **patient) as client:
        answers = list(client.run(tiny.images, placement=cut))
    assert {"split"} == {answer.source for answer in answers}, answers[0].reason
    np.testing.assert_array_equal(tiny.logits, np.array([answer.logits for answer in answers], np.float32))
    assert {(None, None)} == {(answer.timings.server_ms, answer.server_batch) for answer in answers}


def test_kserve_does_not_know_the_model(tiny, kserve):
    """Its refusal is an answer like any other."""
    with EdgeClient(tiny.bundle, kserve, wire="latent", retry=Retry(attempts=1)) as client:
        answer = client.classify(tiny.images[0], placement="remote")
    assert ("local-fallback", tuple(tiny.logits[0].tolist())) == (answer.source, answer.logits)
