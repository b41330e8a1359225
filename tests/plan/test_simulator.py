"""Simulations: without load they are the plan; with load they follow the laws of queues; losses follow the dice."""

from pathlib import Path

import numpy as np
import pytest

from isplit.errors import InputError
from isplit.plan.packets import FIXED_RTO_TCP
from isplit.plan.planner import plan
from isplit.plan.simulation_settings import SimulationSettings
from isplit.plan.simulator import default_placements, simulate
from isplit.plan.study_facts import StudyFacts
from isplit.records import (
    LinkTrace,
    PlanRecord,
    Power,
    ProfileRecord,
    ScenarioResult,
    SimulationRecord,
    TracePoint,
)
from tests.plan.conftest import plain_link, rates_profile

SPLIT = "middle @ 256B"


@pytest.fixture
def record(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord) -> PlanRecord:
    """Machines without spread, a link without jitter: every request alone takes the planned time."""
    return plan(facts, device=board, server=cloud, link=plain_link())


def run(record: PlanRecord, name: str, **fields: object) -> ScenarioResult:
    settings = SimulationSettings(**fields)  # type: ignore[arg-type]
    return simulate(record, placements=[name], settings=settings).results[0]


@pytest.mark.parametrize("name", ["local", SPLIT, "remote WebP q80"])
def test_alone_a_request_takes_the_planned_time(record: PlanRecord, name: str):
    """One device, a request a minute: mean, median and largest latency are the plan's."""
    result = run(record, name, arrivals="periodic", period_ms=60_000, duration_s=3600)
    planned = record.placement(name)
    assert (60, 60, 0, 0) == (result.requests, result.answered, result.dropped, result.lost)
    assert (planned.latency_ms, planned.latency_ms) == pytest.approx((result.latency.mean_ms, result.latency.max_ms))
    assert 5.0 * planned.latency.head == pytest.approx(
        5.0 * (result.parts_mean_ms["device"] - planned.latency.preprocess - planned.latency.encode), abs=1e-6
    )


def test_energy_is_the_planned_energy(record: PlanRecord):
    """Watts while computing and while waiting, as in the plan."""
    result = run(record, SPLIT, arrivals="periodic", period_ms=60_000, duration_s=600)
    assert record.placement(SPLIT).device_energy_mj == pytest.approx(result.device_energy_mj_mean)
    assert isinstance(record.machines[0].power, Power)


def test_a_busy_device_waits_like_an_md1_queue(record: PlanRecord):
    """A request every 220 ms on average, 110 ms each: a load of a half, which waits half a service time."""
    result = run(record, "local", period_ms=220, duration_s=20_000, seed=3)
    assert 110 * 0.5 / (2 * 0.5) == pytest.approx(result.parts_mean_ms["device_wait"], rel=0.05)
    assert 0.5 == pytest.approx(result.utilisation.device, rel=0.02)


def test_a_full_queue_refuses(record: PlanRecord):
    """Fifty devices that send images to a server of 34 ms each: what does not fit is dropped, and is a miss."""
    result = run(record, "remote WebP q80", devices=50, period_ms=500, duration_s=20, queue_capacity=4, max_batch=1,
                 shared_uplink=False, deadline_ms=10_000.0)  # fmt: skip
    assert result.dropped > 0
    assert result.requests == result.answered + result.dropped + result.lost
    assert result.dropped <= result.deadline_misses
    assert 0.9 < result.utilisation.server <= 1.0


def test_a_shared_uplink_is_slower(record: PlanRecord):
    """Fifty devices that share 1 Mbit/s wait for each other; with a link each they do not."""
    shared = run(record, SPLIT, devices=50, period_ms=200, duration_s=30)
    alone = run(record, SPLIT, devices=50, period_ms=200, duration_s=30, shared_uplink=False)
    assert shared.latency.mean_ms is not None
    assert alone.latency.mean_ms is not None
    assert shared.latency.mean_ms > alone.latency.mean_ms + 1
    assert shared.utilisation.up == pytest.approx(50 * alone.utilisation.up, rel=0.05)


