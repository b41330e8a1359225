"""Decide who may send how much before it is read: room for messages, and for calls that are still sending theirs.

Room is reserved by a message's declared length, before its bytes are accepted. When there is none, the call that has
been silent for longest is refused. A peer that sends what it announced finishes quickly, so it is never that one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from isplit.runtime.server.front.limits import WINDOW_BYTES, FrontLimits, Share
from isplit.runtime.server.refusal import RefusedError

if TYPE_CHECKING:
    from isplit.runtime.server.front.call import Call
    from isplit.runtime.server.front.peer import Peer

_LATER = "try again later"


class _Pool:
    """Hold the reservations in the memory of one share, their owners, and the calls that wait for room."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.used = 0
        self.by_connection: Counter[Peer] = Counter()
        self.waiting: list[Call] = []

    def has_room(self, connection: Peer, size: int) -> bool:
        return self.used + size <= self.share.total_bytes and self.connection_has_room(connection, size)

    def connection_has_room(self, connection: Peer, size: int) -> bool:
        return self.by_connection[connection] + size <= self.share.connection_bytes

    def take(self, call: Call, size: int) -> None:
        self.used += size
        self.by_connection[call.connection] += size
        call.charges[self.share.name] = call.charges.get(self.share.name, 0) + size

    def give_back(self, call: Call) -> None:
        size = call.charges.pop(self.share.name, 0)
        self.used -= size
        self.by_connection[call.connection] -= size
        if self.by_connection[call.connection] <= 0:
            del self.by_connection[call.connection]


class Receiving:
    """Keep account of calls whose message has not fully arrived, and of the memory of messages without an answer."""

    def __init__(self, limits: FrontLimits) -> None:
        self._limits = limits
        self._pools = {share.name: _Pool(share) for share in limits.shares()}
        self._short = next(iter(self._pools.values()))
        self._calls: dict[Call, None] = {}
        self._counts = {True: 0, False: 0}
        self._public_calls: Counter[Peer] = Counter()
        """The number of such calls of each connection for methods that need no token."""

    @property
    def calls(self) -> int:
        """The number of calls that are still sending their message."""
        return len(self._calls)

    @property
    def bytes(self) -> int:
        """The number of bytes that are reserved for messages."""
        return sum(pool.used for pool in self._pools.values())

    def admit(self, call: Call) -> None:
        """Allow a call to send its message; another call may be refused for it.

        Raises:
            RefusedError: Its connection has as many calls of its kind as it may have.

        """
        public = call.method.public
        if public:
            siblings = self._public_calls[call.connection]
            if siblings >= self._limits.max_health_streams:
                msg = f"{siblings} such calls of this connection are open already: end one"
                raise RefusedError("RESOURCE_EXHAUSTED", msg, reason="too_many_calls")
        limit = self._limits.max_health_receiving if public else self._limits.max_receiving
        if self._counts[public] >= limit:
            self._evict([other for other in self._calls if other.method.public == public])
        self._calls[call] = None
        self._counts[public] += 1
        if public:
            self._public_calls[call.connection] += 1

    def reserve(self, call: Call, *, now: float) -> None:
        """Reserve room for a message of known length; a long one may have to wait for its turn.

        Raises:
            RefusedError: There is no room, and nobody who could give way.

        """
        assert call.length is not None
        # A long message needs this room for the bytes that arrive before its turn.
        self._take_short(call, min(call.length, WINDOW_BYTES))
        if call.length <= self._short.share.message_bytes:
            call.grant(now)
            return
        pool = next(pool for pool in self._pools.values() if call.length <= pool.share.message_bytes)
        pool.waiting.append(call)
        self._grant(pool, now)

    def arrived(self, call: Call) -> None:
        """Note that a message is complete. Its memory stays reserved."""
        if call in self._calls:
            del self._calls[call]
            self._counts[call.method.public] -= 1
            if call.method.public:
                self._public_calls[call.connection] -= 1
                if not self._public_calls[call.connection]:
                    del self._public_calls[call.connection]

    def release(self, call: Call) -> None:
        """Release a message's memory, and admit calls that waited for it. Calling it twice does no harm."""
        if not call.charges:
            return
        freed = [self._pools[name] for name in call.charges]
        for pool in freed:
            pool.give_back(call)
        for pool in freed:
            self._grant(pool, call.connection.front.now())

    def forget(self, call: Call) -> None:
        """Note that a call has ended, however it did."""
        self.arrived(call)
        if call.granted_at is None:
            for pool in self._pools.values():
                if call in pool.waiting:
                    pool.waiting.remove(call)
        self.release(call)

    def sweep(self, clock: Callable[[], float]) -> Iterator[None]:
        """Refuse calls whose message takes too long, or stalls while others wait behind it; stop after each call."""
        limits = self._limits
        for call in list(self._calls):
            if call not in self._calls:
                continue  # it has ended during a pause of this sweep
            now = clock()
            allowed_s = limits.receive_seconds + (call.length or 0) / limits.min_rate_bytes_per_s
            if now - call.opened_at > allowed_s:
                _refuse(call, "DEADLINE_EXCEEDED", f"the message did not arrive within {allowed_s:.0f} s", "too_slow")
            elif self._holds_up(call, now):
                call.connection.stalls += 1
                msg = f"the message stood still while others waited behind it: {_LATER}"
                _refuse(call, "RESOURCE_EXHAUSTED", msg, "stalled")
            yield

    def _holds_up(self, call: Call, now: float) -> bool:
        if call.granted_at is None or not any(self._pools[name].waiting for name in call.charges):
            return False
        moving_s = now - call.granted_at - self._limits.stall_seconds
        return now - call.heard_at > self._limits.stall_seconds or (
            moving_s > 0 and call.filled < moving_s * self._limits.min_rate_bytes_per_s
        )

    def _take_short(self, call: Call, size: int) -> None:
        pool = self._short
        while not pool.has_room(call.connection, size):
            siblings_only = not pool.connection_has_room(call.connection, size)
            holders = [
                other
                for other in self._calls
                if other is not call
                and pool.share.name in other.charges
                and (other.connection is call.connection or not siblings_only)
            ]
            if not holders:
                msg = f"{pool.used} bytes of requests are being read or computed, and no more may: {_LATER}"
                raise RefusedError("RESOURCE_EXHAUSTED", msg, reason="no_room")
            self._evict(holders)
        pool.take(call, size)

    def _grant(self, pool: _Pool, now: float) -> None:
        """Admit waiting calls that there is room for, first those of peers that never stalled and got answers."""

        def rank(call: Call) -> tuple[int, bool]:
            return call.connection.stalls, not call.connection.answered

        for call in sorted(pool.waiting, key=rank):
            assert call.length is not None
            if pool.has_room(call.connection, call.length):
                pool.waiting.remove(call)
                self._short.give_back(call)
                pool.take(call, call.length)
                call.grant(now)
                call.connection.open_window(call, call.length - call.filled)

    def _evict(self, calls: list[Call]) -> None:
        """Refuse the call that has been silent for longest."""
        silent = min(calls, key=lambda call: call.heard_at)
        silent.connection.stalls += 1
        _refuse(silent, "RESOURCE_EXHAUSTED", f"the message was awaited when others came: {_LATER}", "gave_way")


def _refuse(call: Call, status: str, message: str, reason: str) -> None:
    call.connection.refuse(call, RefusedError(status, message, reason=reason))  # type: ignore[arg-type]
