"""What the connections of both wires have in common: the calls of one peer, and what the peer costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from isplit.runtime.server.front.debt import Debt
from isplit.runtime.server.front.running import finish

if TYPE_CHECKING:
    from isplit.runtime.server.front.call import Call
    from isplit.runtime.server.front.hub import Hub
    from isplit.runtime.server.front.output import Output
    from isplit.runtime.server.refusal import RefusedError


class Peer(ABC):
    """The calls of one peer, whatever it speaks.

    `known` says that the peer has shown the token, or that its certificate was verified. `stalls` is the number of
    its messages that delayed others. `active_at` is the time of the last useful event: the start of the connection, or
    an answered call. `has_more` says that the bytes of another call came together with those of the last one.
    """

    def __init__(self, output: Output, hub: Hub) -> None:
        self.front = hub
        self.calls: dict[int, Call] = {}
        self.known = False
        self.stalls = 0
        self.answered = 0
        self.active_at = hub.now()
        self.closing = False
        self.has_more = False
        self.debt = Debt()
        self._output = output

    @property
    def peer(self) -> str:
        """The address of the other side."""
        return self._output.peer

    @property
    def debts(self) -> tuple[Debt, ...]:
        """The debts of the peer and of its address."""
        return self.debt, self._output.address_debt

    @property
    def trusted(self) -> bool:
        """Whether the peer is known, and what it costs is for calls that are answered."""
        return self.known and not self.debt.is_too_high(now=self.front.now())

    @abstractmethod
    def receive(self, data: bytes) -> int:
        """Process bytes of the peer, answer what can be answered at once, and return how many bytes were processed.

        The rest is for a later turn of the event loop, so that one peer's many calls do not delay those of others.
        """

    @abstractmethod
    def open_window(self, call: Call, missing: int) -> None:
        """Allow the peer to send the rest of a long message."""

    @abstractmethod
    def refuse(self, call: Call, error: RefusedError) -> None:
        """End a call without an answer, and give the reason."""

    @abstractmethod
    def send_message(self, call: Call, message: bytes, *, last: bool = False) -> None:
        """Send a message of an answer."""

    @abstractmethod
    def go_away(self) -> None:
        """Refuse further calls, drop open ones, and close once the pending bytes have been sent."""

    @abstractmethod
    def sweep(self, now: float) -> None:
        """Drop what the peer does not read."""

    def lost(self) -> None:
        """Note that the connection is lost."""
        self.closing = True
        self._drop_calls()

    def _drop_calls(self) -> None:
        for call in list(self.calls.values()):
            finish(call)
