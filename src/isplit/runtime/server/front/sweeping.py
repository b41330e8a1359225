"""Drop what has taken too long, in slices that nobody has to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isplit.runtime.server.front.channel import Channel

SWEEP_S = 0.25
_SLICE_S = 0.001
_PAUSE_S = 0.002


class Sweeper:
    """Run a sweep again and again, and pause after each millisecond of it, because 700 calls may end at once.

    `sweep` returns the steps of one sweep; each is a piece of work that is not divided.
    """

    def __init__(self, sweep: Callable[[], Iterator[None]], loop: asyncio.AbstractEventLoop) -> None:
        self._sweep = sweep
        self._loop = loop
        self._steps: Iterator[None] | None = None
        self._timer: asyncio.TimerHandle = loop.call_later(SWEEP_S, self._continue)

    def close(self) -> None:
        """Stop sweeping."""
        self._timer.cancel()

    def _continue(self) -> None:
        steps = self._steps or self._sweep()
        self._steps = None
        ends_at = self._loop.time() + _SLICE_S
        pause_s = SWEEP_S
        try:
            for _ in steps:
                if self._loop.time() >= ends_at:
                    self._steps, pause_s = steps, _PAUSE_S
                    break
        finally:
            self._timer = self._loop.call_later(pause_s, self._continue)


def sweep_channel(channel: Channel, now: float) -> None:
    """Close the connection of a peer that does not read, or that has been a stranger for too long."""
    hub, limits = channel.hub, channel.hub.limits
    if channel.paused_at is not None and now - channel.paused_at > limits.send_seconds:
        hub.note("not_read", peer=channel.peer, detail=f"nothing was read for {limits.send_seconds:.0f} s")
        channel.abort()
        return
    if channel.connection is None:
        if now - channel.opened_at > limits.receive_seconds:
            channel.address_debt.refused(now=now)
            hub.note("handshake", peer=channel.peer, detail="the TLS handshake took too long")
            channel.abort()
        return
    channel.connection.sweep(now)
    useful_at = max(channel.opened_at, channel.connection.active_at)
    if not channel.connection.known and not channel.connection.calls and now - useful_at > channel.patience_s:
        channel.address_debt.refused(now=now)
        hub.note("idle_stranger", peer=channel.peer, detail=f"no call within {channel.patience_s:.0f} s")
        channel.connection.go_away()
