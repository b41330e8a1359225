"""How long a device waits for a server that it knows, and what it makes of one that is silent."""

import socket
from types import SimpleNamespace

import pytest

from isplit.runtime.edge.connecting import Wanted
from isplit.runtime.edge.lean_connect import CONNECT_S, WELCOME_S, BrokenOffError, NotLeanError, Patience
from isplit.runtime.edge.lean_link import LeanLink
from isplit.runtime.edge.lean_transport import LeanTransport
from isplit.runtime.edge.transport import Reply, Request, TransportError

REQUEST = Request(id="a-1", model="tiny.stage.1", tensor="payload", content=b"abc", shape=(1,))
WANTED = Wanted(classes=5, best=2, logits=False, times=False)
LIMIT_S = 30


def test_an_unknown_server_has_all_the_time():
    """Failures of a server that never welcomed the device change nothing."""
    patience = Patience()
    assert not patience.after_failure(100.0)
    assert (CONNECT_S, WELCOME_S) == (patience.connect_s, patience.welcome_s)


@pytest.mark.parametrize(("took_s", "limit_s"), [(0.01, 1.0), (0.3, 1.2), (2.0, WELCOME_S)])
def test_a_known_server_gets_four_times_as_long_as_before(took_s: float, limit_s: float):
    """After four silent attempts the server is unknown again; a refusal in time changes nothing."""
    patience = Patience()
    patience.after_welcome(took_s)
    seen = []
    while patience.known_s is not None:
        assert not patience.after_failure(patience.known_s / 2)
        assert patience.connect_s == patience.welcome_s
        seen.append(patience.welcome_s)
        assert patience.after_failure(patience.known_s)
    assert pytest.approx([limit_s] * 4) == seen


class Other:
    """Stands for gRPC."""

    def infer(self, request, *, timeout_s):
        """Answer at once."""
        del timeout_s
        return Reply(id=request.id, logits=None)

    def close(self):
        """Close nothing."""


def test_silence_of_a_known_server_does_not_end_the_lean_wire(monkeypatch):
    """After a welcome, silence is a fault of the link for four attempts; only after a fifth gRPC takes over."""
    now_s, allowed_s = 1000.0, []
    monkeypatch.setattr("isplit.runtime.edge.lean_transport.time", SimpleNamespace(monotonic=lambda: now_s))

    def connect(*_, patience, **__):
        nonlocal now_s
        allowed_s.append(patience.welcome_s)
        if len(allowed_s) == 1:
            here, there = socket.socketpair()  # welcomed, and lost at once
            there.close()
            link = LeanLink(here)
            link.close()
            return link
        now_s += patience.welcome_s
        msg = "there was no answer to the first bytes"
        raise BrokenOffError(msg)

    transport = LeanTransport("127.0.0.1:1", WANTED, over_grpc=Other, connect=connect)
    for _ in range(4):
        with pytest.raises(TransportError, match=r"UNAVAILABLE: the server gave no answer within 1\.0 s"):
            transport.infer(REQUEST, timeout_s=LIMIT_S)
    assert transport.note is None
    assert "a-1" == transport.infer(REQUEST, timeout_s=LIMIT_S).id
    assert "there was no answer to the first bytes" == transport.note
    assert [WELCOME_S, 1.0, 1.0, 1.0, 1.0, WELCOME_S] == allowed_s
    transport.close()


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (TransportError("UNAUTHENTICATED", "wrong token"), "UNAUTHENTICATED: wrong token"),
        (NotLeanError("the answer was b'HTTP'"), "UNIMPLEMENTED: the lean wire cannot be used: the answer was b'HTTP'"),
    ],
)
def test_a_late_answer_of_a_known_server_is_not_silence(monkeypatch, answer, shown):
    """What a server says after more than a second in all is told as it is."""
    now_s = 1000.0
    monkeypatch.setattr("isplit.runtime.edge.lean_transport.time", SimpleNamespace(monotonic=lambda: now_s))
    here, there = socket.socketpair()
    there.close()
    links = [LeanLink(here)]
    links[0].close()

    def connect(*_, patience, **__):
        nonlocal now_s
        if links:
            return links.pop()
        now_s += 1.5 * patience.welcome_s
        raise answer

    transport = LeanTransport("127.0.0.1:1", WANTED, over_grpc=None, connect=connect)
    with pytest.raises(TransportError) as error:
        transport.infer(REQUEST, timeout_s=LIMIT_S)
    assert shown == str(error.value)
    transport.close()
