"""Pack the curves for the page's script as compressed JSON, so that a page with a thousand classes stays small."""

from isplit.records import CandidatesRecord, CurveRecord, GraphRecord, StudyRecord
from isplit.report.curve_series import CurveSeries, curves, mac_share, method_label, shape_text
from isplit.report.figures.curve import PAGE_LAYOUT, shown_range
from isplit.report.packed import pack, rounded
from isplit.report.scales import even_ticks
from isplit.report.text import kib

FEW_VALUES = 20_000
"""Up to this many values, they keep six digits and errors three; beyond it, three and two, as in the page's text."""


def curve_data(study: StudyRecord, graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord) -> str:
    """Return the curves with what is said about each cut, as JSON compressed by zlib, in base64.

    `v` and `e` are the importance of each cut and its standard error, with null where there is none; `range` and
    `ticks` are the axis of log10, and `marks` are index, kind and rank.
    """
    series = curves(study, curve, candidates)
    digits = (6, 3) if len(series) * len(curve.points) <= FEW_VALUES else (3, 2)
    by_name = {cut.name: (number, cut) for number, cut in enumerate(graph.cuts)}
    crossing = [by_name[point.cut] for point in curve.points]
    content = {
        "method": method_label(curve.method),
        "top": PAGE_LAYOUT.upper_top,
        "height": PAGE_LAYOUT.upper_height,
        "lower_top": PAGE_LAYOUT.lower_top,
        "bottom": PAGE_LAYOUT.bottom,
        "cuts": [
            {
                "name": cut.name,
                "number": number,
                "text": f"{shape_text(cut)}, {kib(cut.bytes)} = {cut.bytes / graph.input_bytes:.3g} × fp32 input\n"
                f"head: {100 * mac_share(cut, graph):.3g} % of the MACs",
            }
            for number, cut in crossing
        ],
        "curves": [_fields(chosen, series[0], digits) for chosen in series],
    }
    return pack(content)


def _fields(series: CurveSeries, overall: CurveSeries, digits: tuple[int, int]) -> dict[str, object]:
    low, high = shown_range(series, overall)
    return {
        "label": series.label,
        "kind": series.kind,
        "v": [rounded(value, digits[0]) for value in series.value],
        "e": [rounded(error, digits[1]) for error in series.stderr],
        "range": [rounded(low, 6), rounded(high, 6)],
        "ticks": [[rounded(tick.value, 6), tick.label] for tick in even_ticks(low, high)],
        "marks": [[mark.index, mark.kind, mark.rank] for mark in series.marks],
    }
