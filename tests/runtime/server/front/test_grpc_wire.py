"""Headers of a call, and of its answer."""

from math import inf

import grpc
import pytest

from isplit.runtime.server.front.grpc_wire import framed, read_head, trailers
from isplit.runtime.statuses import STATUS_CODES


def head(**headers):
    return read_head([(name.replace("_", "-").encode(), value) for name, value in headers.items()])


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"3S", 3.0),
        (b"250m", 0.25),
        (b"40u", 40e-6),
        (b"99999999n", 0.099999999),
        (b"", inf),
        (b"5", inf),
        (b"5x", inf),
        (b"-5S", inf),
        (b"123456789S", inf),
    ],
)
def test_timeout(timeout, expected):
    """A timeout is read in its unit; one that cannot be read counts as none."""
    assert expected == pytest.approx(head(grpc_timeout=timeout).timeout_s)


def test_head():
    """Path, method, type and encoding are taken, and every token that was given."""
    lines = [(b":path", b"/a/b"), (b":method", b"POST"), (b"content-type", b"application/grpc+proto")]
    lines += [(b"grpc-encoding", b"gzip"), (b"authorization", b"one"), (b"authorization", b"two"), (b"x", b"y")]
    got = read_head(lines)
    assert ("/a/b", b"POST", b"application/grpc+proto", b"gzip") == (
        got.path,
        got.http_method,
        got.content_type,
        got.encoding,
    )
    assert (b"one", b"two") == got.authorization
    assert inf == got.timeout_s


def test_trailers():
    """A status is a number; a message keeps printable ASCII and percent-encodes the rest, the percent sign too."""
    assert [(b"grpc-status", b"0")] == trailers("OK")
    assert [(b"grpc-status", b"16"), (b"grpc-message", b"100%25 wrong: %C3%BC%0A")] == trailers(
        "UNAUTHENTICATED", "100% wrong: ü\n"
    )


def test_framed():
    """A message goes behind a zero and its length."""
    assert b"\0\0\0\1\2" + bytes(258) == framed(bytes(258))


def test_status_codes():
    """The numbers are gRPC's own."""
    assert {name: getattr(grpc.StatusCode, name).value[0] for name in STATUS_CODES} == STATUS_CODES


def test_every_character_of_a_message():
    """From the space to the tilde all but the percent sign stand for themselves; control characters and DEL do not."""
    plain = "".join(chr(code) for code in range(0x20, 0x7F)).replace("%", "")
    assert (b"grpc-message", plain.encode()) == trailers("INTERNAL", plain)[1]
    assert (b"grpc-message", b"%00%1F%25%7F") == trailers("INTERNAL", "\0\x1f%\x7f")[1]
