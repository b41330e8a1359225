"""Define how much a peer may hold of the server."""

from dataclasses import dataclass

WINDOW_BYTES = 2**16 - 1
"""The first HTTP/2 window of a stream and of a connection: bytes that a peer may send before it is granted more."""

PREFIX_BYTES = 5
"""Bytes before every gRPC message: the compression flag and the length."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Bound the memory for messages of one size class that have not been read yet.

    Messages of up to `message_bytes` belong to it; `total_bytes` bounds all of them, and `connection_bytes` those of
    one connection. Each class has memory of its own, so that long messages that stall leave room for short ones.
    """

    name: str
    message_bytes: int
    total_bytes: int
    connection_bytes: int


@dataclass(frozen=True, kw_only=True)
class FrontLimits:
    """Bound what peers may hold of the server. `message_bytes` is the longest request of any method.

    Args:
        max_connections: Most connections in all.
        max_strangers: Most connections that have not made an authorised call yet.
        max_parked: Most strangers that were closed but for their socket, which they keep until they send something.
        max_receiving: Most calls whose message has not fully arrived, over all connections.
        max_streams: Most open calls of one connection.
        lean_turn_calls: Most calls of the lean wire that one connection begins in a turn of the event loop. As many as
            a batch holds let an engine start while the rest is read.
        max_health_receiving: The same as `max_receiving`, for calls that need no token.
        max_health_streams: Most open calls of one connection that need no token.
        receive_seconds: How long a message may take to arrive; a long one gets a second more for each
            `min_rate_bytes_per_s` bytes.
        stall_seconds: How long a message that others wait behind may stall.
        min_rate_bytes_per_s: The rate that a long message must reach on average while others wait behind it.
        send_seconds: How long a peer may take to read an answer.
        stranger_seconds: How long a connection may go on without an authorised call, on average.
        stranger_grace_seconds: How long a stranger may be silent before it gives way to others.
        stranger_turn_seconds: How long a stranger may go on that always sends something, before it gives way.
        stranger_time_share: The share of the event loop's time for all strangers together.

    """

    message_bytes: int
    max_connections: int = 1024
    max_strangers: int = 256
    max_parked: int = 4096
    max_receiving: int = 1024
    max_streams: int = 100
    lean_turn_calls: int = 32
    max_health_receiving: int = 64
    max_health_streams: int = 4
    receive_seconds: float = 10.0
    stall_seconds: float = 1.0
    min_rate_bytes_per_s: int = 2**18
    send_seconds: float = 10.0
    stranger_seconds: float = 20.0
    stranger_grace_seconds: float = 0.5
    stranger_turn_seconds: float = 2.0
    stranger_time_share: float = 0.2

    @property
    def max_message_memory(self) -> int:
        """All memory that messages can take which are not computed yet."""
        return sum(share.total_bytes for share in self.shares())

    def shares(self) -> tuple[Share, ...]:
        """Return the size classes, from the shortest messages to the longest."""
        short = Share(
            name="short",
            message_bytes=WINDOW_BYTES - PREFIX_BYTES,
            total_bytes=6 * 2**20,
            connection_bytes=2**20,
        )
        middle = Share(name="middle", message_bytes=2**20, total_bytes=6 * 2**20, connection_bytes=2**22)
        longest = max(self.message_bytes, middle.message_bytes + 1)
        long = Share(name="long", message_bytes=longest, total_bytes=longest, connection_bytes=longest)
        return short, middle, long
