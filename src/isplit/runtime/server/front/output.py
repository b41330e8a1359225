"""What a connection needs of the socket under it."""

from typing import Protocol


class Output(Protocol):
    """The destination of a connection's bytes."""

    @property
    def peer(self) -> str:
        """The address of the other side."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...

    def close(self) -> None:
        """Close once everything has been sent."""
        ...
