"""What a connection needs of the socket under it."""

from typing import Protocol

from isplit.runtime.server.front.debt import Debt


class Output(Protocol):
    """The destination of a connection's bytes."""

    @property
    def peer(self) -> str:
        """The address of the other side."""
        ...

    @property
    def address_debt(self) -> Debt:
        """What all connections of the other side's address have cost."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...

    def close(self) -> None:
        """Close once everything has been sent."""
        ...
