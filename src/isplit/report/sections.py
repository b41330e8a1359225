"""The parts of the report as HTML. Every text that comes from a record is escaped here."""

from html import escape

from isplit.records import (
    Candidate,
    CandidatesRecord,
    CurveRecord,
    GraphRecord,
    Overlays,
    Ranking,
    Rule,
    StudyRecord,
)
from isplit.report.curve_series import CurveKind, CurveSeries, MarkKind, TableRow
from isplit.report.markup import breakable, code, kib, minus, percent, sortable_head, sortable_row, words
from isplit.report.overlay_images import overlay_rows

_SHOWN_CANDIDATES = 3
_SHOWN_CLASSES = 6

_RULES: dict[Rule, str] = {
    "importance-maximum": "local maximum of the importance",
    "natural-bottleneck": "natural bottleneck",
    "size-minimum": "local minimum of the size",
    "above-trend": "above the trend of the curve",
}
# The table is wide enough already.
_SHORT_RULES: dict[Rule, str] = {
    "importance-maximum": "importance maximum",
    "natural-bottleneck": "natural bottleneck",
    "size-minimum": "size minimum",
    "above-trend": "above trend",
}

_STAR = "M9 0.8 11.1 5.1 15.8 5.8 12.4 9.1 13.2 13.8 9 11.6 4.8 13.8 5.6 9.1 2.2 5.8 6.9 5.1Z"
_LEGEND: dict[MarkKind, tuple[str, str, str]] = {
    "maximum": ("key-full", _STAR, "candidate: local maximum"),
    "unsettled": ("key-hollow", _STAR, "candidate: maximum, not settled"),
    "size": ("key-hollow", "M9 1.5 14.5 7 9 12.5 3.5 7Z", "candidate: found by size"),
    "trend": ("key-hollow", "M9 1.5 15 12.5H3Z", "candidate: above the trend"),
    "class-maximum": (
        "key-class",
        "M9 2.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9Z",
        "highest interior maximum of the class",
    ),
}

# Heading, unit, whether its cells are numbers.
_COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("Depth", "", True),
    ("Cut", "", False),
    ("Shape", "", True),
    ("Size", "KiB, fp32", True),
    ("Size", "× input", True),
    ("Head MACs", "M", True),
    ("Head MACs", "% of all", True),
    ("Head params", "count", True),
    ("Head peak", "MiB", True),
    ("Tail peak", "MiB", True),
    ("{method}", "log<sub>10</sub>", True),
    ("Rank", "", True),
    ("Found by", "", False),
)


# ---- the answer ----


def _found_by(rules: tuple[Rule, ...]) -> str:
    return words([_RULES[rule] for rule in rules])


def warnings(warnings: tuple[str, ...]) -> str:
    """Return the study's warnings as a box, nothing where there are none."""
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    title = "Warning" if len(warnings) == 1 else "Warnings"
    return f'<aside class="warnings" id="warnings"><strong>{title}</strong><ul>{items}</ul></aside>'


def answer(study: StudyRecord, graph: GraphRecord, candidates: CandidatesRecord, method: str) -> str:
    """Return the paragraph that says where to split first, and how good the unsplit network is."""
    base = study.base_accuracy
    accuracy = (
        f"Unsplit, the network answers {percent(base.accuracy)} of {base.images:,} images correctly "
        f"(95\u00a0% interval {100 * base.low:.1f}–{percent(base.high)}; chance {percent(study.chance_accuracy)})."
    )
    if not candidates.candidates:
        return f"<p><strong>No cut stands out</strong>, neither by {method} nor by size. {accuracy}</p>"
    first, *others = candidates.candidates[:_SHOWN_CANDIDATES]
    doubt = " (not settled: more images may move it)" if first.settled is False else ""
    then = f" Next in line: {words([code(other.cut) for other in others])}." if others else ""
    return (
        f"<p><strong>Split after {code(first.cut)} first:</strong> {_found_by(first.found_by)}{doubt}. "
        f"There {kib(first.bytes)} cross per image before any bottleneck, {_ratio(first.bytes, graph)} the fp32 "
        f"input, and the device computes {percent(first.head_mac_share)} of the MACs.{then} {accuracy}</p>"
    )


