"""Define the interface between the front and the methods: what each knows of the other."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol


class Incoming(Protocol):
    """A call whose message has arrived. Times are of the event loop's clock, in seconds."""

    @property
    def message(self) -> memoryview:
        """The message without its prefix; valid until `release`."""
        ...

    @property
    def peer(self) -> str:
        """The caller's address."""
        ...

    @property
    def deadline(self) -> float:
        """The time at which the caller gives up; infinity without a deadline."""
        ...

    @property
    def is_lone(self) -> bool:
        """Whether nobody else is known to be waiting, so that there is nothing to batch with."""
        ...

    def release(self) -> None:
        """Release the message's memory before the answer is ready; the message must not be read afterwards."""
        ...

    def send(self, message: bytes) -> None:
        """Send one message of an answer that consists of several."""
        ...


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method that peers may call.

    `answer` returns the only message of the answer, or None when it has sent all messages through `Incoming.send`. It
    raises RefusedError if the caller should know why there is no answer; every other exception is a fault of the
    server. Callers without the token may call a `public` method; such calls have a limit of their own. `answer_now`,
    if there is one, is asked first: it returns the answer if it takes so little time that the event loop can wait for
    it, and otherwise None.
    """

    path: str
    answer: Callable[[Incoming], Awaitable[bytes | None]]
    max_bytes: int
    public: bool = False
    answer_now: Callable[[Incoming], bytes | None] | None = None
