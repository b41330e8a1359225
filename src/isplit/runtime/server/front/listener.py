"""Listen on an address and accept connections, no faster than the share of strangers allows."""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
import ssl
from collections import deque

from isplit.errors import InputError
from isplit.runtime.server.front.channel import Channel
from isplit.runtime.server.front.debt import Debt
from isplit.runtime.server.front.hub import Hub
from isplit.runtime.server.front.strangers import LITTLE_S

_BACKLOG = 4096
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_ACCEPTS_AT_ONCE = 64
_SEND_BUFFER_BYTES = 2**18
"""The kernel's buffer for bytes that a peer has not read."""
_MAX_WAITING = 1024
"""Most accepted connections that wait for their turn; beyond it, the oldest is closed."""
_POLL_S = 0.005
_CONNECTION_S = 0.3e-3
"""Approximate processor time that one more connection costs until its first byte, in seconds."""
# Keepalive notices a vanished peer after about two minutes.
_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4), ("TCP_USER_TIMEOUT", 60_000))


class Listener:
    """Own the listening sockets of one server. `tls` may be replaced at any time; it applies to the next connection."""

    def __init__(self, hub: Hub, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self._hub = hub
        self._sockets: list[socket.socket] = []
        self._waiting: dict[Debt, deque[tuple[int, socket.socket]]] = {}
        """Accepted connections that are not served yet, by the debt of their address, in the order in which they came.
        Each has a number that grows in this order."""
        self._waiting_count = 0
        self._order = itertools.count()
        self._turn_rank: int | None = None
        """The rank with which a turn was asked for; None if none was."""
        self._is_polling = False
        """Whether it looks for room again soon, for connections that there was no room for."""
        self.spent_s = LITTLE_S
        """Puts new connections after the cheap work of strangers that were let in, so that few are under way."""
        self._tasks: set[asyncio.Task[None]] = set()

    def bind(self, host: str, port: int) -> int:
        """Bind every address of `host`, and return the port; 0 takes a free one.

        Raises:
            InputError: The host is unknown, or the port cannot be used.

        """
        try:
            addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, _, _, _, address in dict.fromkeys(addresses):
                self._sockets.append(_listening(family, (address[0], port, *address[2:])))
                port = self._sockets[-1].getsockname()[1]
        except (OSError, OverflowError, UnicodeError) as error:
            self._close_sockets()
            reason = getattr(error, "strerror", None) or error
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            msg = f"cannot listen on {where}: {reason}; is the port taken?"
            raise InputError(msg) from error
        return port

    def start(self) -> None:
        """Start accepting connections."""
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.add_reader(listening, self._accept, listening)

    async def close(self) -> None:
        """Stop accepting connections."""
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening)
        self._close_sockets()
        await asyncio.gather(*self._tasks)

    def _close_sockets(self) -> None:
        waiting = [accepted for queue in self._waiting.values() for _, accepted in queue]
        for each in (*self._sockets, *waiting):
            each.close()
        self._sockets.clear()
        self._waiting.clear()
        self._waiting_count = 0

    def _accept(self, listening: socket.socket) -> None:
        """Accept the connections in the kernel's queue, because the kernel would serve the oldest first."""
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno in _NO_ROOM and self._hub.end_parked():
                    break  # The event loop closes its socket later.
                if error.errno in _NO_ROOM and self._waiting:
                    self._close_last()
                    continue
                break  # The peer has already gone, for example with ECONNABORTED.
            if self._waiting_count == _MAX_WAITING:
                self._hub.note("strangers", peer="unknown", detail=f"more than {_MAX_WAITING} wait for a connection")
                self._close_last()
            debt = self._hub.debts.of(str(address[0]))
            self._waiting.setdefault(debt, deque()).append((next(self._order), accepted))
            self._waiting_count += 1
        self._ask_for_turn()

    @property
    def rank(self) -> int:
        """How much the address of the connection that is served next has cost."""
        now = self._hub.now()
        return min((debt.rank(now=now) for debt in self._waiting), default=0)

    def work(self) -> None:
        """Serve one connection: the newest of the lowest rank, because one that came long before may have given up."""
        self._turn_rank = None
        self.spent_s = LITTLE_S  # Turns that served others do not count against those that wait.
        if not self._waiting:
            return
        now, rank = self._hub.now(), self.rank
        if not self._hub.make_room(rank=rank):
            if not self._is_polling:
                self._is_polling = True
                asyncio.get_running_loop().call_later(_POLL_S, self._poll)
            return
        debts = [debt for debt in self._waiting if debt.rank(now=now) <= rank]
        debt = max(debts, key=lambda debt: self._waiting[debt][-1])
        accepted = self._take(debt, newest=True)
        debt.cost(_CONNECTION_S, now=now)
        self._hub.strangers.spend(_CONNECTION_S, rank=rank)
        task = asyncio.get_running_loop().create_task(self._connect(accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Not from within this turn, which would serve all of them one inside the other.
        asyncio.get_running_loop().call_soon(self._ask_for_turn)

    def _ask_for_turn(self) -> None:
        """Ask for a turn, unless one is due already that comes as early; a turn too many does no harm."""
        if self._waiting and (self._turn_rank is None or self.rank < self._turn_rank):
            self._turn_rank = self.rank
            self._hub.strangers.offer(self)

    def _poll(self) -> None:
        self._is_polling = False
        self._ask_for_turn()

    def _close_last(self) -> None:
        """Close the connection that would be served last: the oldest of the highest rank."""
        now = self._hub.now()
        debt = max(self._waiting, key=lambda debt: (debt.rank(now=now), -self._waiting[debt][0][0]))
        self._take(debt, newest=False).close()

    def _take(self, debt: Debt, *, newest: bool) -> socket.socket:
        """Return the newest or the oldest connection of an address, which no longer waits."""
        queue = self._waiting[debt]
        _, accepted = queue.pop() if newest else queue.popleft()
        if not queue:
            del self._waiting[debt]
        self._waiting_count -= 1
        return accepted

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            _set_options(accepted)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: Channel(self._hub, self.tls), accepted)
        except OSError:
            accepted.close()


def _listening(family: int, address: tuple[object, ...]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # An IPv6 wildcard address also accepts IPv4.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
        listening.bind(address)
        listening.listen(_BACKLOG)
    except (OSError, OverflowError):
        listening.close()
        raise
    return listening


def _set_options(accepted: socket.socket) -> None:
    accepted.setblocking(False)
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if option := getattr(socket, name, None):
            accepted.setsockopt(socket.IPPROTO_TCP, option, value)
