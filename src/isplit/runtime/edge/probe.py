"""Measure the link to a server of isplit: the rates in both directions, round trip, jitter, and an estimate of loss.

round trip, jitter   the time in which the kernel opens TCP connections, one after the other on the idle link rates
messages over several warm connections at once, after TCP has reached its speed loss                 segments that this
machine's TCP sent again meanwhile, if the system counts them
"""

import math
import socket
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from isplit.errors import InputError, ServerError
from isplit.records import LinkRecord, ProbeDetails
from isplit.runtime.edge.grpc_transport import channel_credentials, failure_words, open_channel
from isplit.runtime.edge.security import Tls, check_address, check_token
from isplit.runtime.names import MAX_PROBE_BYTES, PROBE_METHOD, PROBE_SIZE_BYTES
from isplit.setting_checks import check_ranges, check_types

_CONNECTIONS = 4
_CALLS_AT_ONCE = 8
_LEAST_BYTES = 512
_SECONDS_PER_MESSAGE = 0.05
_TIMEOUT_S = 30.0
_LOST_SYN_S = 0.9
"""Linux repeats the packet that opens a connection after a second, so such a connection shows loss and not RTT."""
_MESSAGE_OVERHEAD_BYTES = 70
"""Approximate bytes of HTTP/2 frames and headers of a call on a warm connection."""
_PACKET_SHARE = 1500 / 1448
"""Bytes of IP packets divided by those of TCP's stream, with timestamps."""

