"""How to serve: the usual values, and what is refused."""

import pytest

from isplit.errors import InputError
from isplit.runtime.server.settings import ServerSettings


def test_usual_values():
    """A server for this machine alone, without metrics; times in seconds."""
    settings = ServerSettings()
    assert ("127.0.0.1", 8001, False, None) == (settings.host, settings.port, settings.insecure, settings.metrics_port)
    assert (32, 256, 1) == (settings.max_batch, settings.max_queue, settings.threads)
    assert (10.0, 1024, 10.0) == (settings.drain_seconds, settings.max_connections, settings.receive_seconds)


@pytest.mark.parametrize(
    ("name", "low", "high", "beyond"),
    [
        ("port", 0, 65535, (-1, 65536)),
        ("metrics_port", 0, 65535, (-1, 65536)),
        ("max_batch", 1, 256, (0, 257)),
        ("max_queue", 32, 2**20, (31, 2**20 + 1)),
        ("threads", 1, 256, (0, 257)),
        ("drain_seconds", 0, 3600, (-0.1, 3600.1)),
        ("max_connections", 1, 65536, (0, 65537)),
        ("receive_seconds", 0.1, 3600, (0.09, 3600.1)),
    ],
)
def test_ranges(name, low, high, beyond):
    """The ends of a range are taken, and what lies beyond them is refused by name. A queue holds a batch at least."""
    for value in (low, high):
        assert value == getattr(ServerSettings(**{name: value}), name)
    for value in beyond:
        with pytest.raises(InputError, match=f"{name}|max_queue"):
            ServerSettings(**{name: value})


def test_largest_batch():
    """1024 images are the most, with a queue that holds them."""
    assert 1024 == ServerSettings(max_batch=1024, max_queue=1024).max_batch
    with pytest.raises(InputError, match="max_batch is 1025"):
        ServerSettings(max_batch=1025, max_queue=2000)


def test_short_token():
    """A token that can be guessed is refused; none is fine on the machine itself."""
    with pytest.raises(InputError):
        ServerSettings(token="short")
