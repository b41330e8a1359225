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
]

_MAX_MESSAGE = 400


class RefusedError(IsplitError):
    """A request is refused; `status` is the name of the gRPC status code.

    The message is cut where a caller's own words could make it long: it travels in a header.
    """

    def __init__(self, status: RefusalStatus, message: str) -> None:
        super().__init__(message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…")
        self.status: RefusalStatus = status


def invalid(message: str) -> RefusedError:
    """Return the refusal of a request that is wrong in itself."""
    return RefusedError("INVALID_ARGUMENT", message)
