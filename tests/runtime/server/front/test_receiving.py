"""The memory of messages: what is taken is given back, and nobody takes more than a share."""

from types import SimpleNamespace

from isplit.runtime.server.front.limits import FrontLimits, Share
from isplit.runtime.server.front.receiving import Receiving, _Pool


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


class Peer:
    """A connection that notes what it lets in."""

    stalls, answered = 0, 1
    front = SimpleNamespace(now=lambda: 7.0)

    def __init__(self):
        self.opened = []

    def open_window(self, call, missing):
        self.opened.append(missing)


class LongCall:
    """A call with a message of 4 MiB, of which nothing has come."""

    length, filled, opened_at, heard_at, granted_at = 2**22, 0, 0.0, 0.0, None
    method = SimpleNamespace(public=False)

    def __init__(self):
        self.connection, self.charges = Peer(), {}

    def grant(self, now):
        self.granted_at = now


def test_a_call_that_ended_while_it_waited():
    """It gets no room when its turn would come; the next one that waits does, and in the end nothing is taken."""
    receiving = Receiving(FrontLimits(message_bytes=2**22))
    first, second, third = (LongCall() for _ in range(3))
    for number, call in enumerate((first, second, third)):
        receiving.admit(call)
        receiving.reserve(call, now=float(number))
    assert [0.0, None, None] == [call.granted_at for call in (first, second, third)]

    receiving.forget(second)
    receiving.forget(first)

    assert [0.0, None, 7.0] == [call.granted_at for call in (first, second, third)]
    assert ([], [2**22]) == (second.connection.opened, third.connection.opened)
    assert (1, 2**22) == (receiving.calls, receiving.bytes)
    receiving.forget(third)
    assert (0, 0) == (receiving.calls, receiving.bytes)
