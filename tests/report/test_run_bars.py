"""The bars of what was run: device, link and server add up to the longest, and texts are escaped."""

from isplit.records import (
    Accuracy,
    CandidatesRecord,
    CurveRecord,
    GraphRecord,
    PayloadBytes,
    PlacementRun,
    RunsRecord,
    StudyRecord,
)
from isplit.report import FurtherRecords, report_html
from isplit.report.run_bars import run_bars


def placement(name: str, **part_ms: float) -> PlacementRun:
    return PlacementRun(
        placement=name,
        images=40,
        accuracy=Accuracy.from_counts(30, 40),
        sources={"split": 40},
        payload_bytes=PayloadBytes.from_lengths([100, 300]),
        total_median_ms=sum(part_ms.values()),
        total_p95_ms=99.0,
        part_ms=part_ms,
    )


def test_a_plan_stands_beside():
    """Where a plan had said how long a placement takes, its figure and the measured one are the last two columns."""
    run = placement("local", local=20.0).model_copy(update={"predicted_ms": 19.0, "from_picture_median_ms": 20.5})
    bars = run_bars(RunsRecord(link="over loopback", link_bits_per_s=None, runs=(run,)))

    assert bars is not None
    assert bars.planned
    assert ("19.0", "20.5") == bars.bars[0].numbers[-2:]


def test_bars_share_one_scale() -> None:
    """The slowest placement fills the width; the others are drawn to the same scale."""
    record = RunsRecord(
        link="over 2 Mbit/s",
        link_bits_per_s=2_000_000,
        runs=(placement("local", local=20.0), placement("pool1", head=4.0, encode=1.0, wire=3.0, server=2.0)),
    )

    bars = run_bars(record)

    assert bars is not None
    local, split = bars.bars
    assert ("local", [1.0, 0.0, 0.0]) == (local.placement, [part.share for part in local.parts])
    assert [("run-device", 5.0, 0.25), ("run-link", 3.0, 0.15), ("run-server", 2.0, 0.1)] == [
        (part.style, part.ms, part.share) for part in split.parts
    ]
    assert ("40", "75.0\u00a0%", "200", "5.00", "3.00", "2.00", "10.00", "99.00") == split.numbers


def test_nothing_without_runs() -> None:
    """An older study has no such section."""
    assert run_bars(None) is None
    assert run_bars(RunsRecord(link="", link_bits_per_s=None, runs=())) is None


def test_page_shows_the_bars_and_escapes_names(
    study: StudyRecord, graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord
) -> None:
    """A placement's name cannot bring markup into the page; the figure's number follows the others."""
    record = RunsRecord(link="a<b", link_bits_per_s=None, runs=(placement("<script>", head=4.0, wire=1.0),))

    html = report_html(study, graph, curve, candidates, FurtherRecords(runs=record))

    assert "<code>&lt;script&gt;</code>" in html
    assert "a&lt;b" in html
    assert 'class="run-device" style="width:80.00%" title="device 4.00 ms"' in html
    assert '<span class="number">Figure 3</span> Measured over a link' in html
