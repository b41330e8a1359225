"""What a plan keeps of its machines' profiles."""

import pytest

from isplit.plan.planner import plan
from isplit.plan.study_facts import StudyFacts
from isplit.records import Execution, ModelPartTime, PlacementMemory, ProfileRecord, TimeFigure
from tests.plan.conftest import plain_link


def figure(median_ms: float) -> TimeFigure:
    return TimeFigure(median_ms=median_ms, p95_ms=2 * median_ms, runs=20)


def test_times_by_hand(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """Each cut has the timed head and tail, or what follows from them; threads and memory are those of the profile."""
    execution = Execution(provider="cpu", threads=3, warm_up_runs=2, runs=20, interleaved=True)
    memory = (PlacementMemory(placement="middle", peak_bytes=90_000_000, baseline_bytes=40_000_000),)
    timed = board.model_copy(
        update={
            "source": "measured",
            "model_fingerprint": facts.model_fingerprint,
            "execution": execution,
            "memory": memory,
            "whole": figure(200.0),
            "heads": (ModelPartTime(start=None, end="middle", time=figure(60.0)),),
        }
    )

    device, server = plan(facts, device=timed, server=cloud, link=plain_link()).machines

    cut = next(cut for cut in device.cuts if cut.cut == "middle")
    assert ("measured", 60.0, "measured", 140.0) == (
        cut.head_source,
        cut.head_ms,
        cut.tail_source,
        pytest.approx(cut.tail_ms),
    )
    others = {cut.head_source for cut in device.cuts if cut.cut != "middle"}
    assert {"estimated"} == others
    assert (200.0, 10.0, execution, memory) == (
        device.whole_ms,
        pytest.approx(device.preprocess_ms),
        device.execution,
        device.memory,
    )
    assert [cut.name for cut in facts.graph.cuts] == [cut.cut for cut in server.cuts]
    assert (0.7, 1.0) == pytest.approx((server.cuts[1].tail_ms, server.whole_ms))
