"""Encode and decode the frames that a device sends on the lean wire."""

import struct
from dataclasses import dataclass

from isplit.errors import IsplitError

MAGIC = b"isplit\x00\x01"
"""The first bytes in both directions; the last one is the version of this wire. HTTP/2 begins with "PRI"."""

ALPN = "isplit/1"
"""The name of this wire in TLS's negotiation of protocols."""

MAX_CONTENT_BYTES = 2**16 - 6
"""The longest content of a request. It belongs to the shortest messages of gRPC's front, which never wait for room."""

MAX_TOKEN_BYTES = 2**12
MAX_NAME_BYTES = 2**9
MAX_SLOTS = 64
"""Most models that a connection may open."""

MAX_DEADLINE_MS = 2**16 - 1
"""The longest deadline that a request can state; 0 stands for none."""

NO_NUMBER = 2**32 - 1
"""The number of an error that concerns the whole connection. Requests have smaller ones."""

OPENING, CANCEL = 0xF0, 0xF1
"""Kinds of frames. A smaller first byte is a request's slot."""

TENSORS: dict[str, int] = {"payload": 0, "latent": 1, "image": 2}
"""Numbers of the input tensors."""

_HELLO = struct.Struct(">8sH")
_OPENING = struct.Struct(">BBBBBIH")
_REQUEST = struct.Struct(">BHIH")
_CANCEL = struct.Struct(">BI")
_SHA256_BYTES = 32

_WANTS_LOGITS, _WANTS_TIMINGS, _HAS_SHA256 = 1, 2, 4

REQUEST_BYTES = _REQUEST.size
"""Bytes of a request beyond its content."""

_TENSOR_NAMES = {code: name for name, code in TENSORS.items()}


class LeanWireError(IsplitError):
    """Bytes are not what this wire allows. It is caught where the peer is known."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a device wants of a model: the tensor that it will send, and what answers shall hold.

    Args:
        model: The model's name on the wire.
        tensor: "payload", "latent" or "image".
        classes: The number of classes that the device expects.
        best: How many of the most probable classes an answer holds; it may hold fewer if there are fewer.
        wants_logits: Whether answers hold all logits; they then hold no best classes.
        wants_timings: Whether answers hold the server's times.
        sha256: The SHA-256 of the ONNX file that the model should run, as 64 hexadecimal digits; empty for any.

    """

    model: str
    tensor: str
    classes: int
    best: int
    wants_logits: bool = False
    wants_timings: bool = False
    sha256: str = ""

    @property
    def answer_classes(self) -> int:
        """The number of the best classes that an answer holds."""
        return 0 if self.wants_logits else min(self.best, self.classes)


@dataclass(frozen=True, kw_only=True)
class RequestHead:
    """What precedes a request's content: its slot, its length in bytes, its number, and the time left (0: no limit)."""

    slot: int
    length: int
    number: int
    deadline_ms: int


def hello(token: str) -> bytes:
    """Return the first bytes of a device; the token is empty if there is none.

    Raises:
        LeanWireError: The token is longer than `MAX_TOKEN_BYTES`.

    """
    content = token.encode("ascii")
    if len(content) > MAX_TOKEN_BYTES:
        msg = f"the token has {len(content)} bytes, at most {MAX_TOKEN_BYTES}"
        raise LeanWireError(msg)
    return _HELLO.pack(MAGIC, len(content)) + content


def hello_bytes(start: bytes | bytearray) -> int:
    """Return the length of a hello, or how many bytes must be there first to know it.

    Raises:
        LeanWireError: These are not the first bytes of a hello.

    """
    if not MAGIC.startswith(start[: len(MAGIC)]):
        msg = f"a connection begins with {bytes(start[: len(MAGIC)])!r}"
        raise LeanWireError(msg)
    if len(start) < _HELLO.size:
        return _HELLO.size
    length = _HELLO.unpack_from(start)[1]
    if length > MAX_TOKEN_BYTES:
        msg = f"a token of {length} bytes"
        raise LeanWireError(msg)
    return _HELLO.size + length


def hello_token(content: bytes | bytearray) -> bytes:
    """Return the token of a complete hello."""
    return bytes(content[_HELLO.size :])


