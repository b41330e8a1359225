"""Make the report: one HTML page that works without a network, on a laptop, on a phone and on paper.

    records ──> series, figures, tables ──> templates/page.html ──> report.html

Python computes the numbers and draws the figures. Templates hold the words. Scripts only describe what the reader
points at, switch between what is there, and sort. Every text from a record is escaped, and a content security policy
prevents other scripts and all requests.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from isplit.plan.opponent import trained_verdict_texts
from isplit.plan.verdict import verdict_texts
from isplit.records import (
    CandidatesRecord,
    CurveRecord,
    GraphRecord,
    Overlays,
    PlanRecord,
    PredictionsRecord,
    RunsRecord,
    SplitRecord,
    StudyRecord,
    TrainedRemote,
    VerificationRecord,
)
from isplit.report.class_tables import MOST_SPLITS, class_tables
from isplit.report.colours import DARK, LIGHT, css_variables, gradient, map_ramp
from isplit.report.curve_data import curve_data
from isplit.report.curve_series import CurveKind, CurveSeries, curves, method_label
from isplit.report.figures.classes import classes_figure
from isplit.report.figures.curve import MARKS, curve_figure
from isplit.report.figures.plan import front_svg, kind_keys, map_svg
from isplit.report.figures.splits import split_figures
from isplit.report.machines import machines_view
from isplit.report.overlay_images import OverlayRow, overlay_rows
from isplit.report.plan_view import PARTS, plan_view
from isplit.report.run_bars import PART_STYLES, run_bars
from isplit.report.split_series import GroupSeries, group_series
from isplit.report.svg import style_sheet, symbol_library
from isplit.report.tables import cuts_table, placements_table
from isplit.report.templating import asset, render
from isplit.report.text import PREDICTOR_NAMES


@dataclass(frozen=True, kw_only=True)
class OverlayHeading:
    """A column of maps: its cut, the grid of its maps, and its rank if it is a candidate."""

    cut: str
    height: int
    width: int
    rank: int | None


@dataclass(frozen=True, kw_only=True)
class OverlaySection:
    """The images under each cut's map, the cuts in the order of computation; `colours` are those of the maps."""

    headings: tuple[OverlayHeading, ...]
    rows: tuple[OverlayRow, ...]
    colours: str


@dataclass(frozen=True, kw_only=True)
class FurtherRecords:
    """The records that a study may have beside its analysis. The page leaves out what is missing.

    `overlays` are importance maps over images. `predictions` are splits before training and compressed images, and
    `trained` are trained splits. `verification` says how well their order had been predicted. `runs` are placements
    that were run over a link. `plan` says where the model should run; it comes first on the page. `remotes` are
    networks that were trained on compressed images, beside which trained splits are judged.
    """

    overlays: Overlays | None = None
    predictions: PredictionsRecord | None = None
    trained: Sequence[SplitRecord] = ()
    verification: VerificationRecord | None = None
    runs: RunsRecord | None = None
    plan: PlanRecord | None = None
    remotes: Sequence[TrainedRemote] = ()


def report_html(
    study: StudyRecord,
    graph: GraphRecord,
    curve: CurveRecord,
    candidates: CandidatesRecord,
    further: FurtherRecords | None = None,
) -> str:
    """Return the whole page as text.

    Args:
        study: The study's record.
        graph: The cuts.
        curve: Their importance.
        candidates: The ranking.
        further: The study's other records.

    """
    further = further or FurtherRecords()
    series = curves(study, curve, candidates)
    method = method_label(curve.method)
    cut_numbers = {cut.name: number for number, cut in enumerate(graph.cuts)}
    overlays = _overlay_section(further.overlays, graph, candidates)
    context: dict[str, object] = {
        "study": study,
        "graph": graph,
        "curve": curve,
        "candidates": candidates,
        "method": method,
        "overall": series[0].label,
        "cut_numbers": cut_numbers,
        "class_titles": dict(zip(study.data.classes, study.data.class_titles, strict=True)),
        "cuts_table": cuts_table(graph, curve, candidates, method=method),
        "overlays": overlays,
        "verifications": further.verification.verifications if further.verification else (),
        "predictor_names": PREDICTOR_NAMES,
        "runs": run_bars(further.runs),
        "run_parts": PART_STYLES,
        **_split_context(further, cut_numbers, has_overlays=overlays is not None),
        **_plan_context(further.plan, cut_numbers),
        **_curve_context(study, graph, curve, candidates, series),
        **_machinery(has_plan=further.plan is not None),
    }
    return render("page.html", context)


