"""What joining a Ray cluster refuses before Ray itself is asked."""

import socket
import sys

import pytest

from isplit.errors import InputError, MissingExtraError
from isplit.ray_cluster import join_ray_cluster


def test_nothing_listens():
    """An address where nothing listens is refused at once, and the message says what to give."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(InputError, match="ray start --head"):
            join_ray_cluster(address)


def test_without_ray(monkeypatch):
    """Without Ray the message says which extra brings it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"isplit\[ray\]"):
        join_ray_cluster(None)