def frame_bytes(start: bytes | bytearray) -> int:
    """Return the length of a device's frame without a request's content, or how many bytes must be there first.

    Raises:
        LeanWireError: There is no such frame, or a name is too long.

    """
    kind = start[0]
    if kind < OPENING:
        return _REQUEST.size
    if kind == CANCEL:
        return _CANCEL.size
    if kind != OPENING:
        msg = f"a frame of kind {kind}"
        raise LeanWireError(msg)
    if len(start) < _OPENING.size:
        return _OPENING.size
    _, _, flags, _, _, _, name_bytes = _OPENING.unpack_from(start)
    if name_bytes > MAX_NAME_BYTES:
        msg = f"a model's name of {name_bytes} bytes"
        raise LeanWireError(msg)
    return _OPENING.size + (_SHA256_BYTES if flags & _HAS_SHA256 else 0) + name_bytes


def encode_opening(slot: int, opening: Opening) -> bytes:
    """Return the frame that opens a model at a slot.

    Raises:
        LeanWireError: The name is longer than `MAX_NAME_BYTES`.

    """
    name, sha256 = opening.model.encode(), bytes.fromhex(opening.sha256)
    if len(name) > MAX_NAME_BYTES:
        msg = f"the model's name has {len(name)} bytes, at most {MAX_NAME_BYTES}"
        raise LeanWireError(msg)
    flags = (
        (_WANTS_LOGITS if opening.wants_logits else 0)
        | (_WANTS_TIMINGS if opening.wants_timings else 0)
        | (_HAS_SHA256 if sha256 else 0)
    )
    head = _OPENING.pack(OPENING, slot, flags, TENSORS[opening.tensor], opening.best, opening.classes, len(name))
    return head + sha256 + name


def decode_opening(content: bytes | bytearray) -> tuple[int, Opening]:
    """Return the slot and the opening of a complete frame.

    Raises:
        LeanWireError: The slot or the tensor does not exist, or the name is not UTF-8.

    """
    _, slot, flags, tensor, best, classes, _ = _OPENING.unpack_from(content)
    name_at = _OPENING.size + (_SHA256_BYTES if flags & _HAS_SHA256 else 0)
    if slot >= MAX_SLOTS or tensor not in _TENSOR_NAMES or flags & ~(_WANTS_LOGITS | _WANTS_TIMINGS | _HAS_SHA256):
        msg = f"an opening of slot {slot} with tensor {tensor} and flags {flags}"
        raise LeanWireError(msg)
    try:
        model = bytes(content[name_at:]).decode()
    except UnicodeDecodeError:
        msg = "a model's name that is not UTF-8"
        raise LeanWireError(msg) from None
    return slot, Opening(
        model=model,
        tensor=_TENSOR_NAMES[tensor],
        classes=classes,
        best=best,
        wants_logits=bool(flags & _WANTS_LOGITS),
        wants_timings=bool(flags & _WANTS_TIMINGS),
        sha256=bytes(content[_OPENING.size : name_at]).hex(),
    )


def encode_request(slot: int, number: int, content: bytes, *, deadline_ms: float | None) -> bytes:
    """Return the frame of a request. A deadline is rounded down, and left out if it is beyond `MAX_DEADLINE_MS`."""
    states_deadline = deadline_ms is not None and deadline_ms < MAX_DEADLINE_MS
    stated_ms = max(1, int(deadline_ms)) if states_deadline and deadline_ms is not None else 0
    return _REQUEST.pack(slot, len(content), number, stated_ms) + content


def decode_request(content: bytes | bytearray) -> RequestHead:
    """Return the head of a request.

    Raises:
        LeanWireError: The content is longer than `MAX_CONTENT_BYTES`, or its number is reserved.

    """
    slot, length, number, deadline_ms = _REQUEST.unpack_from(content)
    if length > MAX_CONTENT_BYTES or number == NO_NUMBER:
        msg = f"a request with number {number} and {length} bytes of content"
        raise LeanWireError(msg)
    return RequestHead(slot=slot, length=length, number=number, deadline_ms=deadline_ms)


def encode_cancel(number: int) -> bytes:
    """Return the frame that tells the server that nobody waits for a request any more."""
    return _CANCEL.pack(CANCEL, number)


def decode_cancel(content: bytes | bytearray) -> int:
    """Return the number of the cancelled request."""
    return int(_CANCEL.unpack_from(content)[1])
