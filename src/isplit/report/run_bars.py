"""Show placements that were run over a link as bars on one scale, divided into the parts of their time."""

from dataclasses import dataclass

from isplit.records import PlacementRun, RunsRecord
from isplit.report.text import percent

# The parts of a bar in their order: name, the timings that it contains, and style.
_PARTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("device", ("decode_image", "preprocess", "head", "encode", "local"), "run-device"),
    ("link", ("wire", "retry"), "run-link"),
    ("server", ("server",), "run-server"),
)
PART_STYLES = tuple((name, style) for name, _, style in _PARTS)
"""The parts of a bar with their styles, for a legend."""


@dataclass(frozen=True, kw_only=True)
class BarPart:
    """A part of a bar: its time in milliseconds, and its share of the longest bar."""

    name: str
    style: str
    ms: float
    share: float


@dataclass(frozen=True, kw_only=True)
class RunBar:
    """A placement's bar, its median time, and its row of the table."""

    placement: str
    parts: tuple[BarPart, ...]
    total_median_ms: float
    numbers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunBars:
    """All placements that were run over a link, which `link` describes; `planned` if a plan is shown beside them."""

    link: str
    bars: tuple[RunBar, ...]
    planned: bool = False


def run_bars(runs: RunsRecord | None) -> RunBars | None:
    """Return a bar for every placement, None where nothing was run."""
    if runs is None or not runs.runs:
        return None
    longest_ms = max(sum(_times(run).values()) for run in runs.runs) or 1.0
    planned = any(run.predicted_ms is not None for run in runs.runs)
    return RunBars(
        link=runs.link, bars=tuple(_bar(run, longest_ms, planned=planned) for run in runs.runs), planned=planned
    )


def _times(run: PlacementRun) -> dict[str, float]:
    return {name: sum(run.part_ms.get(timing, 0.0) for timing in timings) for name, timings, _ in _PARTS}


def _bar(run: PlacementRun, longest_ms: float, *, planned: bool) -> RunBar:
    times = _times(run)
    parts = (
        BarPart(name=name, style=style, ms=times[name], share=times[name] / longest_ms) for name, style in PART_STYLES
    )
    accuracy = "" if run.accuracy is None else percent(run.accuracy.accuracy)
    sent = "" if run.payload_bytes is None else f"{run.payload_bytes.mean:,.0f}"
    numbers = (str(run.images), accuracy, sent, *(f"{ms:.2f}" for ms in times.values()))
    return RunBar(
        placement=run.placement,
        parts=tuple(parts),
        total_median_ms=run.total_median_ms,
        numbers=(
            *numbers,
            f"{run.total_median_ms:.2f}",
            f"{run.total_p95_ms:.2f}",
            *(_beside_plan(run) if planned else ()),
        ),
    )


def _beside_plan(run: PlacementRun) -> tuple[str, str]:
    """Return the plan's latency and the measured one, both counted from the decoded picture."""
    predicted, measured = run.predicted_ms, run.from_picture_median_ms
    return "" if predicted is None else f"{predicted:.1f}", "" if measured is None else f"{measured:.1f}"
