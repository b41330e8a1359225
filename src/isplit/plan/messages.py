"""Send messages of many devices over one direction of a link: queueing, packets, losses and their repair."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isplit.plan.packets import UDP_HEADER_BYTES, TcpPath, TcpSettings, send_tcp
from isplit.plan.queues import Capacity, departures_by_group
from isplit.plan.simulation_settings import SimulationSettings
from isplit.plan.transfer import slow_start_stalls_ms
from isplit.records import LinkRecord, Transport

Values = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class MessagePaths:
    """Describe one direction of a link at the time of each message. Arrays have an entry for each message.

    `up` is the direction. `capacity` is what the link can send over time, for all devices together (`shared`) or for
    each device alone. `rates` are the rates in bit/s at which repairs run, and `loss` the shares of packets lost.
    """

    up: bool
    capacity: Capacity
    shared: bool
    device: Indices
    rtt_ms: Values
    jitter_ms: float
    loss: Values
    rates: Values
    transport: Transport
    packet_bytes: int
    tcp: TcpSettings


@dataclass(frozen=True, kw_only=True)
class Messages:
    """Hold the outcome of messages. Entries of messages that were not sent are 0, and their arrival is NaN."""

    arrival_ms: Values
    serialisation_ms: Values
    packets: Indices
    packets_lost: Indices
    retransmissions: Indices


class TransferSampler(Protocol):
    """Send a message several times, and return the milliseconds and the received bytes of each run."""

    def __call__(
        self,
        count_bytes: int,
        link: LinkRecord,
        *,
        up: bool,
        transport: Transport,
        tcp: TcpSettings,
        packet_bytes: int | None,
    ) -> tuple[Values, Values]:
        """Run the transfers."""
        ...


Samples = Callable[[int, bool], tuple[Values, Values]]
"""Maps a message's bytes and direction to the milliseconds and the received bytes of its runs."""


def draw_from(sampler: TransferSampler, link: LinkRecord, settings: SimulationSettings) -> Samples:
    """Return a function that runs each size of message once and remembers it."""
    known: dict[tuple[int, bool], tuple[Values, Values]] = {}

    def samples(count_bytes: int, up: bool) -> tuple[Values, Values]:
        if (count_bytes, up) not in known:
            known[count_bytes, up] = sampler(
                count_bytes,
                link,
                up=up,
                transport=settings.transport or "tcp",
                tcp=settings.tcp,
                packet_bytes=settings.packet_bytes,
            )
        return known[count_bytes, up]

    return samples


def send_messages(
    ready_ms: Values,
    count_bytes: Values,
    paths: MessagePaths,
    sent: Mask,
    random: np.random.Generator,
    *,
    samples: Samples | None = None,
) -> Messages:
    """Send the messages in `sent` when they are ready, first come first served, and return when they arrive.

    With `samples`, the losses and the time beyond the serialisation are drawn from these samples.
    """
    total = len(ready_ms)
    who = np.flatnonzero(sent)
    result = Messages(
        arrival_ms=np.full(total, np.nan),
        serialisation_ms=np.zeros(total),
        packets=np.zeros(total, np.intp),
        packets_lost=np.zeros(total, np.intp),
        retransmissions=np.zeros(total, np.intp),
    )
    # Random numbers are drawn for all messages, so that the messages of another placement see the same ones.
    jitter = paths.jitter_ms / np.sqrt(2) * random.standard_normal(total)
    if who.size == 0:
        return result
    header = UDP_HEADER_BYTES if paths.transport == "udp" else paths.tcp.header_bytes
    payload = max(paths.packet_bytes - header, 1)
    packets = np.maximum(np.ceil(count_bytes[who] / payload), 1).astype(np.intp)
    bits = (count_bytes[who] + packets * header) * 8
    left = _leave(ready_ms[who], bits, paths, who)
    lost = random.binomial(packets, paths.loss[who])
    extra = np.zeros(len(who))
    repairs = np.zeros(len(who), np.intp)
    if samples is not None:
        extra, lost = _sampled(count_bytes[who], bits, packets, who, paths, random, samples)
    elif paths.transport == "tcp":
        segment_ms = (payload + header) * 8e3 / paths.rates[who]
        window = paths.tcp.initial_window
        extra = slow_start_stalls_ms(packets.astype(float), segment_ms, paths.rtt_ms[who], initial_window=window)
        for position in np.flatnonzero(lost).tolist():
            index = int(who[position])
            delay, again = _repair(
                int(packets[position]), int(lost[position]), float(count_bytes[index]), index, paths, random
            )
            extra[position] = max(extra[position], delay)
            repairs[position] = again
    way = np.maximum(paths.rtt_ms[who] / 2 + jitter[who], 0.0)
    result.arrival_ms[who] = left + way + extra
    result.serialisation_ms[who] = bits * 1e3 / paths.rates[who]
    result.packets[who] = packets + repairs
    result.packets_lost[who] = lost
    result.retransmissions[who] = repairs
    return result