_ADVICE = {
    "UNAVAILABLE": "is `isplit serve` running there, and do both sides use TLS, or neither?",
    "UNAUTHENTICATED": "give the token that the server was started with",
    "UNIMPLEMENTED": "it is no server of isplit, or an older one that cannot be probed",
    "RESOURCE_EXHAUSTED": "others probe it at the same time: try again",
}


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How a link is measured.

    Args:
        round_trips: Connections that are opened to time the round trip.
        seconds: How long bytes are sent in either direction.
        max_bytes: Send no more bytes than this in either direction, for a link that is paid for by the byte.

    Examples:
        >>> isplit.ProbeSettings(seconds=1).round_trips
        20

    """

    round_trips: int = 20
    seconds: float = 4.0
    max_bytes: int = 2**24

    def __post_init__(self) -> None:
        check_types(self)
        check_ranges(self, {"round_trips": (1, 1000)})
        if not 0 < self.seconds <= 600:
            msg = f"seconds is {self.seconds}; give a time above 0 and up to 600"
            raise InputError(msg)
        if not 10_000 <= self.max_bytes <= 2**32:
            msg = f"max_bytes is {self.max_bytes}; give at least 10,000 bytes"
            raise InputError(msg)


def probe(
    server: str,
    *,
    name: str = "probed",
    title: str | None = None,
    token: str | None = None,
    tls: Tls | None = None,
    insecure: bool = False,
    settings: ProbeSettings | None = None,
) -> LinkRecord:
    """Measure the link from this machine to a server that `isplit serve` runs, for `isplit.plan`.

    Args:
        server: HOST:PORT.
        name: The link's name.
        title: The link's name for people.
        token: The server's token, where it has one.
        tls: Files for TLS, where the server uses it.
        insecure: Whether the token may cross a network without TLS.
        settings: How long and how much.

    Raises:
        InputError: no address, or a token that would travel in plain text.
        ServerError: nobody answers, or the server cannot be probed; the message says why.

    Examples:
        >>> quick = isplit.ProbeSettings(round_trips=3, seconds=0.2)
        >>> with isplit.serving(isplit.Bundle.open("bundle")) as server:
        ...     link = isplit.probe(f"127.0.0.1:{server.port}", settings=quick)
        >>> link.source
        'measured'

    """
    settings = settings or ProbeSettings()
    _check(server, token=token, tls=tls, insecure=insecure)
    started_unix_s, begun_s = time.time(), time.monotonic()
    with _Connections(server, token=token, tls=tls) as connections:
        link = _measure(connections, server, settings)
    details = ProbeDetails(
        server=server,
        up_bytes=link.up.bytes,
        down_bytes=link.down.bytes,
        round_trips=settings.round_trips,
        seconds=max(time.monotonic() - begun_s, 1e-6),
        started_unix_s=started_unix_s,
        loss_method=link.loss_method,
    )
    return LinkRecord(
        name=name,
        title=title or f"the link to {server}",
        source="measured",
        sources=("measured by `isplit probe`",),
        up_bits_per_s=link.up.bits_per_s,
        down_bits_per_s=link.down.bits_per_s,
        rtt_ms=link.rtt_ms,
        jitter_ms=link.jitter_ms,
        loss_up=link.loss,
        loss_down=link.loss,
        probe=details,
    )


def _check(server: str, *, token: str | None, tls: Tls | None, insecure: bool) -> None:
    check_address(server)
    check_token(server, token, tls=tls, insecure=insecure)
    if server.startswith("unix:"):
        msg = f"the server is {server!r}, a socket of this machine: there is no link to measure"
        raise InputError(msg)


@dataclass(frozen=True, kw_only=True)
class _Rate:
    bits_per_s: float
    bytes: int


@dataclass(frozen=True, kw_only=True)
class _Link:
    rtt_ms: float
    jitter_ms: float
    up: _Rate
    down: _Rate
    loss: float
    loss_method: str


def _measure(connections: "_Connections", server: str, settings: ProbeSettings) -> _Link:
    connections.exchange(1, 1)  # reports what is wrong before anything is measured
    rtt_ms, jitter_ms, lost_connections = _round_trips(server, settings.round_trips)
    before = _tcp_counters()
    up = _measure_rate(connections, settings, rtt_ms=rtt_ms, up=True)
    after = _tcp_counters()
    down = _measure_rate(connections, settings, rtt_ms=rtt_ms, up=False)
    loss, method = _loss(before, after, lost_connections=lost_connections, round_trips=settings.round_trips)
    return _Link(rtt_ms=rtt_ms, jitter_ms=jitter_ms, up=up, down=down, loss=loss, loss_method=method)


class _Connections:
    """Several warm connections to the server, because a single lost packet could hold back a single one."""

    def __init__(self, server: str, *, token: str | None, tls: Tls | None) -> None:
        credentials = None if tls is None else channel_credentials(tls)
        self._server = server
        self._channels = [open_channel(server, credentials) for _ in range(_CONNECTIONS)]
        self._calls = [channel.unary_unary(PROBE_METHOD) for channel in self._channels]
        self._metadata = () if token is None else (("authorization", f"Bearer {token}"),)

    def __enter__(self) -> "_Connections":
        return self

    def __exit__(self, *exception: object) -> None:
        for channel in self._channels:
            channel.close()

    def exchange(self, sent_bytes: int, answer_bytes: int, *, number: int = 0) -> None:
        """Send this many bytes over one of the connections, and wait for the number of bytes wanted back."""
        request = answer_bytes.to_bytes(PROBE_SIZE_BYTES, "big") + bytes(max(sent_bytes - PROBE_SIZE_BYTES, 0))
        grpc: Any = import_module("grpc")
        try:
            call = self._calls[number % len(self._calls)]
            content = call(request, timeout=_TIMEOUT_S, metadata=self._metadata)
        except grpc.RpcError as error:
            status = str(error.code().name)
            words = failure_words(str(error.details() or ""))[:200]
            advice = _ADVICE.get(status)
            msg = f"the link to {self._server} cannot be measured: {status}: {words}" + (
                f"; {advice}" if advice else ""
            )
            raise ServerError(msg) from None
        if len(content) != answer_bytes:
            msg = f"{self._server} answered with {len(content)} bytes instead of {answer_bytes}: it is no isplit server"
            raise ServerError(msg)


def _round_trips(server: str, count: int) -> tuple[float, float, int]:
    """Return the median and standard deviation of connection times in ms, and how many connections lost a packet."""
    host, _, port = server.rpartition(":")
    times_ms: list[float] = []
    lost = 0
    for _ in range(count):
        start_s = time.perf_counter()
        try:
            connection = socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT_S)
        except OSError as error:
            msg = f"the link to {server} cannot be measured: {error.strerror or error}"
            raise ServerError(msg) from error
        elapsed_s = time.perf_counter() - start_s
        connection.close()
        if elapsed_s > _LOST_SYN_S and times_ms and elapsed_s > 3e-3 * statistics.median(times_ms):
            lost += 1
            continue
        times_ms.append(elapsed_s * 1e3)
        time.sleep(min(elapsed_s, 0.02))
    return statistics.median(times_ms), statistics.pstdev(times_ms), lost


def _measure_rate(connections: _Connections, settings: ProbeSettings, *, rtt_ms: float, up: bool) -> _Rate:
    """Return the rate of IP packets in one direction while several calls are under way at any time."""

    def exchange(size: int, number: int) -> None:
        connections.exchange(size if up else PROBE_SIZE_BYTES, 0 if up else size, number=number)

    size = _message_bytes(lambda size: exchange(size, 0), rtt_ms=rtt_ms)
    lock = threading.Lock()
    done: list[tuple[float, int]] = []
    asked = 0
    begun_s = time.monotonic()
    end_s = begun_s + settings.seconds

    def work(number: int) -> None:
        nonlocal asked
        while time.monotonic() < end_s:
            with lock:
                if asked + size > settings.max_bytes:
                    return
                asked += size
            exchange(size, number)
            with lock:
                done.append((time.monotonic(), size))

    with ThreadPoolExecutor(_CALLS_AT_ONCE) as pool:
        for future in [pool.submit(work, number) for number in range(_CALLS_AT_ONCE)]:
            future.result()
    return _Rate(bits_per_s=_steady_bits_per_s(done, begun_s), bytes=sum(count for _, count in done))


def _message_bytes(exchange: Callable[[int], None], *, rtt_ms: float) -> int:
    """Return a size whose transfer takes about a twentieth of a second, found by doubling."""
    size = _LEAST_BYTES
    while size < MAX_PROBE_BYTES:
        start_s = time.monotonic()
        exchange(size)
        if time.monotonic() - start_s - rtt_ms / 1e3 > _SECONDS_PER_MESSAGE:
            break
        size *= 2
    return min(size, MAX_PROBE_BYTES - PROBE_SIZE_BYTES)


def _steady_bits_per_s(done: list[tuple[float, int]], begun_s: float) -> float:
    """Return the rate over the last two thirds of the time, in which TCP has reached its speed."""
    if not done:
        msg = "the link is so slow that no message got through in the time: measure for longer (`seconds=60`)"
        raise ServerError(msg)
    done = sorted(done)
    last_s = done[-1][0]
    from_s = begun_s + (last_s - begun_s) / 3
    first = next((time_s for time_s, _ in done if time_s >= from_s), last_s)
    counted = [count for time_s, count in done if time_s > first]
    if len(counted) < 3:
        first, counted = begun_s, [count for _, count in done]
    wire_bytes = sum(count + _MESSAGE_OVERHEAD_BYTES for count in counted) * _PACKET_SHARE
    return max(8 * wire_bytes / max(last_s - first, 1e-6), 1.0)


def _tcp_counters(path: Path = Path("/proc/net/snmp")) -> dict[str, int] | None:
    """Return Linux's counters of TCP segments; None elsewhere."""
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.startswith("Tcp:")]
        return dict(zip(lines[0][1:], map(int, lines[1][1:]), strict=True))
    except (OSError, IndexError, ValueError):
        return None


def _loss(
    before: dict[str, int] | None, after: dict[str, int] | None, *, lost_connections: int, round_trips: int
) -> tuple[float, str]:
    """Return the estimated share of lost packets, and a description of the estimate."""
    if before is None or after is None:
        share = lost_connections / (2 * round_trips)
        return share, "connections whose first packet was sent again; TCP hides other losses"
    sent = after.get("OutSegs", 0) - before.get("OutSegs", 0)
    again = after.get("RetransSegs", 0) - before.get("RetransSegs", 0)
    share = again / sent if sent > 0 else 0.0
    words = (
        "TCP segments that this machine sent again while it sent up (queues that overflow count too); "
        "the way down is taken to lose as many"
    )
    return min(share, 0.99) if math.isfinite(share) else 0.0, words
