"""Compute the cost of moving payloads over a link, in closed form for many payloads at once.

Without loss the time of a TCP transfer follows Kurose and Ross (Computer Networking, "modelling latency with a dynamic
congestion window"): half a round trip, the serialisation of all packets, and after every window of w segments that is
not the last a stall of max(0, RTT + S - w S), where S is the time of one segment and windows double. With loss, a
transfer is one of a few cases whose probabilities follow from the binomial distribution: nothing lost; a loss that
later segments reveal (about one more round trip); a loss in the last segment, which only the retransmission
timeout repairs. `isplit.plan.packets` simulates the same transfers packet by packet; tests compare both.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isplit.plan.packets import LINUX_TCP, UDP_HEADER_BYTES, TcpSettings
from isplit.records import LinkRecord, Transport
from isplit.records.paired import Z95

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TransferCost:
    """Hold the costs of payloads in arrays with an entry for each: milliseconds, packets, and the share that arrives.

    `serialisation_ms` is the time during which the link is busy, including retransmissions. `whole_share` is the
    probability that the whole payload arrives. `arrived_share` is the expected share of its packets that arrive (1 for
    TCP).
    """

    median_ms: Values
    p95_ms: Values
    mean_ms: Values
    serialisation_ms: Values
    packets: Values
    whole_share: Values
    arrived_share: Values


def transfer_cost(
    payload_bytes: ArrayLike,
    link: LinkRecord,
    *,
    up: bool = True,
    transport: Transport = "tcp",
    warm: bool = True,
    settings: TcpSettings = LINUX_TCP,
    rate_bits_per_s: ArrayLike | None = None,
) -> TransferCost:
    """Return the cost of each payload over the link.

    Args:
        payload_bytes: Bytes handed to TCP or UDP, of any shape. They include the bytes of protocols above TCP.
        link: The link.
        up: Whether payloads travel from the device to the server. Otherwise they travel back.
        transport: TCP (reliable) or UDP (packets may be lost).
        warm: Whether the TCP connection is open already. Otherwise its handshake comes first. Linux resets the window
            after an idle timeout, so a warm connection begins with the initial window too.
        settings: The behaviour of TCP.
        rate_bits_per_s: Rates that replace the link's, broadcast against the payloads.

    """
    counts = np.maximum(np.asarray(payload_bytes, float), 0.0)
    own_rate = link.up_bits_per_s if up else link.down_bits_per_s
    rates = np.asarray(own_rate if rate_bits_per_s is None else rate_bits_per_s, float)
    counts, rates = np.broadcast_arrays(counts, rates)
    loss = link.loss_up if up else link.loss_down
    # Each direction takes half of the round trip's variance.
    jitter_ms = Z95 * link.jitter_ms / np.sqrt(2.0)
    if transport == "udp":
        return _udp(counts, rates, link, loss=loss, jitter_ms=jitter_ms)
    other_loss = link.loss_down if up else link.loss_up
    return _tcp(
        counts, rates, link, loss=loss, other_loss=other_loss, jitter_ms=jitter_ms, warm=warm, settings=settings
    )


def _udp(counts: Values, rates: Values, link: LinkRecord, *, loss: float, jitter_ms: float) -> TransferCost:
    packets = np.maximum(np.ceil(counts / max(link.mtu_bytes - UDP_HEADER_BYTES, 1)), 1.0)
    busy_ms = (counts + packets * UDP_HEADER_BYTES) * 8e3 / rates
    time_ms = busy_ms + link.rtt_ms / 2
    return TransferCost(
        median_ms=time_ms,
        p95_ms=time_ms + jitter_ms,
        mean_ms=time_ms,
        serialisation_ms=busy_ms,
        packets=packets,
        whole_share=(1 - loss) ** packets,
        arrived_share=np.full_like(time_ms, 1 - loss),
    )


def slow_start_stalls_ms(
    segments: Values, segment_ms: Values, rtt_ms: float | Values, *, initial_window: int
) -> Values:
    """Return the time that a sender waits for acknowledgements in slow start, without loss."""
    stalls = np.zeros_like(segment_ms)
    window, sent = float(initial_window), float(initial_window)
    while np.any((sent < segments) & (window * segment_ms < rtt_ms + segment_ms)):
        stalls += np.where(sent < segments, np.maximum(rtt_ms + segment_ms - window * segment_ms, 0.0), 0.0)
        window *= 2
        sent += window
    return stalls


def _tcp(
    counts: Values,
    rates: Values,
    link: LinkRecord,
    *,
    loss: float,
    other_loss: float,
    jitter_ms: float,
    warm: bool,
    settings: TcpSettings,
) -> TransferCost:
    rtt_ms = link.rtt_ms
    payload = settings.segment_bytes(link)
    segments = np.maximum(np.ceil(counts / payload), 1.0)
    segment_ms = (payload + settings.header_bytes) * 8e3 / rates
    busy_ms = (counts + segments * settings.header_bytes) * 8e3 / rates
    stalls_ms = slow_start_stalls_ms(segments, segment_ms, rtt_ms, initial_window=settings.initial_window)
    handshake_ms = 0.0 if warm else settings.handshake_round_trips * rtt_ms
    clean_ms = handshake_ms + rtt_ms / 2 + busy_ms + stalls_ms
    median, p95, mean = clean_ms, clean_ms, clean_ms
    if loss > 0 or (other_loss > 0 and not warm):
        cases = _loss_cases(segments, segment_ms, rtt_ms, loss=loss, settings=settings)
        if not warm:
            lost = 1 - (1 - loss) * (1 - other_loss)
            cases.append((np.full_like(clean_ms, lost), np.full_like(clean_ms, settings.handshake_timeout_ms)))
        extra_50, extra_95, extra_mean = _mixture(cases)
        floor = handshake_ms + rtt_ms / 2 + _sustained_ms(segments, rtt_ms, loss=loss)
        median, p95 = np.maximum(clean_ms + extra_50, floor), np.maximum(clean_ms + extra_95, floor)
        mean = np.maximum(clean_ms + extra_mean, floor)
    return TransferCost(
        median_ms=median,
        p95_ms=p95 + jitter_ms,
        mean_ms=mean,
        serialisation_ms=busy_ms / (1 - loss),
        packets=segments / (1 - loss),
        whole_share=np.ones_like(clean_ms),
        arrived_share=np.ones_like(clean_ms),
    )


def _loss_cases(
    segments: Values, segment_ms: Values, rtt_ms: float, *, loss: float, settings: TcpSettings
) -> list[tuple[Values, Values]]:
    """Return independent delays as pairs of probability and milliseconds."""
    if loss == 0:
        return []
    ones = np.ones_like(segment_ms)
    revealing = 1 if settings.rack else settings.duplicate_acks
    tail = np.minimum(segments, revealing)
    in_tail = 1 - (1 - loss) ** tail
    before_tail = 1 - (1 - loss) ** (segments - tail)
    rto_ms = settings.rto_ms(rtt_ms)
    # The timer restarts with the last acknowledgement, a round trip after the segment before the lost one.
    repair_ms = rto_ms + segment_ms + np.where(segments > 1, rtt_ms, 0.0)
    # Half of the segments after a lost one are on their way while it is repaired.
    in_flight_ms = np.minimum(segments - tail, settings.initial_window) * segment_ms / 2
    detection_ms = rtt_ms / 4 if settings.rack else settings.duplicate_acks * segment_ms
    fast_ms = np.maximum(rtt_ms + detection_ms + segment_ms - in_flight_ms, 0.0)
    # Several windows may each lose a segment. Each such window is repaired once.
    episodes = _loss_episodes(segments - tail, loss=loss, initial_window=settings.initial_window)
    fast_ms = fast_ms * np.where(before_tail > 0, episodes / np.maximum(before_tail, 1e-300), 1.0)
    lost_again = 1 - (1 - loss * loss) ** segments
    return [(in_tail, repair_ms), (before_tail, fast_ms), (lost_again, rto_ms * ones)]


def _loss_episodes(segments: Values, *, loss: float, initial_window: int) -> Values:
    """Return the expected number of windows in slow start that lose at least one of their segments."""
    episodes = np.zeros_like(segments)
    window, sent = initial_window, 0
    while np.any(sent < segments):
        in_window = np.clip(segments - sent, 0, window)
        episodes += 1 - (1 - loss) ** in_window
        sent += window
        window = min(2 * window, 4096)
    return episodes


def _sustained_ms(segments: Values, rtt_ms: float, *, loss: float) -> Values:
    """Return the least time of the segments after the first loss, by the square-root law (Mathis et al., 1997)."""
    if loss == 0:
        return np.zeros_like(segments)
    return np.maximum(segments - 1 / loss, 0.0) * rtt_ms * np.sqrt(2 * loss / 3)


def _mixture(cases: list[tuple[Values, Values]]) -> tuple[Values, Values, Values]:
    """Return the median, the 95th percentile and the mean of a sum of independent delays, each with a probability."""
    shape = cases[0][0].shape
    totals, weights = [np.zeros(shape)], [np.ones(shape)]
    for probability, delay in cases:
        totals = [*totals, *(total + delay for total in totals)]
        weights = [*(weight * (1 - probability) for weight in weights), *(weight * probability for weight in weights)]
    delays, shares = np.stack(totals, axis=-1), np.stack(weights, axis=-1)
    order = np.argsort(delays, axis=-1)
    delays = np.take_along_axis(delays, order, -1)
    reached = np.cumsum(np.take_along_axis(shares, order, -1), -1)
    mean = sum((probability * delay for probability, delay in cases), np.zeros(shape))

    def quantile(level: float) -> Values:
        index = np.minimum((reached < level - 1e-12).sum(-1), delays.shape[-1] - 1)
        return np.take_along_axis(delays, index[..., None], -1)[..., 0]

    return quantile(0.5), quantile(0.95), mean