def _ratio(count_bytes: int, graph: GraphRecord) -> str:
    return f"{count_bytes / graph.input_bytes:.3g}\u00a0×"


def cards(found: tuple[Candidate, ...], graph: GraphRecord, method: str) -> str:
    """Return one card for each of the first candidates."""
    if not found:
        return ""
    return (
        f'<ol class="cards">{"".join(_card(candidate, graph, method) for candidate in found[:_SHOWN_CANDIDATES])}</ol>'
    )


def _card(candidate: Candidate, graph: GraphRecord, method: str) -> str:
    settled = {True: "settled", False: '<span class="unsettled">not settled</span>', None: ""}[candidate.settled]
    score = "–" if candidate.log10_cui is None else minus(f"{candidate.log10_cui:.2f}")
    facts = (
        (f"log<sub>10</sub> {method}", score),
        ("crosses, fp32", kib(candidate.bytes)),
        ("of the fp32 input", _ratio(candidate.bytes, graph)),
        ("MACs on the device", percent(candidate.head_mac_share)),
    )
    return (
        f'<li><span class="place"><span>Candidate {candidate.rank}</span>{settled}</span>'
        f'<span class="cut">{code(candidate.cut)}</span>'
        f'<p class="why">{_found_by(candidate.found_by).capitalize()}</p>'
        f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in facts)}</dl></li>"
    )


def remarks(study: StudyRecord, candidates: CandidatesRecord) -> str:
    """Return what the reader has to know about the ranking, and the ranking of each class subset."""
    lines: list[str] = []
    if candidates.note:
        lines.append(f"<p><strong>Note.</strong> {escape(candidates.note)}</p>")
    if candidates.subsets or candidates.disagreement:
        lines.append(f"<p><strong>Class subsets.</strong> {escape(candidates.disagreement or '')}</p>")
        titles = dict(zip(study.data.classes, study.data.class_titles, strict=True))
        items = "".join(_subset_line(ranking, titles) for ranking in candidates.subsets)
        lines.append(f"<ul>{items}</ul>")
    return f'<div class="remarks" id="remarks">{"".join(lines)}</div>' if lines else ""


def _subset_line(ranking: Ranking, titles: dict[str, str]) -> str:
    shown = [titles.get(name) or name for name in ranking.classes[:_SHOWN_CLASSES]]
    more = len(ranking.classes) - len(shown)
    members = escape(", ".join(shown)) + (f" and {more} more" if more else "")
    chosen = [code(candidate.cut) for candidate in ranking.candidates[:_SHOWN_CANDIDATES]]
    note = f" {escape(ranking.note)}" if ranking.note else ""
    order = ", then ".join(chosen) or "no candidate"
    return f"<li><strong>{escape(ranking.name)}</strong> ({members}): {order}.{note}</li>"


# ---- figures ----


def options(series: tuple[CurveSeries, ...]) -> str:
    """Return the choices of the class menu; a choice's value is the curve's index."""

    def some(kind: CurveKind) -> str:
        chosen = ((index, one.label) for index, one in enumerate(series) if one.kind == kind)
        return "".join(f'<option value="{index}">{escape(label)}</option>' for index, label in chosen)

    groups = (("Subsets", some("subset")), ("Classes", some("class")))
    return some("all") + "".join(f'<optgroup label="{name}">{items}</optgroup>' for name, items in groups if items)


def legend() -> str:
    """Return a key for every kind of mark; figures.js hides those that a curve does not have."""
    return "\n".join(
        f'<span data-kind="{kind}"><svg viewBox="0 0 18 14"><path d="{path}" class="{style}"/></svg>{text}</span>'
        for kind, (style, path, text) in _LEGEND.items()
    )


