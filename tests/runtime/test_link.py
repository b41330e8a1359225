"""A slow link between namespaces, and loopback where none can be made."""

import socket
import subprocess
import sys

import pytest

from isplit.runtime import link as module
from isplit.runtime.link import open_link

SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as connection:
    connection.sendall(b"x" * int(sys.argv[3]))
"""


def namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


def test_the_other_side_reaches_this_one_over_the_link() -> None:
    """Bytes sent inside arrive here; the rate is set in both directions; nothing of the link remains."""
    with open_link(rate_bits_per_s=8_000_000) as link:
        if link.rate_bits_per_s is None:
            pytest.skip(f"no network namespaces here: {link.reason}")
        with socket.create_server((link.host, 0)) as server:
            port = server.getsockname()[1]
            command = [*link.prefix, sys.executable, "-c", SEND, link.host, str(port), "50000"]
            sender = subprocess.Popen(command)
            server.settimeout(30)
            connection, (peer, _) = server.accept()
            received = 0
            with connection:
                connection.settimeout(30)
                while chunk := connection.recv(65536):
                    received += len(chunk)
            assert 0 == sender.wait(30)
        shown = [
            subprocess.run([*prefix, "tc", "qdisc", "show"], capture_output=True, text=True, check=True).stdout
            for prefix in ((), link.prefix)
        ]
        name = link.prefix[3]
        assert name in namespaces()

    assert 50000 == received
    assert peer != link.host
    assert all("tbf" in text and "rate 8Mbit" in text for text in shown)
    assert name not in namespaces()


def test_the_link_goes_with_an_error() -> None:
    """What is raised inside the block comes through, and the namespace is removed."""
    names: list[str] = []

    def fail() -> None:
        with open_link(rate_bits_per_s=1_000_000) as link:
            if link.rate_bits_per_s is None:
                pytest.skip(f"no network namespaces here: {link.reason}")
            names.append(link.prefix[3])
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert names[0] not in namespaces()


def test_loopback_where_it_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the tools, or the right to use them, the link is loopback and says why."""
    monkeypatch.setattr(module, "_run", lambda *command: (_ for _ in ()).throw(FileNotFoundError(2, "no", "ip")))

    with open_link(rate_bits_per_s=1_000_000) as link:
        assert ("127.0.0.1", (), None) == (link.host, link.prefix, link.rate_bits_per_s)
        assert "ip is not installed" == link.reason
