"""Simulate one message over one link, packet by packet, with the mechanisms of TCP or as UDP datagrams.

    sender ── serialised at the link's rate ── half a round trip ──> receiver
       ^                                                                |
       └────────────── acknowledgements, half a round trip ─────────────┘

This simulation is slower and more exact than the closed forms in `isplit.plan.transfer`. The simulator runs it for
messages that lose a packet. It models the mechanisms that decide the completion time of short messages: the growth of
the window, the detection of losses by later acknowledgements, the retransmission timeout with its doubling, and the
tail loss probe. It leaves out pacing, reordering and receive windows. Selective acknowledgements are always on.
"""

import heapq
import itertools
from dataclasses import dataclass

import numpy as np

from isplit.errors import InputError
from isplit.records import LinkRecord


@dataclass(frozen=True, kw_only=True)
class TcpSettings:
    """Set how the TCP of both ends behaves. The defaults are those of Linux.

    The retransmission timeout is `rto_base_ms` + `rto_round_trips` x the round trip, at least `rto_floor_ms`, and
    doubles with each expiry in a row. `header_bytes` are IP and TCP headers with timestamps. A connection takes
    `handshake_round_trips` before its first byte (1 for TCP, 2 with TLS 1.3), and a lost handshake packet costs
    `handshake_timeout_ms`. With `rack` (RFC 8985) a segment counts as lost a quarter of a round trip after a later one
    was acknowledged. If more than one segment is in flight, the last one is sent again after two round trips without an
    acknowledgement. Without `rack`, a segment counts as lost after three later ones were acknowledged.
    """

    initial_window: int = 10
    header_bytes: int = 52
    rto_floor_ms: float = 200.0
    rto_base_ms: float = 200.0
    rto_round_trips: float = 1.0
    handshake_round_trips: int = 1
    handshake_timeout_ms: float = 1000.0
    duplicate_acks: int = 3
    rack: bool = True

    def rto_ms(self, rtt_ms: float) -> float:
        """Return the retransmission timeout on an idle link with that round trip."""
        return max(self.rto_floor_ms, self.rto_base_ms + self.rto_round_trips * rtt_ms)

    def segment_bytes(self, link: LinkRecord) -> int:
        """Return the payload bytes of a full segment."""
        return max(link.mtu_bytes - self.header_bytes, 1)


UDP_HEADER_BYTES = 28
"""The bytes of the IPv4 and UDP headers of one datagram."""

LINUX_TCP = TcpSettings()

FIXED_RTO_TCP = TcpSettings(rto_floor_ms=200.0, rto_base_ms=200.0, rto_round_trips=0.0, rack=False)
"""The timeout of Split-Et-Impera's simulations (arXiv 2303.12524): 200 ms, whatever the round trip."""

_MOST_EVENTS = 200_000


@dataclass(frozen=True, kw_only=True)
class MessageResult:
    """Hold the milliseconds until a message's last byte arrived, and the numbers of packets sent and lost."""

    completion_ms: float
    packets: int
    packets_lost: int
    retransmissions: int


@dataclass(frozen=True, kw_only=True)
class TcpPath:
    """Describe the path of a TCP connection.

    Packets leave at `rate_bits_per_s`, and the round trip without serialisation takes `rtt_ms`. `loss` is the share of
    data packets lost, and `ack_loss` that of acknowledgements. IP packets have at most `mtu_bytes`.
    """

    rate_bits_per_s: float
    rtt_ms: float
    loss: float = 0.0
    ack_loss: float = 0.0
    mtu_bytes: int = 1500


def send_tcp(
    count_bytes: int,
    *,
    path: TcpPath,
    settings: TcpSettings = LINUX_TCP,
    random: np.random.Generator,
    first_losses: np.ndarray | None = None,
) -> MessageResult:
    """Send one message over a warm connection and return when its last byte arrived.

    Args:
        count_bytes: The length of the message in bytes.
        path: The path of the connection.
        settings: The behaviour of TCP.
        random: The generator that losses are drawn from.
        first_losses: Says for each segment whether it is lost when it is first sent. None draws these losses.

    """
    flow = _Flow(count_bytes, path=path, settings=settings, random=random)
    if first_losses is not None:
        flow.first_losses = list(first_losses)
    return flow.run()


