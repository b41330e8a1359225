"""The page's section about what was run over a link: where the time of each placement went."""

from html import escape

from isplit.records import PlacementRun, RunsRecord
from isplit.report.markup import code, percent

# What is shown of the time, in its order: name of the bar's part, the timings that it holds, and its style.
_PARTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("device", ("decode_image", "preprocess", "head", "encode", "local"), "run-device"),
    ("link", ("wire", "retry"), "run-link"),
    ("server", ("server",), "run-server"),
)


def run_section(runs: RunsRecord | None, *, number: int) -> str:
    """Return a bar for every placement and a table; nothing where nothing was run."""
    if runs is None or not runs.runs:
        return ""
    longest = max(sum(_times(run).values()) for run in runs.runs) or 1.0
    bars = "".join(_bar(run, longest) for run in runs.runs)
    keys = "".join(f'<span><span class="run-key {style}"></span>{name}</span>' for name, _, style in _PARTS)
    rows = "".join(map(_row, runs.runs))
    return (
        '<section aria-labelledby="runs-title">'
        f'<h2 id="runs-title"><span class="number">Figure {number}</span> Measured over a link</h2>'
        f'<div class="legend">{keys}</div><figure><div class="runs">{bars}</div>'
        f"<figcaption>Median time per image, {escape(runs.link)}: what the device computes, what the bytes take there "
        "and back, and what the server takes. The table has the numbers.</figcaption></figure>"
        '<div class="scroll"><table class="run-table"><thead><tr>'
        '<th scope="col">Placement</th><th scope="col" class="number">Images</th>'
        '<th scope="col" class="number">Accuracy</th><th scope="col" class="number">Bytes</th>'
        '<th scope="col" class="number">Device, ms</th><th scope="col" class="number">Link, ms</th>'
        '<th scope="col" class="number">Server, ms</th><th scope="col" class="number">Total, ms</th>'
        f'<th scope="col" class="number">95 %, ms</th></tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def _times(run: PlacementRun) -> dict[str, float]:
    return {name: sum(run.part_ms.get(part, 0.0) for part in parts) for name, parts, _ in _PARTS}


def _bar(run: PlacementRun, longest: float) -> str:
    times = _times(run)
    spans = "".join(
        f'<span class="{style}" style="width:{100 * times[name] / longest:.2f}%" title="{name} {times[name]:.2f} ms">'
        "</span>"
        for name, _, style in _PARTS
    )
    return (
        f'<div class="run"><span class="run-name">{code(run.placement)}</span><span class="run-bar">{spans}</span>'
        f'<span class="run-total">{run.total_median_ms:.1f}\u00a0ms</span></div>'
    )


def _row(run: PlacementRun) -> str:
    times = _times(run)
    accuracy = "" if run.accuracy is None else percent(run.accuracy.accuracy)
    sent = "" if run.payload_bytes is None else f"{run.payload_bytes.mean:,.0f}"
    numbers = [str(run.images), accuracy, sent, *(f"{times[name]:.2f}" for name, _, _ in _PARTS)]
    numbers += [f"{run.total_median_ms:.2f}", f"{run.total_p95_ms:.2f}"]
    cells = "".join(f'<td class="number">{text}</td>' for text in numbers)
    return f"<tr><td>{code(run.placement)}</td>{cells}</tr>"
