"""The bars of what was run: device, link and server add up to the longest, and texts are escaped."""

from isplit.records import Accuracy, PayloadBytes, PlacementRun, RunsRecord
from isplit.report.run_section import run_section


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


def test_bars_share_one_scale() -> None:
    """The slowest placement fills the width; the others are drawn to the same scale."""
    record = RunsRecord(
        link="over 2 Mbit/s",
        link_bits_per_s=2_000_000,
        runs=(placement("local", local=20.0), placement("pool1", head=4.0, encode=1.0, wire=3.0, server=2.0)),
    )

    html = run_section(record, number=7)

    assert 'class="run-device" style="width:100.00%"' in html
    assert 'class="run-device" style="width:25.00%" title="device 5.00 ms"' in html
    assert 'class="run-link" style="width:15.00%" title="link 3.00 ms"' in html
    assert 'class="run-server" style="width:10.00%"' in html
    assert "Figure 7" in html
    assert "over 2 Mbit/s" in html
    assert '<td class="number">75.0\u00a0%</td><td class="number">200</td>' in html


def test_nothing_without_runs() -> None:
    """An older study has no such section."""
    assert "" == run_section(None, number=7)
    assert "" == run_section(RunsRecord(link="", link_bits_per_s=None, runs=()), number=7)


def test_names_are_escaped() -> None:
    """A placement's name cannot bring markup into the page."""
    record = RunsRecord(link="a<b", link_bits_per_s=None, runs=(placement("<script>", head=1.0),))

    html = run_section(record, number=1)

    assert "<script>" not in html
    assert "a<b" not in html
