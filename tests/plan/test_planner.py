"""Plans whose numbers can be worked out by hand: latency in parts, memory, and measured times."""

from pathlib import Path

import pytest

from isplit.errors import InputError, StudyError
from isplit.plan.evaluate import Load
from isplit.plan.planner import PlanSettings, plan
from isplit.plan.study_facts import StudyFacts
from isplit.records import (
    MEASURED_WIRE_OVERHEAD,
    ImageTime,
    ModelPartTime,
    PlanRecord,
    ProfileRecord,
    TimeFigure,
)
from tests.plan.conftest import by_hand, plain_link, rates_profile


def test_local_by_hand(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """10 ms for 10,000 pixels, 100 ms for 1 GMAC at 10 GMAC/s; nothing crosses."""
    local = by_hand(facts, board, cloud).placement("local")
    assert (10.0, 100.0, 110.0) == pytest.approx((local.latency.preprocess, local.latency.head, local.latency_ms))
    assert (0.0, 0.0, 1.0) == (local.wire_up_bytes, local.wire_down_bytes, local.device_mac_share)
    assert 0.85 == local.accuracy.accuracy if local.accuracy else None
    assert 5.0 * 110 == pytest.approx(local.device_energy_mj)


def test_a_split_by_hand(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """0.3 GMAC and an encoder on the device, 500 symbols, 250 + 9 + 52 bytes at 1 Mbit/s, 0.7 on the server."""
    split = by_hand(facts, board, cloud).placement("middle @ 256B")
    parts = split.latency
    assert (10.0, 30.1, 0.5) == pytest.approx((parts.preprocess, parts.head, parts.encode))
    assert (250 + 9 + 52) * 8e-3 + 10 == pytest.approx(parts.up)
    assert (0.5, 0.701) == pytest.approx((parts.decode, parts.tail))
    assert (24 + 52) * 8e-3 + 10 == pytest.approx(parts.down)
    assert split.latency_ms == pytest.approx(parts.total)
    assert (250.0, 259.0, 24.0) == (split.payload_bytes, split.wire_up_bytes, split.wire_down_bytes)
    assert (259 + 24) * 86_400 == pytest.approx(split.bytes_per_day)


def test_remote_by_hand(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """WebP takes 18 times the pixels' time to encode, and its bytes carry the protocol's."""
    image = by_hand(facts, board, cloud).placement("remote WebP q80")
    assert (0.0, 180.0, 33.0, 1.0) == pytest.approx(
        (image.latency.head, image.latency.encode, image.latency.decode, image.latency.tail)
    )
    assert (4009.0, 24.0) == (image.wire_up_bytes, image.wire_down_bytes)


def test_wire_bytes_are_never_payload_alone(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """Every placement that sends adds the measured constants of the protocol, and the record says which they were."""
    record = by_hand(facts, board, cloud)
    assert MEASURED_WIRE_OVERHEAD.with_classes(2) == record.wire_overhead
    for placement in record.placements:
        if placement.kind in ("split", "remote"):
            assert placement.payload_bytes + 9 == placement.wire_up_bytes
    assert any("Wire bytes are payload bytes and what the protocol adds" in text for text in record.assumptions)


def test_throughput_and_its_bottleneck(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """The device takes 40.6 ms for an image, the uplink 2.5, the server 1.2: the device limits to 24.6 images/s."""
    throughput = by_hand(facts, board, cloud).placement("middle @ 256B").throughput
    assert ("device", 1e3 / 40.6) == (throughput.bottleneck, pytest.approx(throughput.images_per_s))
    assert 1e3 / ((250 + 9 + 52) * 8e-3) == pytest.approx(throughput.up)


def test_the_95th_percentile_adds_spreads_in_squares(facts: StudyFacts, cloud: ProfileRecord):
    """A device whose times have a 95th percentile of 1.2 times the median, and a link with jitter."""
    rates = rates_profile("board", 10.0).rates
    assert rates is not None
    device = rates_profile("board", 10.0, rates=rates.model_copy(update={"spread": 1.2}))
    record = plan(facts, device=device, server=cloud, link=plain_link(jitter_ms=10.0))
    split = record.placement("middle @ 256B")
    one_way = 1.6448536 * 10 / 2**0.5
    longer = 25 * 8e-3  # the 95th percentile of the payload has 25 bytes more
    expected = ((0.2 * 40.6) ** 2 + one_way**2 + longer**2 + one_way**2) ** 0.5
    assert expected == pytest.approx(split.latency_p95_ms - split.latency_ms)


def test_an_assumed_round_trip_is_named(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """A rate alone as the link is planned with 0 ms, and the answer calls that an assumption."""
    answer = plan(facts, device=board, server=cloud, link="4Mbit/s").answer
    assert "over a link (4 Mbit/s, 0 ms round trip assumed, estimated)" in answer.text
    answer = plan(facts, device=board, server=cloud, link="4Mbit/s,0ms").answer
    assert "over a link (4 Mbit/s, 0 ms, estimated)" in answer.text


def test_the_server_in_the_middle_by_hand(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """After `early` and back at `last`: 5 % and the last 5 % on the device, and both losses."""
    settings = PlanSettings(middle=True)
    placement = plan(facts, device=board, server=cloud, link=plain_link(), settings=settings).placement(
        "early @ 1024B, back at last"
    )
    assert [("board", 0.05), ("cloud", 0.9), ("board", 0.05)] == [
        (segment.machine, pytest.approx(segment.mac_share)) for segment in placement.segments
    ]
    assert 5.1 + 0.062 == pytest.approx(placement.latency.finish)
    assert 1018 + 24 == placement.wire_down_bytes
    assert placement.accuracy is not None
    assert -0.04 == pytest.approx(placement.accuracy.difference)


def test_three_tiers_use_the_machine_in_between(facts: StudyFacts, board: ProfileRecord):
    """A quick edge server and a far cloud: the exact placement is on the table, with its machines."""
    edge, far = rates_profile("edge", 100.0), rates_profile("far", 100_000.0)
    settings = PlanSettings(tiers=((far, plain_link(1e9, rtt_ms=0.2)),))
    record = plan(facts, device=board, server=edge, link=plain_link(1e9, rtt_ms=0.2), settings=settings)
    tiers = [placement for placement in record.placements if placement.kind == "tiers"]
    assert tiers
    best = min(tiers, key=lambda placement: placement.latency_ms)
    assert "far" == best.segments[-1].machine
    assert 1.0 == pytest.approx(sum(segment.mac_share for segment in best.segments))
    assert best.latency_ms == pytest.approx(best.latency.total)


def test_a_model_that_does_not_fit_runs_in_segments(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """40 MB of weights under 107 MB with the process's 83: segments, with the time to load them."""
    record = by_hand(facts, board, cloud, limits={"max_device_memory_bytes": 107_000_000})
    assert "max_device_memory_bytes" in record.placement("local").violates
    (segmented,) = (placement for placement in record.placements if placement.kind == "segmented")
    assert len(segmented.segments) >= 2
    assert (segmented.device_memory_bytes or 0) <= 107_000_000
    assert 10 + 100 + 400 == pytest.approx(segmented.latency_ms)  # 40 MB at 100 MB/s


def test_the_least_memory_is_the_nearest(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """Where no division fits, the one that takes the least memory is on the table, and breaks the limit."""
    record = by_hand(facts, board, cloud, limits={"max_device_memory_bytes": 50_000_000, "hide_image": True})
    (segmented,) = (placement for placement in record.placements if placement.kind == "segmented")
    assert ("max_device_memory_bytes",) == segmented.violates
    local = record.placement("local").device_memory_bytes
    assert 50_000_000 < (segmented.device_memory_bytes or 0) < (local or 0)


def test_udp_says_how_often_an_answer_comes(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """At 10 % loss a request of one packet and its answer arrive with 0.81."""
    settings = PlanSettings(load=Load(transport="udp"))
    lossy = plain_link(loss_up=0.1, loss_down=0.1)
    record = plan(facts, device=board, server=cloud, link=lossy, settings=settings)
    assert 0.81 == pytest.approx(record.placement("middle @ 256B").delivery_share)
    assert 1.0 == record.placement("local").delivery_share


def timed(median_ms: float) -> TimeFigure:
    return TimeFigure(median_ms=median_ms, p95_ms=median_ms, runs=9)


def test_measured_times_are_used_as_they_are(facts: StudyFacts, cloud: ProfileRecord):
    """A timed head of the bundle, a timed image setting and the whole model; what lies between is estimated."""
    device = ProfileRecord(
        isplit_version="0",
        name="board",
        title="board",
        source="measured",
        model_fingerprint="a" * 64,
        whole=timed(120.0),
        preprocess=timed(3.0),
        heads=(
            ModelPartTime(start=None, end="middle", budget="256B", time=timed(41.0)),
            ModelPartTime(start=None, end="late", time=timed(66.0)),
        ),
        images=(ImageTime(format="webp", quality=80, encode=timed(7.0), decode=timed(2.0)),),
    )
    record = plan(facts, device=device, server=cloud, link=plain_link())
    local, image = record.placement("local"), record.placement("remote WebP q80")
    assert (3.0, 120.0, "measured") == (local.latency.preprocess, local.latency.head, local.source)
    assert 7.0 == image.latency.encode
    assert 41.0 == record.placement("middle @ 256B").latency.head
    # The head of `late` without its encoder, and 1 MMAC at 0.12 ms each.
    assert 66.12 == pytest.approx(record.placement("late @ 256B").latency.head)
    assert 66.0 < record.placement("last @ 256B").latency.head < 120.0


def test_a_foreign_profile_is_refused(facts: StudyFacts, cloud: ProfileRecord):
    """Times of another model say nothing about this one."""
    other = ProfileRecord(
        isplit_version="0", name="x", title="x", source="measured", model="torchvision:vgg16",
        model_fingerprint="d" * 64, whole=timed(1.0),
    )  # fmt: skip
    with pytest.raises(InputError, match="measured with another model"):
        plan(facts, device=other, server=cloud, link="4g")


def test_a_study_that_is_none_is_refused(tmp_path: Path):
    """The error of the records goes through, and names the command that makes a study."""
    with pytest.raises(StudyError, match="isplit analyze"):
        plan(tmp_path / "nothing", device="pi4", link="4g")


def test_energy_needs_power(facts: StudyFacts, cloud: ProfileRecord):
    """A profile without watts cannot be planned for energy."""
    device = rates_profile("board", 10.0, power=None)
    with pytest.raises(InputError, match="state watts"):
        plan(facts, device=device, server=cloud, link="4g", settings=PlanSettings(objective="energy"))


def test_a_plan_comes_back_from_json(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """The record is whole: no NaN, and the same after reading."""
    record = by_hand(facts, board, cloud)
    assert record == PlanRecord.from_json(record.to_json())


@pytest.mark.parametrize(("spec", "words"), [("", "neither a preset"), (".", "a directory; `isplit profile .")])
def test_a_device_that_is_no_file(facts: StudyFacts, spec: str, words: str):
    """An empty name is no preset, and a directory is measured first."""
    with pytest.raises(InputError, match=words):
        plan(facts, device=spec)