def _split_context(further: FurtherRecords, cut_numbers: dict[str, int], *, has_overlays: bool) -> dict[str, object]:
    """Return the context of the sections about splits, and the numbers of the figures from there on."""
    predictions, trained = further.predictions, further.trained
    groups = group_series(predictions, trained, order=list(cut_numbers))
    return {
        "predictions": predictions,
        "trained": trained,
        "verdicts": _verdicts(further, groups),
        "numbers": _numbers(groups, has_overlays=has_overlays),
        "groups": [split_figures(group, number=number, cut_numbers=cut_numbers) for number, group in enumerate(groups)],
        "calibrated": any(group.calibrated for group in groups),
        "class_tables": class_tables(predictions, trained),
        "most_splits": MOST_SPLITS,
        "placements_table": placements_table(predictions, trained, cut_numbers=cut_numbers) if groups else None,
    }


def _plan_context(plan: PlanRecord | None, cut_numbers: dict[str, int]) -> dict[str, object]:
    """Return the context of the plan's section; its script is in the page only if there is a plan."""
    if plan is None:
        return {"plan": None, "machines": None}
    return {
        "machines": machines_view(plan, cut_numbers=cut_numbers),
        "plan": plan_view(plan, cut_numbers=cut_numbers),
        "plan_parts": PARTS,
        "plan_kinds": kind_keys(plan),
        "plan_front": front_svg(plan),
        "plan_map": map_svg(),
    }


def _curve_context(
    study: StudyRecord,
    graph: GraphRecord,
    curve: CurveRecord,
    candidates: CandidatesRecord,
    series: tuple[CurveSeries, ...],
) -> dict[str, object]:
    """Return the context of the sections with figures 1 and 2."""
    kinds: tuple[CurveKind, ...] = ("all", "subset", "class")
    counts = list(curve.images_per_class.values())
    low, high = min(counts, default=0), max(counts, default=0)
    return {
        "curve_figure": curve_figure(study, graph, curve, candidates),
        "curve_data": curve_data(study, graph, curve, candidates),
        "classes_figure": classes_figure(study, graph, curve, candidates),
        "choices": {
            kind: [(index, chosen.label) for index, chosen in enumerate(series) if chosen.kind == kind]
            for kind in kinds
        },
        "marks": MARKS,
        "shown_marks": {mark.kind for mark in series[0].marks},
        "gaps": [point for point in curve.points if point.non_finite],
        "images_per_class": f"{low:,}" if low == high else f"{low:,} to {high:,}",
    }


def _verdicts(further: FurtherRecords, groups: Sequence[GroupSeries]) -> list[tuple[str, str]]:
    """Return whether splitting is worth it, untrained and trained, for every set of classes of which it is known."""
    predictions = further.predictions
    verdicts: list[tuple[str, str]] = []
    for group in groups:
        texts = verdict_texts(predictions, group=group.name) if predictions and predictions.predictions else []
        if predictions or further.remotes:  # else there is no image to compare a trained split with
            texts += trained_verdict_texts(further.trained, further.remotes, predictions, group=group.name)
        if texts:
            verdicts.append((group.name, " ".join(texts)))
    return verdicts


def _numbers(groups: Sequence[GroupSeries], *, has_overlays: bool) -> dict[str, int | None]:
    """Return the numbers of the figures after the second, which depend on the records that are there."""
    first = 4 if has_overlays else 3
    pairs = first + 1 if any(group.pairs for group in groups) else None
    return {
        "overlays": 3,
        "bytes": first,
        "pairs": pairs,
        "split_classes": (pairs or first) + 1,
        "runs": (pairs or first) + 2 if groups else first,
    }


def _overlay_section(
    overlays: Overlays | None, graph: GraphRecord, candidates: CandidatesRecord
) -> OverlaySection | None:
    if overlays is None or not overlays.titles or not overlays.maps:
        return None
    depths = {cut.name: cut.depth for cut in graph.cuts}
    cuts = tuple(sorted(overlays.maps, key=lambda name: depths.get(name, len(depths))))
    ranks = {candidate.cut: candidate.rank for candidate in candidates.candidates}
    headings = (
        OverlayHeading(
            cut=cut, height=overlays.maps[cut].shape[1], width=overlays.maps[cut].shape[2], rank=ranks.get(cut)
        )
        for cut in cuts
    )
    return OverlaySection(
        headings=tuple(headings), rows=overlay_rows(overlays, cuts=cuts), colours=gradient(map_ramp())
    )


# ---- style sheet, scripts and policy ----


def _machinery(*, has_plan: bool) -> dict[str, object]:
    """Return the style sheet, the scripts and their policy. Only these are not escaped, as parts of isplit."""
    names = ("theme", "charts", "curves", "tables", *(("plan",) if has_plan else ()))
    scripts = {name: Markup(asset(f"{name}.js")) for name in names}
    sheet = asset("page.css").replace("/* light */", css_variables(LIGHT)).replace("/* dark */", css_variables(DARK))
    return {
        "scripts": scripts,
        "policy": _policy(tuple(scripts.values())),
        "css": Markup(f"{sheet}\n{style_sheet()}"),
        "symbols": symbol_library(),
    }


def _policy(scripts: tuple[str, ...]) -> str:
    """Allow exactly these scripts, the page's own styles, and images that the page itself contains."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii") for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
