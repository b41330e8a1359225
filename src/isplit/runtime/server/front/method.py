"""What the front needs to know of a method, and what a method needs to know of a call."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol


class Incoming(Protocol):
    """A call whose message has arrived. Times are of the event loop's clock, in seconds."""

    @property
    def message(self) -> memoryview:
        """The message, without its prefix; only until `release`."""
        ...

    @property
    def peer(self) -> str:
        """The caller's address."""
        ...

    @property
    def deadline(self) -> float:
        """When the caller gives up; infinity without a deadline."""
        ...

    def release(self) -> None:
        """Give the message's memory back before the answer is there; it must not be read any more."""
        ...

    def send(self, message: bytes) -> None:
        """Send one message of an answer that has several."""
        ...


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method that peers may call.

    `answer` returns the only message of the answer, or None when it has sent all of them through `Incoming.send`. It
    raises RefusedError where the caller should know why there is no answer; every other exception is a fault of the
    server. Callers without the token may call it when it is `public`: it then has a share of calls of its own.
    """

    path: str
    answer: Callable[[Incoming], Awaitable[bytes | None]]
    max_bytes: int
    public: bool = False
