"""The memory of messages: what is taken is given back, and nobody takes more than a share."""

from types import SimpleNamespace

from isplit.runtime.server.front.limits import Share
from isplit.runtime.server.front.receiving import _Pool


def test_a_pool_is_as_empty_as_before():
    """Two calls of one connection and one of another; afterwards nothing is used, and no connection is remembered."""
    pool = _Pool(Share(name="short", message_bytes=10, total_bytes=100, connection_bytes=60))
    near, far = object(), object()
    calls = [SimpleNamespace(connection=connection, charges={}) for connection in (near, near, far)]
    pool.take(calls[0], 10)
    pool.take(calls[0], 20)
    pool.take(calls[1], 30)
    assert (60, {"short": 30}) == (pool.used, calls[0].charges)
    assert not pool.has_room(near, 1)  # its 60 are full
    assert pool.has_room(far, 40)
    assert not pool.has_room(far, 41)
    pool.take(calls[2], 40)
    for call in calls:
        pool.give_back(call)
        pool.give_back(call)  # a second time there is nothing to give
    assert (0, {}) == (pool.used, dict(pool.by_connection))