def test_udp_loses_by_the_dice(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """At 5 % loss each way, single packets up and down: 0.95^2 of the splits come back; images need all of theirs."""
    lossy = plan(facts, device=board, server=cloud, link=plain_link(1e8, loss_up=0.05, loss_down=0.05))
    fields: dict[str, object] = {"devices": 20, "period_ms": 500, "duration_s": 500, "transport": "udp"}
    split = run(lossy, SPLIT, **fields)
    assert 20_000 * 0.95**2 == pytest.approx(split.answered, rel=0.01)
    image = run(lossy, "remote WebP q80", packet_bytes=1010, workers=64, queue_capacity=10_000, **fields)
    packets = -(-4009 // (1010 - 28))
    assert image.requests * 0.95 ** (packets + 1) == pytest.approx(image.answered, rel=0.02)
    assert 0 == image.retransmissions


def test_tcp_repeats_what_is_lost(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """Over TCP everything comes back, later; a fixed timeout of 200 ms costs single packets 200 ms."""
    lossy = plan(facts, device=board, server=cloud, link=plain_link(1e8, loss_up=0.1, loss_down=0.0))
    fields: dict[str, object] = {"devices": 10, "period_ms": 1000, "duration_s": 400}
    result = run(lossy, SPLIT, tcp=FIXED_RTO_TCP, **fields)
    assert (result.requests, 0) == (result.answered, result.lost)
    clean = run(plan(facts, device=board, server=cloud, link=plain_link(1e8)), SPLIT, **fields)
    assert result.latency.mean_ms is not None
    assert clean.latency.mean_ms is not None
    # 0.1 of the packets wait 200 ms, a tenth of those 400 ms more, and so on.
    expected = 200 * 0.1 + 400 * 0.01 + 800 * 0.001 + 1600 * 0.0001
    assert expected == pytest.approx(result.latency.mean_ms - clean.latency.mean_ms, rel=0.15)
    assert result.retransmissions == pytest.approx(result.requests * (0.1 + 0.01), rel=0.15)


def test_an_early_exit_answers_on_the_device(record: PlanRecord):
    """Six of ten requests end after the head; they neither send nor wait."""
    result = run(record, SPLIT, period_ms=2000, duration_s=8000, early_exit_share=0.6)
    everything = run(record, SPLIT, period_ms=2000, duration_s=8000)
    assert 0.4 == pytest.approx(result.packets / everything.packets, rel=0.05)
    assert result.latency.p50_ms == pytest.approx(result.parts_mean_ms["device"], rel=0.01)


def slow_and_fast() -> LinkTrace:
    """Ten seconds of 50 Mbit/s, ten of 20 kbit/s."""
    points = [
        TracePoint(time_s=0.0, up_bits_per_s=5e7, down_bits_per_s=5e7, rtt_ms=20.0),
        TracePoint(time_s=10.0, up_bits_per_s=2e4, down_bits_per_s=2e4, rtt_ms=20.0),
    ]
    return LinkTrace(name="steps", points=tuple(points), seconds=20.0)


def test_controllers_follow_the_link(record: PlanRecord):
    """The oracle is never slower than always one placement; the adaptive one is close to it and switches rarely."""
    names = ["local", "middle @ 1024B"]
    trace = slow_and_fast()

    def mean(controller: str) -> ScenarioResult:
        settings = SimulationSettings(
            period_ms=500,
            duration_s=400,
            trace=trace,
            controller=controller,
            arrivals="periodic",  # type: ignore[arg-type]
        )
        return simulate(record, placements=names, settings=settings).results[0]

    static, oracle, adaptive = mean("static"), mean("oracle"), mean("adaptive")
    assert static.latency.mean_ms is not None
    assert oracle.latency.mean_ms is not None
    assert adaptive.latency.mean_ms is not None
    assert oracle.latency.mean_ms < static.latency.mean_ms
    assert oracle.latency.mean_ms <= adaptive.latency.mean_ms < static.latency.mean_ms
    assert (0, 39) == (static.switches, oracle.switches)
    assert 0 < adaptive.switches <= 40
    assert 800 == sum(adaptive.placements.values())


def test_a_simulation_can_be_repeated(record: PlanRecord):
    """The same seed gives the same requests and losses, another seed others."""
    settings = SimulationSettings(devices=5, duration_s=20)
    first, again = (simulate(record, settings=settings) for _ in range(2))
    assert first.results == again.results
    other = simulate(record, settings=SimulationSettings(devices=5, duration_s=20, seed=1))
    assert first.results != other.results
    assert first == SimulationRecord.from_json(first.to_json())
    assert first.estimated


def test_the_plan_may_be_a_file_or_a_study(record: PlanRecord, tmp_path: Path):
    """A directory is asked for plan.json."""
    path = record.save(tmp_path)
    by_file, by_directory = simulate(path), simulate(str(tmp_path))
    assert by_file.results == by_directory.results
    assert default_placements(record) == [result.placement for result in by_file.results]
    with pytest.raises(InputError, match="isplit plan"):
        simulate(tmp_path / "nothing")


def test_too_many_requests_are_refused(record: PlanRecord):
    """Settings that are each within their range may ask for more than memory holds."""
    with pytest.raises(InputError, match="a shorter duration"):
        run(record, "local", devices=10**6, period_ms=1, duration_s=10)


def test_unknown_placements_are_refused(record: PlanRecord):
    """The message lists those that there are."""
    with pytest.raises(InputError, match="it has local, remote WebP q35"):
        run(record, "features.99 @ 1B")


def test_spreads_are_those_of_the_machines(facts: StudyFacts, cloud: ProfileRecord):
    """A device whose 95th percentile is 1.5 times its median shows that in the simulation."""
    rates = rates_profile("board", 10.0).rates
    assert rates is not None
    device = rates_profile("board", 10.0, rates=rates.model_copy(update={"spread": 1.5}))
    record = plan(facts, device=device, server=cloud, link=plain_link())
    result = run(record, "local", arrivals="periodic", period_ms=5000, duration_s=20_000)
    assert result.latency.p50_ms is not None
    assert result.latency.p95_ms is not None
    assert 1.5 == pytest.approx(result.latency.p95_ms / result.latency.p50_ms, rel=0.05)
    assert np.isfinite(result.latency.max_ms or np.nan)
