"""Single packets: every recovery by hand, with the losses given."""

import numpy as np
import pytest

from isplit.errors import InputError
from isplit.plan import packets
from isplit.plan.packets import FIXED_RTO_TCP, LINUX_TCP, MessageResult, TcpPath, TcpSettings, send_tcp, send_udp

RANDOM = np.random.default_rng(0)


def send(segments: int, lost: set[int], settings: TcpSettings = LINUX_TCP) -> MessageResult:
    """Send full segments of 12 ms over a round trip of 100 ms, losing some the first time."""
    losses = np.array([segment in lost for segment in range(segments)])
    return send_tcp(
        segments * 1448,
        path=TcpPath(rate_bits_per_s=1e6, rtt_ms=100.0),
        settings=settings,
        random=RANDOM,
        first_losses=losses,
    )


def test_nothing_lost():
    """Four segments: 48 ms and half a round trip."""
    assert send(4, set()) == MessageResult(completion_ms=98.0, packets=4, packets_lost=0, retransmissions=0)


def test_a_single_segment_waits_for_the_timeout():
    """Sent at 12 ms, again 300 ms later (200 and a round trip), there 12 + 50 ms after that."""
    result = send(1, {0})
    assert 12 + 300 + 12 + 50 == pytest.approx(result.completion_ms)
    assert (2, 1, 1) == (result.packets, result.packets_lost, result.retransmissions)


def test_three_later_segments_reveal_a_loss():
    """Of eight the first is lost: the fourth is acknowledged at 148 ms, then the first is sent again."""
    assert 148 + 12 + 50 == pytest.approx(send(8, {0}).completion_ms)


def test_a_later_segment_reveals_a_loss_after_a_quarter_of_a_round_trip():
    """Of two the first is lost: the second is acknowledged at 124 ms, 25 ms later the first is repeated."""
    assert 124 + 25 + 12 + 50 == pytest.approx(send(2, {0}).completion_ms)


def test_without_rack_two_segments_wait_for_the_timeout():
    """The acknowledgement at 124 ms starts the timer of 200 ms anew."""
    assert 124 + 200 + 12 + 50 == pytest.approx(send(2, {0}, FIXED_RTO_TCP).completion_ms)


def test_the_probe_repairs_a_lost_tail():
    """Of two both are lost: the probe at 24 + 204 ms repeats the second, whose acknowledgement reveals the first."""
    result = send(2, {0, 1})
    probe_ms = 24 + 2 * 100 + 4
    assert probe_ms + 12 + 50 + 50 + 25 + 12 + 50 == pytest.approx(result.completion_ms)


def test_timeouts_double():
    """A segment that is lost twice waits 200 ms and then 400 ms."""

    class Losing(np.random.Generator):
        def random(self, *args: object, **kwargs: object) -> float:  # type: ignore[override]
            return next(draws)

    draws = iter([0.0, 0.0, 1.0])
    result = send_tcp(
        1448,
        path=TcpPath(rate_bits_per_s=1e6, rtt_ms=100.0, loss=0.5),
        settings=FIXED_RTO_TCP,
        random=Losing(np.random.PCG64(0)),
    )
    assert 12 + 200 + 12 + 400 + 12 + 50 == pytest.approx(result.completion_ms)
    assert (3, 2, 2) == (result.packets, result.packets_lost, result.retransmissions)


def test_a_link_that_loses_nearly_everything_is_refused(monkeypatch: pytest.MonkeyPatch):
    """A simulation does not run on for ever, and its user hears that the link is the reason."""
    monkeypatch.setattr(packets, "_MOST_EVENTS", 200)
    with pytest.raises(InputError, match=r"the link loses 99\.9999999 % of its packets.*give a link that loses fewer"):
        send_tcp(
            10, path=TcpPath(rate_bits_per_s=1e6, rtt_ms=100.0, loss=0.999999999), settings=LINUX_TCP, random=RANDOM
        )


def test_udp_draws_every_packet():
    """The share of lost datagrams over many messages is the loss; time is that of all packets."""
    random = np.random.default_rng(3)
    results = [
        send_udp(9_820, rate_bits_per_s=1e9, rtt_ms=2.0, loss=0.05, packet_bytes=1010, random=random)
        for _ in range(4000)
    ]
    packets = sum(result.packets for result, _ in results)
    assert 40_000 == packets
    assert 0.05 == pytest.approx(sum(lost.sum() for _, lost in results) / packets, abs=0.004)
    assert (9_820 + 10 * 28) * 8e-6 + 1.0 == pytest.approx(results[0][0].completion_ms)
