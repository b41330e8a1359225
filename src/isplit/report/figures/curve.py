"""Draw figure 1: importance along the network above the size of the crossing tensors, for page, paper and notebook."""

from dataclasses import dataclass
from math import log10

from markupsafe import Markup

from isplit.records import CandidatesRecord, CurveRecord, GraphRecord, StudyRecord
from isplit.report.colours import NOTEBOOK
from isplit.report.curve_series import (
    CurveSeries,
    Mark,
    MarkKind,
    SizeSeries,
    Values,
    curves,
    method_label,
    sizes,
    value_range,
)
from isplit.report.figures.axes import Scale, draw_levels, draw_upright_title
from isplit.report.figures.cut_axis import cut_share, draw_cut_names
from isplit.report.scales import even_ticks, log_ticks
from isplit.report.svg import Drawing, Margins, Point, Shape

MARKS: dict[MarkKind, tuple[str, str, str]] = {
    "maximum": ("star", "maximum", "candidate: local maximum"),
    "unsettled": ("star", "hollow", "candidate: maximum, not settled"),
    "size": ("diamond", "hollow", "candidate: found by size"),
    "trend": ("triangle", "hollow", "candidate: above the trend"),
    "class-maximum": ("circle", "class-maximum", "highest interior maximum of the class"),
}
"""The symbol, the style and the meaning of each kind of mark."""

MANY_CUTS = 60
"""With more cuts than this, the points are drawn small."""
GUIDED_RANKS = 3
"""The number of candidates with lines down to their sizes."""
LETTER_PX = 6.2
"""The mean width of a letter at 11 px, to lay out a legend."""


@dataclass(frozen=True, kw_only=True)
class CurveLayout:
    """The positions of the two panels, in pixels from the top of the drawing."""

    upper_top: float
    upper_height: float
    lower_top: float
    lower_height: float

    @property
    def bottom(self) -> float:
        """The lower end of the lower panel."""
        return self.lower_top + self.lower_height


PAGE_LAYOUT = CurveLayout(upper_top=14, upper_height=330, lower_top=384, lower_height=170)
PAPER_LAYOUT = CurveLayout(upper_top=0, upper_height=210, lower_top=236, lower_height=110)
PAPER_WIDTH = 672.0
"""7 inches at 96 pixels to the inch."""
NOTEBOOK_WIDTH = 700.0
NOTEBOOK_LAYOUT = CurveLayout(upper_top=14, upper_height=190, lower_top=228, lower_height=90)


@dataclass(frozen=True, kw_only=True)
class CurveFigure:
    """The figure for a page, and the room in pixels that the names below it need on each width of screen."""

    svg: Markup
    bottom: dict[str, float]


def shown_range(series: CurveSeries, overall: CurveSeries) -> tuple[float, float]:
    """Return the limits of the upper axis: a class is shown together with the curve of all classes."""
    series_range, reference = value_range(series), value_range(overall)
    return min(series_range[0], reference[0]), max(series_range[1], reference[1])


def curve_figure(
    study: StudyRecord, graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord
) -> CurveFigure:
    """Draw the curve of all classes for the page; a script draws the other curves into the same figure."""
    drawing = Drawing(height=PAGE_LAYOUT.bottom)
    bottom = _draw(drawing, PAGE_LAYOUT, graph, curve, curves(study, curve, candidates)[0])
    names = [cut.name for cut in graph.cuts]
    group = drawing.group(drawing.root, data_part="hits")
    count = len(curve.points)
    for index, point in enumerate(curve.points):
        place = cut_share(index, count)
        hit = drawing.line(group, (place, PAGE_LAYOUT.upper_top), (place, PAGE_LAYOUT.bottom), "spike")
        hit.set("data-cut", str(names.index(point.cut)))
        hit.set("data-index", str(index))
    return CurveFigure(svg=drawing.fluid_svg(identity="curve-drawing"), bottom=bottom)