def _sampled(
    count_bytes: Values,
    bits: Values,
    packets: Indices,
    who: Indices,
    paths: MessagePaths,
    random: np.random.Generator,
    samples: Samples,
) -> tuple[Values, Indices]:
    """Draw the time beyond serialisation and half a round trip, and the packets that never arrived."""
    extra, lost = np.zeros(len(who)), np.zeros(len(who), np.intp)
    for size in np.unique(count_bytes).tolist():
        same = np.flatnonzero(count_bytes == size)
        times, received = samples(round(size), paths.up)
        drawn = random.integers(len(times), size=len(same))
        first = who[same[0]]
        clean = bits[same[0]] * 1e3 / paths.rates[first] + paths.rtt_ms[first] / 2
        extra[same] = np.nan_to_num(times[drawn] - clean, nan=0.0)
        if paths.transport == "udp":
            lost[same] = np.rint((1 - received[drawn] / max(round(size), 1)) * packets[same]).astype(np.intp)
    return np.maximum(extra, 0.0), lost


def _leave(ready_ms: Values, bits: Values, paths: MessagePaths, who: Indices) -> Values:
    """Return when the last bit of each message has left."""
    if paths.shared:
        order = np.argsort(ready_ms, kind="stable")
        left = np.empty(len(ready_ms))
        left[order] = paths.capacity.send(ready_ms[order], bits[order])
        return left
    device = paths.device[who]
    order = np.lexsort((ready_ms, device))
    left = np.empty(len(ready_ms))
    # In units of bits that could have been sent, every device's own link is a queue of rate one.
    virtual = np.interp(ready_ms[order], paths.capacity.time_ms, paths.capacity.bits)
    gone = departures_by_group(virtual, bits[order], device[order])
    left[order] = np.maximum(paths.capacity.when(gone), ready_ms[order])
    return left


def _repair(
    packets: int, lost: int, count_bytes: float, index: int, paths: MessagePaths, random: np.random.Generator
) -> tuple[float, int]:
    """Return the time that lost packets add to a message, including stalls, and the number of repeated packets."""
    first = np.zeros(packets, bool)
    first[random.choice(packets, lost, replace=False)] = True
    rate, rtt_ms = float(paths.rates[index]), float(paths.rtt_ms[index])
    outcome = send_tcp(
        int(count_bytes),
        path=TcpPath(rate_bits_per_s=rate, rtt_ms=rtt_ms, loss=float(paths.loss[index]), mtu_bytes=paths.packet_bytes),
        settings=paths.tcp,
        random=random,
        first_losses=first,
    )
    clean_ms = (count_bytes + packets * paths.tcp.header_bytes) * 8e3 / rate + rtt_ms / 2
    return outcome.completion_ms - clean_ms, outcome.retransmissions
