"""Hold what all connections of a server share: their number, their methods, the token, and room for messages."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from isplit.runtime.lean.device_frames import Opening
from isplit.runtime.server.front.debt import AddressDebts
from isplit.runtime.server.front.grpc_wire import RequestHead
from isplit.runtime.server.front.limits import FrontLimits
from isplit.runtime.server.front.receiving import Receiving
from isplit.runtime.server.front.strangers import StrangerTime
from isplit.runtime.server.front.sweeping import Sweeper, sweep_channel
from isplit.runtime.server.log import logger
from isplit.runtime.server.refusal import RefusedError
from isplit.runtime.server.refusal_log import RefusalLog

if TYPE_CHECKING:
    from isplit.runtime.server.front.call import Call
    from isplit.runtime.server.front.channel import Channel
    from isplit.runtime.server.front.method import Method
    from isplit.runtime.server.front.peer import Peer

_READ_BYTES = 2**16


class Hub:
    """Hold the state that the connections of a server share, in one event loop.

    Without a token, every peer may call, unless the TLS context requires a certificate. `open_lean` returns the method
    for a model that a peer opens on the lean wire; None if the server does not speak it.
    """

    def __init__(
        self,
        methods: Iterable[Method],
        *,
        limits: FrontLimits,
        token: str | None,
        refusals: RefusalLog,
        open_lean: Callable[[Opening], Method] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._methods = {method.path: method for method in methods}
        self.limits = limits
        self.receiving = Receiving(limits)
        self.strangers = StrangerTime(limits.stranger_time_share, self._loop)
        self.debts = AddressDebts()
        self.read_buffer = bytearray(_READ_BYTES)
        """The buffer that all connections read into. The bytes are copied out of it before anything else happens."""
        self.channels: dict[Channel, None] = {}
        self._stranger_channels: dict[Channel, None] = {}
        """In the order in which they sent something last."""
        self._parked: dict[Channel, None] = {}
        self._refusals = refusals
        self.open_lean = open_lean
        self._last_caller: Peer | None = None
        self._expected = b""
        self.token_epoch = 0
        """The number of changes of the token, for connections that have shown it once."""
        self.set_token(token)
        self._sweeper = Sweeper(self._sweep, self._loop)

    @property
    def wants_token(self) -> bool:
        """Whether callers must show a token."""
        return bool(self._expected)

    @property
    def stranger_count(self) -> int:
        """The number of connections that have not made an authorised call yet."""
        return len(self._stranger_channels)

    @property
    def parked_count(self) -> int:
        """The number of parked strangers."""
        return len(self._parked)

    def now(self) -> float:
        """Return the event loop's time."""
        return self._loop.time()

    def set_token(self, token: str | None) -> None:
        """Require this token from the next call on."""
        expected = f"Bearer {token}".encode() if token else b""
        self.token_epoch += expected != self._expected
        self._expected = expected

    def admit(self, head: RequestHead) -> tuple[Method, bool]:
        """Return the method that a call asks for, and whether the caller has shown that it is authorised.

        Raises:
            RefusedError: The token is missing or wrong, or there is no such method, or messages are compressed.

        """
        method = self._methods.get(head.path)
        is_authorised = self.is_authorised(head.authorization)
        if not is_authorised and not (method and method.public):
            msg = "give the server's token in the metadata: authorization: Bearer TOKEN"
            raise RefusedError("UNAUTHENTICATED", msg, reason="token")
        if method is None:
            raise RefusedError("UNIMPLEMENTED", f"there is no method {head.path[:100]!r}", reason="unknown_method")
        if head.encoding != b"identity":
            msg = f"messages are compressed with {head.encoding[:20]!r}: send them as they are"
            raise RefusedError("UNIMPLEMENTED", msg, reason="compressed")
        return method, is_authorised

    def is_authorised(self, given: tuple[bytes, ...]) -> bool:
        """Return whether the values of a call's `authorization` are those of a caller with the token."""
        if not self._expected:
            return True
        # The comparison takes constant time, so that it does not reveal a prefix of the token.
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)

    def is_lone(self, connection: Peer) -> bool:
        """Return whether the last call that asked this was of the same connection, and remember this one."""
        last, self._last_caller = self._last_caller, connection
        return last is connection

    # Events that connections report:

    def make_room(self, *, rank: int = 0) -> bool:
        """Close or park a connection if the limit is reached; return whether there is room for a new one.

        `rank` is that of the new one's address: a stranger of a higher rank gives way to it in any case.
        """
        if len(self._stranger_channels) >= self.limits.max_strangers:
            leaving = self._costlier_than(rank) or self._next_to_leave()
            if leaving is None:
                return False
            self._drop(leaving, "strangers")
        if len(self.channels) >= self.limits.max_connections:
            self._drop(min(self.channels, key=self._worth), "connections")
        return True

    def opened(self, channel: Channel) -> None:
        """Count a new connection."""
        self.channels[channel] = None
        self._stranger_channels[channel] = None

    def heard(self, channel: Channel) -> None:
        """Note that a stranger has sent something: others give way before it does."""
        if channel in self._stranger_channels:
            del self._stranger_channels[channel]
            self._stranger_channels[channel] = None

    def became_known(self, connection: Peer) -> None:
        """Count a connection as known."""
        for channel in self._stranger_channels:
            if channel.connection is connection:
                del self._stranger_channels[channel]
                return

    def closed(self, channel: Channel) -> None:
        """Forget a connection."""
        self.channels.pop(channel, None)
        self._stranger_channels.pop(channel, None)
        self._parked.pop(channel, None)
        if channel.connection is not None and channel.connection is self._last_caller:
            self._last_caller = None

    def end_parked(self) -> bool:
        """Close the stranger that was parked first, to free its socket; return whether there was one."""
        if not self._parked:
            return False
        self._end_parked(next(iter(self._parked)))
        return True

    def refused(self, call: Call, error: RefusedError) -> None:
        """Note that a call ends without an answer, unless its method has noted it."""
        if not error.noted:
            self.note(error.reason, peer=call.connection.peer, detail=str(error))

    def failed(self, call: Call, error: Exception) -> None:
        """Log a fault of the server."""
        logger.error("a call failed", exc_info=error, extra={"fields": {"method": call.method.path}})

    def note(self, reason: str, *, peer: str, detail: str) -> None:
        """Count a refusal, and log it unless that happens too often."""
        self._refusals.note(reason, peer=peer, detail=detail)

    async def close(self, grace_s: float) -> None:
        """End every call with UNAVAILABLE and close every connection, after at most `grace_s` seconds."""
        self._sweeper.close()
        self.strangers.close()
        for channel in list(self.channels):
            if channel.connection is None:
                channel.abort()
                continue
            for call in list(channel.connection.calls.values()):
                error = RefusedError("UNAVAILABLE", "the server has stopped: ask another", reason="stopped")
                channel.connection.refuse(call, error)
            channel.connection.go_away()
        ends_at = self.now() + grace_s
        while self.channels and self.now() < ends_at:
            await asyncio.sleep(0.005)
        for channel in [*self.channels, *self._parked]:
            channel.abort()
        self._refusals.flush(force=True)

    def _worth(self, channel: Channel) -> tuple[bool, bool, bool, float]:
        """Rank a connection; the lowest rank is closed first."""
        connection = channel.connection
        if connection is None:
            return False, False, False, channel.opened_at
        computing = any(call.state != "receiving" for call in connection.calls.values())
        return connection.known, computing, connection.answered > 0, connection.active_at

    def _costlier_than(self, rank: int) -> Channel | None:
        """Return the stranger whose address has cost most, if that is more than a rank; the oldest of several."""
        now = self.now()
        # Thousands of connections may come from a few addresses.
        debts = {channel.address_debt for channel in self._stranger_channels}
        ranks = {debt: debt.rank(now=now) for debt in debts}
        highest = max(ranks.values())
        if highest <= rank:
            return None
        return next(channel for channel in self._stranger_channels if ranks[channel.address_debt] == highest)

    def _next_to_leave(self) -> Channel | None:
        """Return the stranger that has been silent for the longest time, or that has had its time; None if all are new.

        A newcomer sends something after every answer of the server, until its first call makes it known.
        """
        now = self.now()
        silent = next((channel for channel in self._stranger_channels if channel.idle), None)
        if silent and now - silent.heard_at >= self.limits.stranger_grace_seconds:
            return silent
        oldest = min(self._stranger_channels, key=lambda channel: channel.opened_at)
        return oldest if now - oldest.opened_at >= self.limits.stranger_turn_seconds else None

    def _drop(self, channel: Channel, reason: str) -> None:
        # The connection no longer counts from here on; the event loop closes its socket later.
        self.closed(channel)
        limit = self.limits.max_strangers if reason == "strangers" else self.limits.max_connections
        self.note(reason, peer=channel.peer, detail=f"there are more than {limit}: this one gave way")
        if reason == "strangers" and channel.idle:
            channel.park()
            self._parked[channel] = None
            if len(self._parked) > self.limits.max_parked:
                self.end_parked()
            return
        if channel.connection is None:
            channel.abort()
            return
        for call in list(channel.connection.calls.values()):
            msg = "there are too many connections: try again later"
            channel.connection.refuse(call, RefusedError("UNAVAILABLE", msg, reason=reason))
        channel.connection.go_away()

    def _end_parked(self, channel: Channel) -> None:
        del self._parked[channel]
        channel.leave()

    def _sweep(self) -> Iterator[None]:
        """Drop calls, connections and parked strangers that have taken too long, one after the other."""
        for _ in self.receiving.sweep(self.now):
            yield
        for channel in list(self.channels):
            if channel in self.channels:
                sweep_channel(channel, self.now())
            yield
        now = self.now()
        for channel in [channel for channel in self._parked if now - channel.opened_at > channel.patience_s]:
            if channel in self._parked:
                self._end_parked(channel)
            yield
        self._refusals.flush()
