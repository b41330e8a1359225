"""Why a request gets no answer: one exception, with the gRPC status that the caller sees."""

from typing import Literal

from isplit.errors import IsplitError

RefusalStatus = Literal[
    "INVALID_ARGUMENT",  # the request is wrong, damaged or hostile: sending it again will not help
    "NOT_FOUND",  # no such model
    "RESOURCE_EXHAUSTED",  # too many are waiting
    "DEADLINE_EXCEEDED",  # it would be too late
    "UNAVAILABLE",  # the server is going away, or a replica died
    "INTERNAL",  # a fault of the server
    "UNAUTHENTICATED",  # the token is missing or wrong
    "UNIMPLEMENTED",  # no such method, or a message that gRPC compressed
]

# Why, where the status says no more.
_REASONS: dict[RefusalStatus, str] = {
    "INVALID_ARGUMENT": "invalid",
    "NOT_FOUND": "not_found",
    "RESOURCE_EXHAUSTED": "queue_full",
    "DEADLINE_EXCEEDED": "late",
    "UNAVAILABLE": "unavailable",
    "INTERNAL": "internal",
    "UNAUTHENTICATED": "token",
    "UNIMPLEMENTED": "unknown_method",
}

_MAX_MESSAGE = 400


class RefusedError(IsplitError):
    """A request is refused.

    The message is cut where a caller's own words could make it long: it travels in a header.

    Args:
        status: The name of the gRPC status code.
        message: What the caller is told.
        reason: The word under which the operator finds the refusal in the log and in the metrics; see REASONS in
            refusal_log.py. None takes the usual one for the status.

    """

    def __init__(self, status: RefusalStatus, message: str, *, reason: str | None = None) -> None:
        super().__init__(message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…")
        self.status: RefusalStatus = status
        self.reason = reason or _REASONS[status]
        self.noted = False
        """Whether it is in the log and the metrics already."""


def invalid(message: str) -> RefusedError:
    """Return the refusal of a request that is wrong in itself."""
    return RefusedError("INVALID_ARGUMENT", message)
