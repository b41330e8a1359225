"""Addresses, and what may be shown to whom."""

import pytest

from isplit.errors import InputError
from isplit.runtime.edge.security import Tls, check_address, check_token, is_loopback

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("server", ["pi:8001", "192.168.1.20:1", "[fd00::20]:65535", "a.b-c.example:8001", "unix:/x"])
def test_address(server):
    """Names and addresses with a port are addresses."""
    check_address(server)


@pytest.mark.parametrize(
    "server",
    [
        "",
        "pi",
        "pi:",
        ":8001",
        "pi:0",
        "pi:65536",
        "pi:x",
        "http://pi:8001",
        "fd00::20:8001",
        "pi :1",
        "unix:",
        "[fd00::20:8001",
        "fd00::20]:8001",
    ],
)
def test_no_address(server):
    """Anything else is refused, with an example."""
    with pytest.raises(InputError, match="HOST:PORT"):
        check_address(server)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("127.8.8.8:1", True),
        ("[::1]:1", True),
        ("unix:/run/isplit", True),
        ("192.168.1.20:1", False),
        ("0.0.0.0:1", False),
        ("[fd00::1]:1", False),
        ("localhost.example.com:1", False),
    ],
)
def test_loopback(server, expected):
    """Only what cannot leave this machine is loopback; a name might point anywhere."""
    assert expected == is_loopback(server)


def test_token_over_a_network():
    """A token crosses a network only under TLS, or when somebody says that this is meant."""
    with pytest.raises(InputError, match="plain text"):
        check_token("pi:8001", TOKEN, tls=None, insecure=False)
    check_token("pi:8001", TOKEN, tls=Tls(), insecure=False)
    check_token("pi:8001", TOKEN, tls=None, insecure=True)
    check_token("127.0.0.1:8001", TOKEN, tls=None, insecure=False)
    check_token("pi:8001", None, tls=None, insecure=False)


@pytest.mark.parametrize("token", ["", " x", "x\ny", "tökën"])
def test_token_that_no_header_holds(token):
    """A token is printable ASCII."""
    with pytest.raises(InputError, match="ASCII"):
        check_token("127.0.0.1:1", token, tls=None, insecure=False)


def test_certificate_without_key(tmp_path):
    """A certificate and its key belong together."""
    with pytest.raises(InputError, match="both"):
        Tls(cert=tmp_path / "cert.pem")