def curve_caption(curve: CurveRecord, method: str) -> str:
    """Return what figure 1 shows, and what it could not show."""
    gaps = [f"{code(point.cut)} ({point.non_finite:,} images)" for point in curve.points if point.non_finite]
    unknown = f" Not finite, thus left out or with gaps: {words(gaps)}." if gaps else ""
    return (
        f"Above: {method} at each cut, in the order of computation, over {curve.images:,} images. Numbers are ranks, "
        "dotted lines mark the first three; the band is missing where its lower end is not positive. Below: the size "
        "of what crosses, as fp32. A cut above the upper dashed line costs more to send than the raw fp32 input; the "
        f"same input as uint8 is a quarter of it.{unknown}"
    )


def classes_caption(curve: CurveRecord, overall: str) -> str:
    """Return what figure 2 shows."""
    counts = list(curve.images_per_class.values())
    low, high = min(counts, default=0), max(counts, default=0)
    images = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return (
        f"Every class's own curve ({images} images each). Relative to {escape(overall)}, red is more important for "
        "this class than on average, blue less. Grey cells have no finite positive value; end points are never maxima."
    )


# ---- table ----


def table_head(method: str) -> str:
    """Return the headings as buttons, so that sorting works with the keyboard."""
    return sortable_head(tuple((title.format(method=method), unit, number) for title, unit, number in _COLUMNS))


def table_row(row: TableRow) -> str:
    """Return one row; `data-value` holds what a cell sorts by, empty where there is no value."""
    found = ", ".join(_SHORT_RULES[rule] for rule in row.found_by)
    cells: tuple[tuple[object, str, str], ...] = (
        (row.depth, str(row.depth), "number"),
        (row.cut, breakable(row.cut), "cut"),
        (row.elements, escape(row.shape), "number"),
        (row.kib, f"{row.kib:,.1f}", "number"),
        (row.of_input, f"{row.of_input:,.3f}", "number"),
        (row.head_mega_macs, f"{row.head_mega_macs:,.1f}", "number"),
        (row.head_mac_share, f"{100 * row.head_mac_share:.1f}", "number"),
        (row.head_parameters, f"{row.head_parameters:,}", "number"),
        (row.head_peak_mib, f"{row.head_peak_mib:,.2f}", "number"),
        (row.tail_peak_mib, f"{row.tail_peak_mib:,.2f}", "number"),
        (row.log10_value, "–" if row.log10_value is None else minus(f"{row.log10_value:.2f}"), "number"),
        (row.rank, "" if row.rank is None else str(row.rank), "number"),
        (found, found, "found"),
    )
    return sortable_row(cells, style="candidate" if row.rank is not None else "")


def table_caption(graph: GraphRecord) -> str:
    """Return how the figures were counted, and which cuts and operations are missing from them."""
    shape = "×".join(map(str, graph.input_shape))
    lines = [
        f"For one image of {shape} ({kib(graph.input_bytes)} as fp32). MACs are multiply-accumulate operations, "
        f"{graph.macs / 1e6:,.1f} M in the whole model, which has {graph.parameters:,} parameters. Peaks are of live "
        f"activations; parameters are not included. Captured by {escape(graph.captured_by)}."
    ]
    if graph.uncounted:
        lines.append(f"Operations whose MACs are not counted: {escape(', '.join(graph.uncounted))}.")
    if graph.unavailable:
        reasons = "; ".join(f"{code(one.name)}: {escape(one.reason)}" for one in graph.unavailable)
        lines.append(f"Cuts that cannot be made: {reasons}.")
    return " ".join(lines)


# ---- overlays ----


