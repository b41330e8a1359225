"""Closed forms of transfers: by hand, and beside the simulation of single packets."""

import numpy as np
import pytest

from isplit.plan.links import load_link
from isplit.plan.packets import FIXED_RTO_TCP, LINUX_TCP, TcpPath, send_tcp
from isplit.plan.transfer import slow_start_stalls_ms, transfer_cost
from isplit.records import LinkRecord


def link(text: str, **changes: object) -> LinkRecord:
    return load_link(text, name="--link").model_copy(update=changes)


def test_a_small_payload_takes_its_serialisation_and_half_a_round_trip():
    """948 bytes and 52 of headers at 1 Mbit/s take 8 ms, and 25 ms to get there."""
    cost = transfer_cost([948], link("1Mbit/s,50ms"))
    assert [33.0] == pytest.approx(cost.median_ms.tolist())
    assert [1.0] == cost.packets.tolist()
    assert [8.0] == pytest.approx(cost.serialisation_ms.tolist())


def test_slow_start_by_hand():
    """25 full segments at 12 ms each are three windows of 10, 20: one stall of 1000 + 12 - 10 x 12 ms.

    At 1 Mbit/s a segment of 1,500 bytes takes 12 ms. The first window of 10 takes 120 ms, then the sender waits until
    the first acknowledgement, 1,012 ms after it began. The second window of 20 holds the other 15 segments.
    """
    segments, segment_ms = np.array([25.0]), np.array([12.0])
    assert [892.0] == slow_start_stalls_ms(segments, segment_ms, 1000.0, initial_window=10).tolist()
    cost = transfer_cost([25 * 1448], link("1Mbit/s,1s"))
    assert [500 + 25 * 12 + 892] == pytest.approx(cost.median_ms.tolist())


def test_two_stalls_by_hand():
    """45 segments of 12 ms over 1 s: 10, 20, 15, with stalls of 892 and 1012 - 240 ms."""
    stalls = slow_start_stalls_ms(np.array([45.0]), np.array([12.0]), 1000.0, initial_window=10)
    assert [892.0 + 772.0] == stalls.tolist()


def test_a_first_connection_costs_its_handshake():
    """One more round trip for TCP, two with TLS."""
    slow = link("1Mbit/s,50ms")
    tls = LINUX_TCP.__class__(handshake_round_trips=2)
    assert [83.0] == pytest.approx(transfer_cost([948], slow, warm=False).median_ms.tolist())
    assert [133.0] == pytest.approx(transfer_cost([948], slow, warm=False, settings=tls).median_ms.tolist())


def test_the_direction_decides_which_rate_counts():
    """Down at 8 Mbit/s takes an eighth of up at 1 Mbit/s."""
    both = link("1Mbit/s:8Mbit/s,0ms")
    assert 8.0 == pytest.approx(float(transfer_cost([948], both).median_ms[0]))
    assert 1.0 == pytest.approx(float(transfer_cost([948], both, up=False).median_ms[0]))


def test_jitter_widens_the_95th_percentile():
    """A jitter of 10 ms on the round trip is 10/sqrt(2) on one way, 1.645 of which lie above the median."""
    cost = transfer_cost([948], link("1Mbit/s,50ms", jitter_ms=10.0))
    assert 1.6448536 * 10 / 2**0.5 == pytest.approx(float(cost.p95_ms[0] - cost.median_ms[0]))


def test_udp_loses_by_the_binomial_distribution():
    """Five datagrams at 2 % loss arrive whole with probability 0.98^5, and take no longer for it."""
    lossy, clean = link("1Mbit/s,50ms,2%"), link("1Mbit/s,50ms")
    cost = transfer_cost([5 * 1472], lossy, transport="udp")
    assert 0.98**5 == pytest.approx(float(cost.whole_share[0]))
    assert 0.98 == pytest.approx(float(cost.arrived_share[0]))
    assert [5.0] == cost.packets.tolist()
    assert transfer_cost([5 * 1472], clean, transport="udp").median_ms.tolist() == cost.median_ms.tolist()


def test_a_lost_single_packet_waits_for_the_timeout():
    """At 10 % loss the 95th percentile of one packet is its time and the timeout of 250 ms; its median is not."""
    cost = transfer_cost([948], link("1Mbit/s,50ms,10%"))
    assert (33.0, 33.0 + 250.0 + 12.0) == pytest.approx((float(cost.median_ms[0]), float(cost.p95_ms[0])))


@pytest.mark.parametrize("figures", ["1Mbit/s,50ms", "4Mbit/s,20ms", "20Mbit/s,10ms", "100Mbit/s,50ms", "1Gbit/s,1ms"])
@pytest.mark.parametrize("count", [100, 5_000, 20_000, 100_000])
def test_without_loss_the_closed_form_is_the_simulation(figures: str, count: int):
    """The sum of serialisation and stalls is what single packets take, to a thousandth."""
    clean = link(figures)
    result = send_tcp(
        count,
        path=TcpPath(rate_bits_per_s=clean.up_bits_per_s, rtt_ms=clean.rtt_ms),
        random=np.random.default_rng(0),
    )
    assert result.completion_ms == pytest.approx(float(transfer_cost([count], clean).mean_ms[0]), rel=1e-3)
    assert 0 == result.packets_lost


@pytest.mark.parametrize("figures", ["1Mbit/s,50ms", "4Mbit/s,20ms", "20Mbit/s,10ms"])
@pytest.mark.parametrize(("loss", "count"), [(0.02, 300), (0.02, 5_000), (0.05, 300), (0.05, 5_000)])
def test_with_loss_the_closed_form_is_close_to_the_simulation(figures: str, loss: float, count: int):
    """Mean times of short messages agree within 12 % of the mean over 2,500 simulated ones."""
    lossy = link(f"{figures},{loss}")
    random = np.random.default_rng(1)
    path = TcpPath(rate_bits_per_s=lossy.up_bits_per_s, rtt_ms=lossy.rtt_ms, loss=loss)
    times = [send_tcp(count, path=path, random=random).completion_ms for _ in range(2500)]
    assert np.mean(times) == pytest.approx(float(transfer_cost([count], lossy).mean_ms[0]), rel=0.12)


def test_a_fixed_timeout_is_fixed():
    """Split-Et-Impera's TCP repeats a lost packet after 200 ms whatever the round trip."""
    assert (200.0, 200.0) == (FIXED_RTO_TCP.rto_ms(1.0), FIXED_RTO_TCP.rto_ms(300.0))
    assert (201.0, 500.0) == (LINUX_TCP.rto_ms(1.0), LINUX_TCP.rto_ms(300.0))
