"""The report: one HTML page that works without a network, on a laptop and on paper.

Python works out the numbers and the text; the scripts in templates only draw them and sort.
Every text from a record is escaped, and a content security policy lets no other script run and no request leave.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from importlib import resources
from string import Template

from isplit.errors import needs_extra
from isplit.records import (
    CandidatesRecord,
    CurveRecord,
    GraphRecord,
    Overlays,
    PredictionsRecord,
    RunsRecord,
    SplitRecord,
    StudyRecord,
    VerificationRecord,
)
from isplit.report import sections, split_sections
from isplit.report.curve_series import (
    CurveSeries,
    curves,
    heat_map,
    mac_share,
    method_label,
    shape_text,
    sizes,
    table_rows,
    value_range,
)
from isplit.report.run_section import run_section
from isplit.report.split_series import GroupSeries, group_series
from isplit.report.verification_section import verification_section

_UNSCROLLED_ROWS = 40


def report_html(
    study: StudyRecord,
    graph: GraphRecord,
    curve: CurveRecord,
    candidates: CandidatesRecord,
    *,
    overlays: Overlays | None = None,
    predictions: PredictionsRecord | None = None,
    trained: Sequence[SplitRecord] = (),
    verification: VerificationRecord | None = None,
    runs: RunsRecord | None = None,
) -> str:
    """Return the whole page as text.

    Args:
        study: Where it came from.
        graph: The cuts.
        curve: Their importance.
        candidates: The ranking.
        overlays: Importance maps over images.
        predictions: Splits before training, and compressed images.
        trained: Splits that were trained.
        verification: How well their order had been predicted.
        runs: Placements that were run over a link.

    Raises:
        MissingExtraError: plotly is not installed.

    """
    series = curves(study, curve, candidates)
    method = escape(method_label(curve.method))
    built = group_series(predictions, trained, order=[cut.name for cut in graph.cuts])
    shown = sections.overlay_section(overlays, graph, candidates)
    scripts = {"plotly": _plotly_js()}
    scripts |= {f"{name}_js": _asset(f"{name}.js") for name in ("common", "figures", "splits", "table")}
    return Template(_asset("report.html")).substitute(
        scripts,
        policy=_policy(tuple(scripts.values())),
        css=_asset("report.css"),
        isplit_version=escape(study.isplit_version),
        title=escape(f"{study.model.spec} on {study.data.spec} – isplit"),
        headline=f'{escape(study.model.spec)} <span class="on">on {escape(study.data.spec)}</span>',
        warnings=sections.warnings(study.warnings),
        answer=sections.answer(study, graph, candidates, method),
        verdicts=split_sections.verdicts(predictions, built),
        cards=sections.cards(candidates.candidates, graph, method),
        remarks=sections.remarks(study, candidates),
        method=method,
        overall=escape(series[0].label),
        options=sections.options(series),
        legend=sections.legend(),
        curve_caption=sections.curve_caption(curve, method),
        classes_caption=sections.classes_caption(curve, series[0].label),
        tall=" tall" if len(graph.cuts) > _UNSCROLLED_ROWS else "",
        table_head=sections.table_head(method),
        table_rows="\n".join(map(sections.table_row, table_rows(graph, curve, candidates))),
        table_caption=sections.table_caption(graph),
        overlays=shown,
        splits=split_sections.split_sections(predictions, trained, built, first=4 if shown else 3),
        verification=verification_section(verification),
        runs=run_section(runs, number=7 if shown else 6),
        importance_is=sections.importance_is(curve, method),
        provenance=sections.provenance(study, graph, curve),
        data=_json(_drawing(study, graph, curve, series, built)),
    )


# ---- the page's machinery ----


def _asset(name: str) -> str:
    return resources.files("isplit.report").joinpath("templates", name).read_text(encoding="utf-8")


def _plotly_js() -> str:
    with needs_extra("design"):
        from plotly.offline import get_plotlyjs
    # A browser counts line ends as \n when it checks the policy's hash; "</script" would end the element early.
    return get_plotlyjs().replace("\r\n", "\n").replace("</script", "<\\/script")


def _policy(scripts: tuple[str, ...]) -> str:
    """Allow exactly these scripts, styles (plotly adds its own), and images that the page itself holds."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _json(fields: object) -> str:
    """Return JSON that may stand inside a script element: no "<" that could end it or open a comment."""
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _drawing(
    study: StudyRecord,
    graph: GraphRecord,
    curve: CurveRecord,
    series: tuple[CurveSeries, ...],
    built: tuple[GroupSeries, ...],
) -> object:
    """Return what the scripts draw, its numbers rounded to what a screen can show."""
    size = sizes(graph, curve)
    by_name = {cut.name: cut for cut in graph.cuts}
    cuts = [by_name[point.cut] for point in curve.points]
    return _rounded(
        {
            "method": method_label(curve.method),
            "cuts": [
                {
                    "name": cut.name,
                    "shape": shape_text(cut),
                    "kib": kib,
                    "of_input": cut.bytes / graph.input_bytes,
                    "head_mac_share": mac_share(cut, graph),
                }
                for cut, kib in zip(cuts, size.kib, strict=True)
            ],
            "curves": [{**asdict(one), "range": value_range(one)} for one in series],
            "size": asdict(size),
            "heat": asdict(heat_map(study, curve)),
            "splits": [asdict(one) for one in built],
        }
    )


def _rounded(value: object) -> object:
    """Round every number to six significant digits, which halves the page's data."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