class _Flow:
    """Hold the state of a sender and a receiver while one message crosses the link."""

    def __init__(
        self,
        count_bytes: int,
        *,
        path: TcpPath,
        settings: TcpSettings,
        random: np.random.Generator,
    ) -> None:
        payload = max(path.mtu_bytes - settings.header_bytes, 1)
        self.segments = max(-(-count_bytes // payload), 1)
        last = count_bytes - (self.segments - 1) * payload
        per_byte_ms = 8e3 / path.rate_bits_per_s
        self.full_ms = (payload + settings.header_bytes) * per_byte_ms
        self.last_ms = (last + settings.header_bytes) * per_byte_ms
        self.half_ms = path.rtt_ms / 2
        self.rtt_ms, self.loss, self.ack_loss = path.rtt_ms, path.loss, path.ack_loss
        self.settings, self.random = settings, random
        self.window, self.threshold = float(settings.initial_window), float("inf")
        self.next_new, self.link_free_ms = 0, 0.0
        self.received: dict[int, None] = {}  # in the order of arrival
        self.seen_by_sender = 0
        self.acked: set[int] = set()
        self.lost: list[int] = []
        self.retransmitted: set[int] = set()
        self.flight = 0
        self.recover_until = -1
        self.rto_ms = settings.rto_ms(path.rtt_ms)
        self.timer, self.probe_allowed = 0, settings.rack
        self.sent_ms: dict[int, float] = {}
        self.events: list[tuple[float, int, str, int]] = []
        self.order, self.packets, self.packets_lost, self.retransmissions = 0, 0, 0, 0
        self.first_losses: list[bool] | None = None

    def push(self, at_ms: float, kind: str, segment: int) -> None:
        self.order += 1
        heapq.heappush(self.events, (at_ms, self.order, kind, segment))

    def transmit(self, now_ms: float, segment: int, *, again: bool) -> None:
        duration = self.last_ms if segment == self.segments - 1 else self.full_ms
        self.link_free_ms = max(now_ms, self.link_free_ms) + duration
        self.sent_ms[segment] = self.link_free_ms
        self.packets += 1
        self.retransmissions += again
        self.flight += 1
        if not again and self.first_losses is not None:
            is_lost = self.first_losses[segment]
        else:
            is_lost = self.loss > 0 and self.random.random() < self.loss
        if is_lost:
            self.packets_lost += 1
        else:
            self.push(self.link_free_ms + self.half_ms, "data", segment)

    def fill(self, now_ms: float) -> None:
        """Send as many segments as the window allows, lost ones first and then new ones."""
        while self.flight < int(self.window):
            if self.lost:
                segment = self.lost.pop(0)
                if segment in self.acked:
                    continue
                self.retransmitted.add(segment)
                self.transmit(now_ms, segment, again=True)
            elif self.next_new < self.segments:
                self.transmit(now_ms, self.next_new, again=False)
                self.next_new += 1
            else:
                break

    def arm(self, now_ms: float) -> None:
        """Restart the timer for a tail probe if one is due, and otherwise for a retransmission timeout."""
        self.timer += 1
        start = max(now_ms, self.link_free_ms)
        unacked = self.next_new - len(self.acked)
        if self.probe_allowed and unacked > 1 and self.next_new >= self.segments and self.recover_until < 0:
            probe_ms = 2 * self.rtt_ms + 4
            if probe_ms < self.rto_ms:
                self.push(start + probe_ms, "probe", self.timer)
                return
        self.push(start + self.rto_ms, "timeout", self.timer)

    def run(self) -> MessageResult:
        self.fill(0.0)
        self.arm(0.0)
        for _ in range(_MOST_EVENTS):
            now_ms, _, kind, segment = heapq.heappop(self.events)
            if kind == "data":
                self.received.setdefault(segment)
                if len(self.received) == self.segments:
                    return MessageResult(
                        completion_ms=now_ms,
                        packets=self.packets,
                        packets_lost=self.packets_lost,
                        retransmissions=self.retransmissions,
                    )
                if not (self.ack_loss > 0 and self.random.random() < self.ack_loss):
                    self.push(now_ms + self.half_ms, "ack", len(self.received))
            elif kind == "ack":
                self.on_ack(now_ms, segment)
            elif kind == "reordering":
                self.declare_lost(now_ms, segment)
            elif segment == self.timer:
                self.on_timer(now_ms, kind)
        msg = (
            f"the link loses {100 * self.loss:.9g} % of its packets, so that a message of {self.segments} packets does "
            f"not arrive within {_MOST_EVENTS:,} events; give a link that loses fewer"
        )
        raise InputError(msg)

    def on_ack(self, now_ms: float, received: int) -> None:
        """Acknowledge the first `received` segments that the receiver got, grow the window, and find losses."""
        # Every acknowledgement carries the whole selective state, so the next one replaces a lost one.
        arrived = list(itertools.islice(self.received, self.seen_by_sender, received))
        if not arrived:
            return
        self.seen_by_sender = received
        self.acked.update(arrived)
        self.flight = max(self.flight - len(arrived), 0)
        if self.recover_until < 0:
            if self.window < self.threshold:
                self.window += len(arrived)
            else:
                self.window += len(arrived) / self.window
        self.rto_ms = self.settings.rto_ms(self.rtt_ms)
        self.find_losses(now_ms, newest=max(arrived, key=lambda segment: self.sent_ms[segment]))
        if self.recover_until >= 0 and all(segment in self.acked for segment in range(self.recover_until)):
            self.recover_until = -1
        self.fill(now_ms)
        self.arm(now_ms)

    def find_losses(self, now_ms: float, *, newest: int) -> None:
        """Declare segments lost that three later ones passed, and with RACK others a quarter of a round trip later."""
        passed = sorted(self.acked)[-self.settings.duplicate_acks :]
        if len(passed) >= self.settings.duplicate_acks:
            for segment in self.missing_below(passed[0]):
                if segment not in self.retransmitted:
                    self.declare_lost(now_ms, segment)
        if self.settings.rack:
            for segment in self.missing_below(self.next_new):
                if self.sent_ms[segment] < self.sent_ms[newest]:
                    self.push(now_ms + self.rtt_ms / 4, "reordering", segment)

    def missing_below(self, limit: int) -> list[int]:
        """Return the segments below `limit` that were sent, not acknowledged, and not declared lost."""
        waiting = set(self.lost)
        return [segment for segment in range(limit) if segment not in self.acked and segment not in waiting]

    def declare_lost(self, now_ms: float, segment: int) -> None:
        """Queue a segment for retransmission, and halve the window once in a window of data."""
        resent_since = self.sent_ms[segment] > now_ms - self.rtt_ms
        if segment in self.acked or segment in self.lost or resent_since:
            return
        self.lost.append(segment)
        self.flight = max(self.flight - 1, 0)
        if self.recover_until < 0:
            self.recover_until = self.next_new
            self.threshold = max(self.window / 2, 2.0)
            self.window = self.threshold
        self.fill(now_ms)

    def on_timer(self, now_ms: float, kind: str) -> None:
        if kind == "probe":
            self.probe_allowed = False
            self.transmit(now_ms, self.segments - 1, again=True)
            self.flight -= 1
            self.timer += 1
            self.push(now_ms + self.rto_ms, "timeout", self.timer)
            return
        self.threshold = max(self.window / 2, 2.0)
        self.window = 1.0
        self.flight = 0
        self.recover_until = -1
        self.retransmitted.clear()
        self.lost = [segment for segment in range(self.next_new) if segment not in self.acked]
        self.rto_ms = min(2 * self.rto_ms, 60_000.0)
        self.fill(now_ms)
        self.arm(now_ms)


def send_udp(
    count_bytes: int,
    *,
    rate_bits_per_s: float,
    rtt_ms: float,
    loss: float,
    packet_bytes: int,
    random: np.random.Generator,
) -> tuple[MessageResult, np.ndarray]:
    """Send one message as datagrams of at most `packet_bytes` IP bytes.

    Returns:
        The result, and for each datagram whether it was lost.

    """
    payload = max(packet_bytes - UDP_HEADER_BYTES, 1)
    packets = max(-(-count_bytes // payload), 1)
    lost = random.random(packets) < loss
    duration = (count_bytes + packets * UDP_HEADER_BYTES) * 8e3 / rate_bits_per_s
    result = MessageResult(
        completion_ms=duration + rtt_ms / 2, packets=packets, packets_lost=int(lost.sum()), retransmissions=0
    )
    return result, lost
