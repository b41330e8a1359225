"""Encode and decode the frames that a server sends on the lean wire."""

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from isplit.runtime.lean.device_frames import LeanWireError, Opening
from isplit.runtime.statuses import STATUS_CODES

ANSWER, ERROR = 0x00, 0x01
"""Kinds of frames."""

MAX_BODY_BYTES = 2**16 - 1

STATUSES: dict[str, int] = {name: code for name, code in STATUS_CODES.items() if name != "OK"}
"""Numbers of the statuses of errors, those of gRPC."""

_FRAME = struct.Struct(">BIH")
_TIMINGS = struct.Struct(">H4e")
_MAX_HALF = 65504.0
_PROBABILITY_STEPS = 2**16 - 1

_HAS_LOGITS, _HAS_TIMINGS, _HAS_PROVIDER = 1, 2, 4

_STATUS_NAMES = {code: name for name, code in STATUSES.items()}


@dataclass(frozen=True, kw_only=True)
class ServerTimes:
    """What the server reports of an answer: times in milliseconds, and the number of images of its batch."""

    batch_size: int
    decode_ms: float
    queue_ms: float
    infer_ms: float
    server_ms: float


@dataclass(frozen=True, kw_only=True)
class AnswerBody:
    """The content of an answer: the best classes with their probabilities, or all logits, float32 (K,)."""

    best: tuple[tuple[int, float], ...] = ()
    logits: NDArray[np.float32] | None = None
    times: ServerTimes | None = None
    provider: str = ""


@dataclass(frozen=True, kw_only=True)
class ServerFrame:
    """A frame of the server: its kind, the number of its request, and its body."""

    kind: int
    number: int
    body: bytes


def server_frame(kind: int, number: int, body: bytes) -> bytes:
    """Return a frame of the server."""
    return _FRAME.pack(kind, number, len(body)) + body


def error_body(status: str, message: str) -> bytes:
    """Return the body of an error; a long message is cut."""
    return bytes((STATUSES[status],)) + message.encode()[: 2**10]


def decode_error(body: bytes) -> tuple[str, str]:
    """Return the status and the message of an error. A status that is not known is UNKNOWN."""
    return _STATUS_NAMES.get(body[0] if body else 2, "UNKNOWN"), body[1:].decode(errors="replace")


def encode_answer(opening: Opening, answer: AnswerBody) -> bytes:
    """Return the body of an answer to a request of an opened model; it holds what the opening wants."""
    flags = (
        (_HAS_LOGITS if answer.logits is not None else 0)
        | (_HAS_TIMINGS if answer.times is not None else 0)
        | (_HAS_PROVIDER if answer.provider else 0)
    )
    best: list[int] = []
    for label, probability in answer.best:
        best += (label, round(probability * _PROBABILITY_STEPS))
    parts = [bytes((flags,)), _best_struct(opening.classes, len(answer.best)).pack(*best)]
    if (times := answer.times) is not None:
        parts.append(_packed_times(times))
    if answer.provider:
        name = answer.provider.encode()[:255]
        parts += [bytes((len(name),)), name]
    if answer.logits is not None:
        parts.append(np.ascontiguousarray(answer.logits, "<f4").tobytes())
    return b"".join(parts)


def decode_answer(opening: Opening, body: bytes) -> AnswerBody:
    """Return the content of an answer's body.

    Raises:
        LeanWireError: The body does not hold what was opened, or a class does not exist.

    """
    try:
        flags, at = body[0], 1
        entries = _best_struct(opening.classes, 0 if flags & _HAS_LOGITS else opening.answer_classes)
        numbers = entries.unpack_from(body, at)
        at += entries.size
        labels, steps = numbers[::2], numbers[1::2]
        times: ServerTimes | None = None
        if flags & _HAS_TIMINGS:
            batch_size, decode_ms, queue_ms, infer_ms, server_ms = _TIMINGS.unpack_from(body, at)
            at += _TIMINGS.size
            times = ServerTimes(
                batch_size=batch_size, decode_ms=decode_ms, queue_ms=queue_ms, infer_ms=infer_ms, server_ms=server_ms
            )
        provider = b""
        if flags & _HAS_PROVIDER:
            provider = body[at + 1 : at + 1 + body[at]]
            at += 1 + body[at]
    except (struct.error, IndexError):
        msg = f"an answer of {len(body)} bytes, which ends too early"
        raise LeanWireError(msg) from None
    logits = _logits(body[at:], opening.classes) if flags & _HAS_LOGITS else None
    if logits is None and at != len(body):
        msg = f"an answer of {len(body)} bytes, of which {at} are known"
        raise LeanWireError(msg)
    if max(labels, default=-1) >= opening.classes:
        msg = f"an answer with classes {list(labels)} of {opening.classes}"
        raise LeanWireError(msg)
    best = tuple((label, step / _PROBABILITY_STEPS) for label, step in zip(labels, steps, strict=True))
    return AnswerBody(best=best, logits=logits, times=times, provider=provider.decode(errors="replace"))