def curve_svg(study: StudyRecord, graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord) -> bytes:
    """Draw the all-classes curve with its candidates above the size of the crossing tensors, as a file 7 inches wide.

    The same records give the same bytes. Texts stay texts, so that an editor can change them.
    """
    title = f"{study.model.spec} on {study.data.spec}, {curve.images:,} images"
    series = curves(study, curve, candidates)[0]
    drawing = Drawing(width=PAPER_WIDTH - 54 - 78, height=PAPER_LAYOUT.bottom)
    bottom = _draw(drawing, PAPER_LAYOUT, graph, curve, series)
    drawing.text(drawing.root, (0, 0), title, "title", shift=(-46, -34))
    _draw_keys(drawing, series, left=-46, top=-16)
    margins = Margins(left=54, right=78, top=50, bottom=bottom["fixed"] + 4)
    svg = drawing.fixed_svg(margins=margins, for_paper=True, font_family="DejaVu Sans, Arial, sans-serif", title=title)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{svg}\n'.encode()


def notebook_svg(study: StudyRecord, graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord) -> Markup:
    """Draw the all-classes curve as an element for a notebook, which has neither the style sheet nor the scripts."""
    series = curves(study, curve, candidates)[0]
    drawing = Drawing(width=NOTEBOOK_WIDTH - 58 - 84, height=NOTEBOOK_LAYOUT.bottom, theme=NOTEBOOK)
    bottom = _draw(drawing, NOTEBOOK_LAYOUT, graph, curve, series)
    _draw_keys(drawing, series, left=0, top=-4)
    margins = Margins(left=58, right=84, top=18, bottom=bottom["fixed"] + 4)
    title = f"Importance and size at each cut of {study.model.spec}"
    return drawing.fixed_svg(margins=margins, font_family="system-ui, sans-serif", title=title)


def _draw(
    drawing: Drawing, layout: CurveLayout, graph: GraphRecord, curve: CurveRecord, series: CurveSeries
) -> dict[str, float]:
    """Draw both panels and the names below them; return the room that the names need."""
    ranked = [mark.index for mark in sorted(series.marks, key=lambda mark: mark.rank or 0)]
    _draw_sizes(drawing, layout, sizes(graph, curve))
    _draw_importance(drawing, layout, series, method_label(curve.method))
    return draw_cut_names(drawing, [point.cut for point in curve.points], ranked=ranked, top=layout.bottom)


# ---- the upper panel ----


def _draw_importance(drawing: Drawing, layout: CurveLayout, series: CurveSeries, method: str) -> None:
    low, high = value_range(series)
    base = layout.upper_top + layout.upper_height
    count = len(series.log10)

    def y(value: float) -> float:
        return base - (value - low) / (high - low) * layout.upper_height

    draw_levels(drawing, drawing.group(drawing.root, data_part="upper-axis"), even_ticks(low, high), y)
    drawing.line(drawing.root, (0, layout.upper_top), (0, base), "axis")
    drawing.line(drawing.root, (0, base), (1, base), "axis")
    draw_upright_title(drawing, f"log₁₀ {method}", layout.upper_top + layout.upper_height / 2)
    guides = drawing.group(drawing.root, data_part="guides")
    for mark in series.marks:
        value = series.log10[mark.index]
        if mark.rank is not None and mark.rank <= GUIDED_RANKS and value is not None:
            share = cut_share(mark.index, count)
            drawing.line(guides, (share, y(value)), (share, base), "guide")
            drawing.line(guides, (share, layout.lower_top), (share, layout.bottom), "guide")
    if drawing.width is None:
        drawing.path(drawing.group(drawing.root, data_part="reference"), [], "reference")
    band = drawing.group(drawing.root, data_part="band", data_series="band")
    drawing.path(band, _outline(series, y), "band", closed=True)
    line = drawing.group(drawing.root, data_part="curve")
    drawing.path(line, _runs(series.log10, y), "curve")
    dots = drawing.group(drawing.root, data_part="dots")
    for index, value in enumerate(series.log10):
        if value is not None:
            drawing.mark(dots, _dot(count), (cut_share(index, count), y(value)), "curve-dot")
    marks = drawing.group(drawing.root, data_part="marks")
    for mark in series.marks:
        _draw_mark(drawing, marks, mark, series, y)


