"""Define the contract of a transport, which the lean wire and gRPC fulfil and tests replace."""

from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from isplit.errors import IsplitError

Status = Literal[
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]
"""gRPC's status codes, all but OK."""

STATUSES: frozenset[str] = frozenset(get_args(Status))


def known_status(name: str) -> Status:
    """Return the status of a name; UNKNOWN if there is none of this name."""
    return cast("Status", name) if name in STATUSES else "UNKNOWN"


TensorName = Literal["payload", "latent", "image"]
"""The input of a model on the wire: a framed payload, a plain uint8 latent, or an image file."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One image for one model of the server.

    `content` is the payload, the image file, or the latent's bytes. `shape` is the tensor's: (1,) for the first two,
    (1, *latent_shape) for a latent. `id` is the same at every attempt. `model_sha256` optionally names the file that
    the server should run; a server that can compare refuses if it runs another.
    """

    id: str
    model: str
    tensor: TensorName
    content: bytes
    shape: tuple[int, ...]
    model_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to a request: logits or the best classes, and what the server reports of itself (None: nothing).

    `logits` are float32 (K,). `best` are (class, probability) in falling order; it is empty if there are logits. `id`
    is that of the request; empty if a server does not repeat it.
    """

    id: str
    logits: NDArray[np.float32] | None
    best: tuple[tuple[int, float], ...] = ()
    queue_ms: float | None = None
    decode_ms: float | None = None
    infer_ms: float | None = None
    server_ms: float | None = None
    batch_size: int | None = None
    provider: str | None = None


DEAD_AFTER_S = 0.5
"""Seconds of silence after which a timeout makes the next request use a new connection.

A link that drops all packets gives no error, and TCP continues to trust it for many minutes.
"""

MAX_DETAILS = 300
"""Most characters of an explanation that is taken from a server."""


class TransportError(IsplitError):
    """A request was not answered. The edge client turns this exception into an answer and never raises it.

    `details` may quote a server: they are put on one line, and cut if they are long.
    """

    def __init__(self, status: Status, details: str) -> None:
        details = " ".join(details.split())[:MAX_DETAILS]
        super().__init__(f"{status}: {details}" if details else status)
        self.status: Status = status


class Transport(Protocol):
    """Send one request and wait for its reply. Several threads call it at once."""

    def infer(self, request: Request, *, timeout_s: float | None) -> Reply:
        """Return the server's reply.

        Raises:
            TransportError: there was no reply in time, or the server refused.

        """
        ...

    def close(self) -> None:
        """Close connections; pending requests fail with CANCELLED."""
        ...
