"""Refuse a request with one exception, which carries the gRPC status that the caller sees."""

from typing import Literal

from isplit.errors import IsplitError

RefusalStatus = Literal[
    "INVALID_ARGUMENT",  # the request is wrong, damaged or hostile; repeating it will not help
    "NOT_FOUND",  # there is no such model
    "RESOURCE_EXHAUSTED",  # too many images are waiting
    "DEADLINE_EXCEEDED",  # the deadline passed
    "UNAVAILABLE",  # the server is going away, or a replica died
    "INTERNAL",  # a fault of the server
    "UNAUTHENTICATED",  # the token is missing or wrong
    "UNIMPLEMENTED",  # there is no such method, or gRPC compressed the message
]

# The reason of each status, unless a more precise one is given.
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

    The message is cut to a maximal length, because it travels in a header and may quote the caller.

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
        """Whether the log and the metrics have recorded it already."""


def invalid(message: str) -> RefusedError:
    """Return the refusal of a request that is itself invalid."""
    return RefusedError("INVALID_ARGUMENT", message)