def _draw_mark(drawing: Drawing, group: Shape, mark: Mark, series: CurveSeries, y: Scale) -> None:
    value = series.log10[mark.index]
    if value is None:
        return
    symbol, style, _ = MARKS[mark.kind]
    place = (cut_share(mark.index, len(series.log10)), y(value))
    drawing.mark(group, symbol, place, style, data_series=mark.kind)
    if mark.rank is not None:
        drawing.text(group, place, str(mark.rank), "rank", shift=(0, -12), anchor="middle")


def _runs(values: Values, y: Scale) -> list[list[Point]]:
    """Return the points of a line, in one run for each stretch without a gap."""
    runs: list[list[Point]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((cut_share(index, len(values)), y(value)))
    return [run for run in runs if run]


def _outline(series: CurveSeries, y: Scale) -> list[list[Point]]:
    """Return the band as closed areas, so that nothing is filled across a gap."""
    upper, lower = _runs(series.high, y), _runs(series.low, y)
    return [above + below[::-1] for above, below in zip(upper, lower, strict=True)]


# ---- the lower panel ----


def _draw_sizes(drawing: Drawing, layout: CurveLayout, series: SizeSeries) -> None:
    inputs = (("input, fp32", series.input_fp32_kib), ("input, uint8", series.input_uint8_kib))
    logs = [log10(kib) for kib in (*series.kib, *(kib for _, kib in inputs))]
    pad = 0.08 * max(max(logs) - min(logs), 0.5)
    low, high = min(logs) - pad, max(logs) + pad
    count = len(series.kib)

    def y(value: float) -> float:
        return layout.bottom - (value - low) / (high - low) * layout.lower_height

    draw_levels(drawing, drawing.group(drawing.root, data_part="lower-axis"), log_ticks(low, high), y)
    drawing.line(drawing.root, (0, layout.lower_top), (0, layout.bottom), "axis")
    drawing.line(drawing.root, (0, layout.bottom), (1, layout.bottom), "axis")
    draw_upright_title(drawing, "KiB per image", layout.lower_top + layout.lower_height / 2)
    heights = [y(log10(kib)) for _, kib in inputs]
    # Two lines of words for each; where the lines are close, the words move apart.
    crowded = max(0.0, 27 - abs(heights[1] - heights[0])) / 2
    for (name, kib), height, move in zip(inputs, heights, (-crowded, crowded), strict=True):
        drawing.line(drawing.root, (0, height), (1, height), "input-line")
        drawing.text(drawing.root, (1, height), name, "note", shift=(5, move - 1))
        drawing.text(drawing.root, (1, height), f"{kib:,.4g} KiB", "note", shift=(5, move + 11))
    values: Values = tuple(log10(kib) for kib in series.kib)
    drawing.path(drawing.root, _runs(values, y), "size")
    for index, value in enumerate(values):
        if value is not None:
            drawing.mark(drawing.root, _dot(count), (cut_share(index, count), y(value)), "size-dot")


# ---- both ----


def _draw_keys(drawing: Drawing, series: CurveSeries, *, left: float, top: float) -> None:
    """Draw the legend of a fixed drawing in one row that starts `left` pixels from its area."""
    assert drawing.width is not None
    band = "± 2 standard errors"
    place = (left / drawing.width, top)
    drawing.rectangle(drawing.root, (place[0], top - 4), width_share=16 / drawing.width, height=8, style="band")
    drawing.text(drawing.root, place, band, "tick", shift=(22, 4))
    left += 22 + LETTER_PX * len(band) + 16
    kinds = {mark.kind for mark in series.marks}
    for symbol, style, meaning in (key for kind, key in MARKS.items() if kind in kinds):
        words = meaning.removeprefix("candidate: ")
        drawing.mark(drawing.root, symbol, ((left + 7) / drawing.width, top), style)
        drawing.text(drawing.root, (left / drawing.width, top), words, "tick", shift=(19, 4))
        left += 19 + LETTER_PX * len(words) + 16


def _dot(count: int) -> str:
    return "dot" if count <= MANY_CUTS else "point"