def overlay_section(overlays: Overlays | None, graph: GraphRecord, candidates: CandidatesRecord) -> str:
    """Return the images under each cut's map, the cuts in the order of computation; nothing where there are none."""
    if overlays is None or not overlays.titles or not overlays.maps:
        return ""
    depths = {cut.name: cut.depth for cut in graph.cuts}
    cuts = tuple(sorted(overlays.maps, key=lambda name: depths.get(name, len(depths))))
    ranks = {candidate.cut: candidate.rank for candidate in candidates.candidates}
    head = "".join(_overlay_heading(cut, overlays, ranks.get(cut)) for cut in cuts)
    rows: list[str] = []
    for row in overlay_rows(overlays, cuts=cuts):
        title = escape(row.title)
        cells = "".join(
            f'<td><span class="overlay"><img src="{uri}" alt="{title}: map at {escape(cut)}"></span></td>'
            for cut, uri in zip(cuts, row.maps, strict=True)
        )
        style = f"--image: url({row.image}); --aspect: {row.aspect:.4g}"
        image = f'<td><span class="overlay" role="img" aria-label="{title}: the image"></span></td>'
        small = ' class="pixelated"' if row.pixelated else ""
        rows.append(f'<tr{small} style="{style}"><th scope="row">{title}</th>{image}{cells}</tr>')
    return (
        '<section aria-labelledby="maps-title">'
        '<h2 id="maps-title"><span class="number">Figure 3</span> Where the importance lies</h2>'
        '<div class="scroll bare" role="region" aria-labelledby="maps-title" tabindex="0">'
        f'<table class="overlays" id="overlays"><thead><tr><td></td><th scope="col">image</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="caption">Grad-CAM maps, half transparent over the image, enlarged bilinearly from the grid given '
        'above: 0 <span class="scale"></span> maximum. Each map is scaled by its own maximum, so colours cannot be '
        "compared between maps.</p></section>"
    )


def _overlay_heading(cut: str, overlays: Overlays, rank: int | None) -> str:
    height, width = overlays.maps[cut].shape[1:]
    place = "" if rank is None else f'<span class="grid">candidate {rank}</span>'
    return f'<th scope="col">{code(cut)}<span class="grid">{height}×{width}</span>{place}</th>'


# ---- meaning and provenance ----


def importance_is(curve: CurveRecord, method: str) -> str:
    """Return the start of the sentence that says what the curve shows."""
    target = "correct" if curve.target == "correct" else "predicted"
    what = "the Grad-CAM map [2] of what crosses there" if method == "CUI" else f"measured by the method {method}"
    name = "CUI (cumulated importance)" if method == "CUI" else "Importance"
    return f"{name} at a cut is {what}, taken for each image's {target} class"


def provenance(study: StudyRecord, graph: GraphRecord, curve: CurveRecord) -> str:
    """Return what is needed to repeat the study."""
    model, data, size = study.model, study.data, study.preprocessing
    parts = ", ".join(f"{name} {count:,}" for name, count in data.part_images.items())
    facts = (
        ("Model", f"{code(model.spec)}, {model.parameters:,} parameters, {model.num_outputs:,} outputs"),
        ("Weights", _weights(study)),
        ("Model fingerprint", code(model.fingerprint)),
        ("Data", code(data.spec) + (f", split {escape(data.split)}" if data.split else "")),
        ("Data SHA-256", code(data.sha256)),
        ("Parts (images)", f"{parts}: {escape(data.part_rule)}"),
        (
            "Preprocessing",
            f"{size.image_size[0]}×{size.image_size[1]} px, "
            + (f"shorter side to {size.resize_size} px, " if size.resize_size else "")
            + f"{size.interpolation}, {size.channels} channel{'s' if size.channels > 1 else ''}, "
            f"mean {_numbers(size.mean)}, standard deviation {_numbers(size.std)}",
        ),
        ("Importance", f"{escape(curve.method)}, {curve.target} class, {curve.precision}"),
        ("Images", f"{curve.images:,}; {escape(curve.stopped)}"),
        ("Graph", f"{escape(graph.captured_by)}, {len(graph.cuts):,} cuts"),
        ("Seed", str(study.seed)),
        ("Versions", escape(", ".join([f"isplit {study.isplit_version}", *map(" ".join, study.versions.items())]))),
    )
    return "\n".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)


def _weights(study: StudyRecord) -> str:
    model = study.model
    digest = f", SHA-256 {code(model.weights_sha256)}" if model.weights_sha256 else ""
    return (code(model.weights) if model.weights else "none given") + digest


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
