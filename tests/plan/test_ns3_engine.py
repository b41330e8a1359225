"""Messages in ns-3 beside ours; where ns-3 is not installed, only what is said about that."""

import importlib.util

import numpy as np
import pytest

from isplit.errors import MissingExtraError
from isplit.plan.ns3_engine import transfer_with_ns3
from isplit.plan.packets import FIXED_RTO_TCP
from isplit.plan.planner import plan
from isplit.plan.simulation_settings import SimulationSettings
from isplit.plan.simulator import simulate
from isplit.plan.study_facts import StudyFacts
from isplit.plan.transfer import transfer_cost
from isplit.records import LinkRecord, ProfileRecord, Transport
from tests.plan.conftest import plain_link

INSTALLED = importlib.util.find_spec("ns") is not None


@pytest.mark.skipif(INSTALLED, reason="ns-3 is installed")
def test_without_ns3_it_says_what_to_install():
    """The message names the extra."""
    with pytest.raises(MissingExtraError, match=r"isplit\[ns3\]"):
        transfer_with_ns3(1000, plain_link(), tcp=FIXED_RTO_TCP)


@pytest.mark.skipif(not INSTALLED, reason="needs ns-3: pip install 'isplit[ns3]'")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_clean_transfer_takes_as_long_as_ours(transport: Transport):
    """20,000 bytes at 4 Mbit/s and 20 ms, to 2 % (ns-3's link layer adds two bytes to a packet)."""
    link = plain_link(4e6)
    times, received = transfer_with_ns3(20_000, link, transport=transport, tcp=FIXED_RTO_TCP, runs=1)
    assert 20_000 == received[0]
    assert times[0] == pytest.approx(float(transfer_cost(20_000, link, transport=transport).mean_ms), rel=0.02)


def test_another_engine_gives_the_times(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """A simulation draws from the runs of the engine that it is given: here every message takes 500 ms."""
    record = plan(facts, device=board, server=cloud, link=plain_link(1e9, rtt_ms=0.0))

    def slow(
        count_bytes: int, link: LinkRecord, *, up: bool, transport: Transport, tcp: object, packet_bytes: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        return np.full(3, 500.0), np.full(3, float(count_bytes))

    settings = SimulationSettings(arrivals="periodic", period_ms=60_000, duration_s=600)
    result = simulate(record, placements=["middle @ 256B"], settings=settings, sample_with=slow)
    planned = record.placement("middle @ 256B")
    clean = planned.latency_ms - planned.latency.up - planned.latency.down
    assert clean + 1000 == pytest.approx(result.results[0].latency.mean_ms, abs=0.1)
    assert "ns3" == result.engine
