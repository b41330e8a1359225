"""The edge client against `isplit serve`, in a process of its own: answers, kills and restarts, tokens and TLS."""

import re
import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.policy import BreakerSettings, Retry
from isplit.runtime.edge.security import Tls
from tests.runtime.edge.foreign_servers import TOKEN

# A loaded machine may take its time to start a server; none of this waits for time to pass.
PATIENT = {"retry": Retry(attempts=10_000, first_ms=10, max_ms=50), "breaker": BreakerSettings(failures=10_000)}


@dataclass
class Serving:
    """`isplit serve` in a process."""

    process: subprocess.Popen
    address: str

    @property
    def port(self):
        return self.address.rpartition(":")[2]


@pytest.fixture
def serving(tiny):
    """`serving(*options)` starts `isplit serve` on the tiny bundle and waits until it listens."""
    processes = []

    def start(*options, port=0):
        command = [sys.executable, "-c", "from isplit.cli import main; main()", "serve", str(tiny.directory)]
        process = subprocess.Popen(
            [*command, "--port", str(port), *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        line = process.stdout.readline()
        match = re.match(r"listening on (\S+:\d+)", line)
        assert match, line + process.communicate()[1]
        return Serving(process, match[1])

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def logits(answers):
    return np.array([answer.logits for answer in answers], np.float32)


def test_answers(tiny, serving):
    """Through a real server, the answers of every cut and both wires are the whole model's, bit for bit."""
    server = serving()
    for wire in ("payload", "latent"):
        with EdgeClient(tiny.bundle, server.address, wire=wire, fallback=False, logits=True) as client:
            for cut in ("stage.1", "stage.2"):
                answers = list(client.run(tiny.images, placement=cut, depth=3))
                assert {"split"} == {answer.source for answer in answers}, answers[0].reason
                np.testing.assert_array_equal(tiny.logits, logits(answers))
                times = answers[0].timings
                parts = (times.server_queue_ms, times.server_decode_ms, times.server_infer_ms)
                assert sum(parts) <= times.server_ms
                assert answers[0].server_batch >= 1


def test_remote(tiny, serving):
    """The server answers a compressed image as the whole model does what it decodes to."""
    from isplit.codec.image import compress, decode_image, restore
    from isplit.runtime.session import Session

    server = serving()
    record = tiny.bundle.record
    with EdgeClient(tiny.bundle, server.address, placement="remote", fallback=False, logits=True) as client:
        answers = [client.classify(image) for image in tiny.images[:4]]
    whole = Session(tiny.bundle.local_path)
    for image, answer in zip(tiny.images, answers, strict=False):
        sent = tiny.directory.parent / "sent.webp"
        sent.write_bytes(compress(image, record.remote.recommended))
        pixels = restore(decode_image(sent, name="sent"), record.preprocessing)
        assert tuple(whole.run(pixels[None])[0].tolist()) == answer.logits
        assert sent.stat().st_size == answer.payload_bytes


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_restarted(tiny, serving, ending):
    """A server that is killed, or drained, and started again is used again; no image is lost or answered twice."""
    server = serving()
    images = iter(tiny.images)

    def source():
        for number, image in enumerate(images):
            if number == 8:
                server.process.send_signal(ending)
                server.process.wait(timeout=240)
            if number == 9:  # there is room: 8 images before the kill, one after it
                serving(port=server.port)
            yield image

    with EdgeClient(tiny.bundle, server.address, fallback=False, logits=True, **PATIENT) as client:
        answers = list(client.run(source(), depth=16))
    assert list(range(24)) == [answer.index for answer in answers]
    assert {"split"} == {answer.source for answer in answers}, [answer.reason for answer in answers]
    np.testing.assert_array_equal(tiny.logits, logits(answers))
    assert max(answer.attempts for answer in answers) > 1


def test_falls_back_and_returns(tiny, serving):
    """While the server is gone the device answers itself, and when it is back it is used without being told."""
    server = serving()
    quick = {"retry": Retry(attempts=1), "breaker": BreakerSettings(failures=1, open_ms=1, max_open_ms=1)}
    with EdgeClient(tiny.bundle, server.address, logits=True, **quick) as client:
        first = client.classify(tiny.images[0])
        server.process.kill()
        server.process.wait(timeout=240)
        second = client.classify(tiny.images[0])
        serving(port=server.port)
        until_back = (client.classify(tiny.images[0]) for _ in range(100_000))
        last = next(answer for answer in until_back if answer.source == "split")
    assert ["split", "local-fallback"] == [first.source, second.source]
    assert first.logits == second.logits == last.logits


def test_token_and_tls(tiny, serving, certificates, tmp_path):
    """With TLS, a token and certificates on both sides there are answers; without the token there are none."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    server = serving(
        *("--tls-cert", certificates.server, "--tls-key", certificates.server_key),
        *("--tls-client-ca", certificates.ca, "--token-file", token),
    )
    tls = Tls(ca=certificates.ca, cert=certificates.client, key=certificates.client_key)
    with EdgeClient(tiny.bundle, server.address, tls=tls, token=TOKEN, fallback=False) as client:
        assert "split" == client.classify(tiny.images[0]).source
    options = {"tls": tls, "token": "x" * 16, "fallback": False, "require_server": False}
    with EdgeClient(tiny.bundle, server.address, **options) as client:
        assert "UNAUTHENTICATED" in client.classify(tiny.images[0]).reason
