"""Device and server on machines of their own, as far as their network can tell: two namespaces and a cable."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.runtime.edge.conftest import png

MAIN = "from isplit.cli import main; main()"
SERVER, DEVICE = "10.77.31.1", "10.77.31.2"

# Classifies the image once for every line that it is sent.
AGENT = """
import sys
from isplit import EdgeClient
from isplit.runtime.edge.policy import BreakerSettings, Retry

bundle, image, server = sys.argv[1:]
breaker = BreakerSettings(failures=1, open_ms=1, max_open_ms=1)
with EdgeClient(bundle, server, deadline_ms=1000, retry=Retry(attempts=1), breaker=breaker, logits=True) as client:
    client.warm_up()
    for line in sys.stdin:
        print(client.classify(image).to_line(logits=True), end="", flush=True)
"""


class Cable:
    """Two namespaces, joined by a cable that can be unplugged on the server's side."""

    def __init__(self):
        self.server, self.device = (f"isplit-{os.getpid()}-{end}" for end in ("server", "device"))

    def plug(self):
        for name in (self.server, self.device):
            self._ip("netns", "add", name)
        self._ip("link", "add", "end0", "netns", self.server, "type", "veth", "peer", "end0", "netns", self.device)
        for name, address in ((self.server, SERVER), (self.device, DEVICE)):
            self._ip("-n", name, "address", "add", f"{address}/24", "dev", "end0")
            self._ip("-n", name, "link", "set", "end0", "up")

    def unplug(self):
        self._ip("-n", self.server, "link", "set", "end0", "down")

    def plug_again(self):
        self._ip("-n", self.server, "link", "set", "end0", "up")

    def remove(self):
        for name in (self.server, self.device):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def start(self, namespace, code, *arguments, **streams):
        command = ["ip", "netns", "exec", namespace, sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **streams)

    def _ip(self, *arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def cable():
    """A cable between two namespaces, where this process may make them."""
    if shutil.which("ip") is None:
        pytest.skip("iproute2 is not installed, which makes network namespaces")
    cable = Cable()
    try:
        cable.plug()
    except subprocess.CalledProcessError as error:
        cable.remove()
        pytest.skip(f"network namespaces may not be made here: {error.stderr.strip()}")
    yield cable
    cable.remove()


@pytest.fixture(scope="module")
def address(cable, tiny):
    """Where `isplit serve` listens, at the far end of the cable."""
    process = cable.start(cable.server, MAIN, "serve", tiny.directory, "--host", SERVER, "--port", 0, "--insecure")
    try:
        line = process.stdout.readline()
        match = re.match(r"listening on (\S+:\d+)", line)
        assert match, line
        yield match[1]
    finally:
        process.kill()
        process.communicate()


def test_across_the_network(cable, tiny, address, tmp_path):
    """`isplit run` on one machine, `isplit serve` on another: the answers are the whole model's, bit for bit."""
    for number, image in enumerate(tiny.images):
        (tmp_path / f"{number:02}.png").write_bytes(png(image))
    command = ("run", tiny.directory, tmp_path, "--server", address, "--no-fallback", "--json", "--logits", "--quiet")
    process = cable.start(cable.device, MAIN, *command)
    out, _ = process.communicate(timeout=240)
    assert 0 == process.returncode
    answers = [json.loads(line) for line in out.splitlines()]
    assert ["split"] * 24 == [answer["source"] for answer in answers]
    assert tiny.logits.tolist() == [answer["logits"] for answer in answers]


def test_unplugged(cable, tiny, address, tmp_path):
    """With the cable out, the device answers itself, in time or marked; with the cable in, the server is used again."""
    image = tmp_path / "image.png"
    image.write_bytes(png(tiny.images[0]))
    process = cable.start(cable.device, AGENT, tiny.directory, image, address, stdin=subprocess.PIPE)

    def ask():
        process.stdin.write("\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert tiny.logits[0].tolist() == answer["logits"]
        assert answer["late"] == (answer["timings"]["total_ms"] > 1000)
        return answer["source"]

    try:
        assert "split" in (ask() for _ in range(100_000))  # the first answers may be late on a busy machine
        cable.unplug()
        assert ["local-fallback"] * 3 == [ask() for _ in range(3)]
        cable.plug_again()
        assert "split" in (ask() for _ in range(100_000))
    finally:
        process.kill()
        process.communicate()
