"""Read and write gRPC's headers over HTTP/2: those of a request, its deadline, and those of an answer.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from urllib.parse import quote

from isplit.runtime.server.front.limits import PREFIX_BYTES
from isplit.runtime.statuses import STATUS_CODES

Headers = list[tuple[bytes, bytes]]

RESPONSE_HEADERS: Headers = [(b":status", b"200"), (b"content-type", b"application/grpc")]

_UNIT_SECONDS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_TIMEOUT_DIGITS = 8
# In a status message, all printable ASCII characters but the percent sign stand for themselves.
_PLAIN_CHARACTERS = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


@dataclass(frozen=True, kw_only=True)
class RequestHead:
    """The headers of a request. `authorization` holds every value of that header."""

    path: str
    http_method: bytes
    content_type: bytes
    encoding: bytes
    timeout_s: float
    authorization: tuple[bytes, ...]


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    """Parse a request's headers. A timeout that cannot be parsed counts as no timeout."""
    path = http_method = content_type = b""
    encoding, timeout_s = b"identity", inf
    authorization: list[bytes] = []
    for name, value in headers:
        match name:
            case b":path":
                path = value
            case b":method":
                http_method = value
            case b"content-type":
                content_type = value
            case b"grpc-encoding":
                encoding = value
            case b"grpc-timeout":
                timeout_s = _seconds(value)
            case b"authorization":
                authorization.append(value)
            case _:
                pass
    return RequestHead(
        path=path.decode("latin-1"),
        http_method=http_method,
        content_type=content_type,
        encoding=encoding,
        timeout_s=timeout_s,
        authorization=tuple(authorization),
    )


def _seconds(timeout: bytes) -> float:
    digits, unit = timeout[:-1], _UNIT_SECONDS.get(timeout[-1:])
    if unit is None or not digits.isdigit() or len(digits) > _MAX_TIMEOUT_DIGITS:
        return inf
    return int(digits) * unit


def trailers(status: str, message: str = "") -> Headers:
    """Return the headers that end a call. The message is percent-encoded, as gRPC requires."""
    lines: Headers = [(b"grpc-status", b"%d" % STATUS_CODES[status])]
    if message:
        lines.append((b"grpc-message", quote(message, safe=_PLAIN_CHARACTERS).encode("ascii")))
    return lines


def framed(message: bytes) -> bytes:
    """Return a message with its gRPC prefix: the flag for "not compressed" and the length."""
    return b"\0" + len(message).to_bytes(PREFIX_BYTES - 1, "big") + message
