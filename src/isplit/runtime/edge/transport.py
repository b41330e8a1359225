"""How requests leave the device: the contract that gRPC fulfils, and that a test replaces."""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

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

TensorName = Literal["payload", "latent", "image"]
"""The input of a model on the wire: a framed payload, a plain uint8 latent, or an image file."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One image for one model of the server.

    `content` is the payload, the image file, or the latent's bytes; `shape` the tensor's: (1,) for the first two,
    (1, *latent_shape) for a latent. `id` is the same at every attempt. `model_sha256`, where it is given, says which
    file the server should run: a server that can compare refuses where it runs another.
    """

    id: str
    model: str
    tensor: TensorName
    content: bytes
    shape: tuple[int, ...]
    model_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to a request: `logits` float32 (K,), and what the server says of itself (None: nothing).

    `id` is the request's; empty where a server does not repeat it.
    """

    id: str
    logits: NDArray[np.float32]
    queue_ms: float | None = None
    decode_ms: float | None = None
    infer_ms: float | None = None
    server_ms: float | None = None
    batch_size: int | None = None
    provider: str | None = None


MAX_DETAILS = 300
"""The longest explanation that is taken from a server, in characters."""


class TransportError(IsplitError):
    """A request was not answered. Never leaves the edge client, which makes an answer of it.

    `details` may be a server's own words: they are made one line, and cut where they are long.
    """

    def __init__(self, status: Status, details: str) -> None:
        details = " ".join(details.split())[:MAX_DETAILS]
        super().__init__(f"{status}: {details}" if details else status)
        self.status: Status = status


class Transport(Protocol):
    """Sends one request and waits for its reply; called from several threads at once."""

    def infer(self, request: Request, *, timeout_s: float | None) -> Reply:
        """Return the server's reply.

        Raises:
            TransportError: there was none within the time, or it was a refusal.

        """
        ...

    def close(self) -> None:
        """Let go of connections; requests under way fail with CANCELLED."""
        ...