def best_classes(logits: NDArray[np.float32], count: int) -> tuple[tuple[int, float], ...]:
    """Return the classes with the largest logits, in falling order, with their softmax.

    Examples:
        >>> best_classes(np.array([0.0, 9.0, 1.0], np.float32), 1)[0][0]
        1

    """
    return best_classes_of_rows(logits[None], count)[0]


def best_classes_of_rows(logits: NDArray[np.float32], count: int) -> list[tuple[tuple[int, float], ...]]:
    """Return `best_classes` of each row of logits, N×K and finite; a batch takes little longer than a row.

    Examples:
        >>> [best[0][0] for best in best_classes_of_rows(np.array([[0.0, 9.0], [1.0, 0.0]], np.float32), 1)]
        [1, 0]

    """
    values = logits.astype(np.float64)
    exponentials = np.exp(values - values.max(1, keepdims=True))
    order = (-values).argsort(1, kind="stable")[:, :count]
    chosen = exponentials[np.arange(len(values))[:, None], order] / exponentials.sum(1, keepdims=True)
    return [
        tuple(zip(labels, probabilities, strict=True))
        for labels, probabilities in zip(order.tolist(), chosen.tolist(), strict=True)
    ]


@dataclass
class FrameReader:
    """Cuts the server's bytes into frames, however they arrive. It keeps less than one frame.

    Examples:
        >>> reader = FrameReader()
        >>> reader.feed(server_frame(ANSWER, 7, b"x")[:3])
        []
        >>> reader.feed(server_frame(ANSWER, 7, b"x")[3:])[0].number
        7

    """

    _rest: bytes = field(default=b"")

    def feed(self, data: bytes) -> list[ServerFrame]:
        """Return the frames that are complete.

        Raises:
            LeanWireError: There is no such kind of frame.

        """
        content = self._rest + data if self._rest else data
        frames: list[ServerFrame] = []
        at = 0
        while len(content) - at >= _FRAME.size:
            kind, number, length = _FRAME.unpack_from(content, at)
            if kind not in (ANSWER, ERROR):
                msg = f"a frame of kind {kind}"
                raise LeanWireError(msg)
            end = at + _FRAME.size + length
            if end > len(content):
                break
            frames.append(ServerFrame(kind=kind, number=number, body=content[at + _FRAME.size : end]))
            at = end
        self._rest = content[at:]
        return frames


def _packed_times(times: ServerTimes) -> bytes:
    in_order = (times.decode_ms, times.queue_ms, times.infer_ms, times.server_ms)
    if max(in_order) > _MAX_HALF:
        in_order = tuple(min(each, _MAX_HALF) for each in in_order)
    return _TIMINGS.pack(min(times.batch_size, 2**16 - 1), *in_order)


@lru_cache(maxsize=64)
def _best_struct(classes: int, count: int) -> struct.Struct:
    """Return the layout of the best classes and their probabilities: a class in 1, 2 or 4 bytes, a probability in 2."""
    label = "B" if classes <= 2**8 else "H" if classes <= 2**16 else "I"
    return struct.Struct(">" + f"{label}H" * count)


def _logits(content: bytes, classes: int) -> NDArray[np.float32]:
    if len(content) != 4 * classes:
        msg = f"an answer with {len(content)} bytes of logits for {classes} classes"
        raise LeanWireError(msg)
    logits = np.frombuffer(content, "<f4").astype(np.float32, copy=False)
    if not isfinite(float(logits.sum())) and not np.isfinite(logits).all():
        msg = "an answer with logits that are not finite"
        raise LeanWireError(msg)
    return logits
