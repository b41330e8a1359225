"""The curve as a figure for a paper: importance above size, as SVG with its text left as text."""

import io
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

from isplit.errors import needs_extra
from isplit.records import CandidatesRecord, CurveRecord, GraphRecord, StudyRecord
from isplit.report.plots import (
    CurveSeries,
    MarkKind,
    SizeSeries,
    curves,
    labelled_ticks,
    method_label,
    short_name,
    sizes,
    value_range,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_IN, HEIGHT_IN = 7.0, 4.6

CURVE_COLOUR, STAR_COLOUR, SIZE_COLOUR, GRID_COLOUR, TEXT_COLOUR = "#1d4f91", "#c2410c", "#4b5563", "#e5e7eb", "#1f2937"

# Fixed ids and no date: the same records give the same bytes. DejaVu Sans comes with matplotlib, so the layout is the
# same on every machine; a viewer without it falls back to the next family.
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "isplit",
    "font.family": ["DejaVu Sans"],
    "font.size": 8.0,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": TEXT_COLOUR,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.color": TEXT_COLOUR,
    "xtick.color": TEXT_COLOUR,
    "ytick.color": TEXT_COLOUR,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}

_MARKS: dict[MarkKind, tuple[str, str, dict[str, Any]]] = {
    "maximum": ("local maximum", "*", {"s": 90, "facecolor": STAR_COLOUR, "edgecolor": "white", "linewidth": 0.6}),
    "unsettled": ("maximum, not settled", "*", {"s": 80, "facecolor": "white", "edgecolor": STAR_COLOUR}),
    "size": ("found by size", "D", {"s": 28, "facecolor": "white", "edgecolor": STAR_COLOUR}),
    "trend": ("above the trend", "^", {"s": 34, "facecolor": "white", "edgecolor": STAR_COLOUR}),
}


def curve_svg(study: StudyRecord, graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord) -> bytes:
    """Draw the all-classes curve with its candidates above the size of what crosses, 7 inches wide.

    The same records give the same bytes (with one version of matplotlib). No global state of matplotlib is changed.

    Raises:
        MissingExtraError: matplotlib is not installed.

    """
    with needs_extra("design"):
        from matplotlib import rc_context
        from matplotlib.figure import Figure

    series, names = curves(study, curve, candidates)[0], [point.cut for point in curve.points]
    with rc_context(_STYLE):  # pyright: ignore[reportArgumentType]
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1.7, 1.0])
        for axes in (upper, lower):
            axes.grid(axis="y", color=GRID_COLOUR, linewidth=0.6)
            axes.set_axisbelow(True)
        _draw_importance(upper, series, method_label(curve.method))
        _draw_sizes(lower, sizes(graph, curve))
        _label_cuts(lower, names, series)
        title = f"{study.model.spec} on {study.data.spec}, {curve.images:,} images"
        upper.set_title(_literal(title), fontsize=8.5, loc="left", pad=18)
        figure.align_ylabels([upper, lower])
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": "isplit", "Title": title})
    return file.getvalue()


def _draw_importance(axes: "Axes", series: CurveSeries, label: str) -> None:
    xs = range(len(series.log10))
    ys, lows, highs = (_with_nan(values) for values in (series.log10, series.low, series.high))
    axes.fill_between(xs, lows, highs, color=CURVE_COLOUR, alpha=0.16, linewidth=0, label="± 2 standard errors")
    axes.plot(xs, ys, color=CURVE_COLOUR, linewidth=1.4, marker="o", markersize=_dot(series.log10))
    for kind, (legend, marker, style) in _MARKS.items():
        places = [mark.index for mark in series.marks if mark.kind == kind and series.log10[mark.index] is not None]
        if places:
            heights = [ys[index] for index in places]
            axes.scatter(places, heights, marker=marker, zorder=4, label=legend, **style)
    for mark in series.marks:
        if series.log10[mark.index] is not None:
            at = (mark.index, ys[mark.index])
            axes.annotate(str(mark.rank), at, xytext=(0, 6), textcoords="offset points", ha="center", fontsize=7)
    axes.set_ylim(value_range(series))
    axes.set_ylabel(_literal(f"log₁₀ {label}"))
    # Between the title and the axes, where no curve can be.
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.01, 0.985),
        ncols=5,
        frameon=False,
        fontsize=7,
        columnspacing=1.4,
        borderpad=0,
    )


def _draw_sizes(axes: "Axes", series: SizeSeries) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.plot(
        range(len(series.kib)), series.kib, color=SIZE_COLOUR, linewidth=1.2, marker="o", markersize=_dot(series.kib)
    )
    axes.set_yscale("log")
    for name, kib in (("input, fp32", series.input_fp32_kib), ("input, uint8", series.input_uint8_kib)):
        axes.axhline(kib, color=SIZE_COLOUR, linewidth=0.8, linestyle=(0, (4, 3)))
        # Outside the axes, so that the words never lie on the curve.
        axes.annotate(
            f"{name}\n{kib:,.4g} KiB",
            (1.0, kib),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=6.5,
        )
    low, high = axes.get_ylim()
    if floor(log10(high)) - ceil(log10(low)) < 1:  # fewer than two powers of ten would say nothing about the scale
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    # Plain numbers: mathtext would write its powers of ten in another font.
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("KiB per image")


def _label_cuts(axes: "Axes", names: list[str], series: CurveSeries) -> None:
    """Name as many cuts as fit; the candidates come first, best first."""
    font_pt = 7.0 if len(names) <= 40 else 6.0
    room = int((WIDTH_IN - 1.3) * 72 / (font_pt + 2.5))
    ranked = sorted(series.marks, key=lambda mark: mark.rank or 0)
    ticks = labelled_ticks(len(names), first=[mark.index for mark in ranked], room=room)
    labels = [_literal(short_name(names[tick], limit=24)) for tick in ticks]
    few_and_short = len(ticks) <= 12 and max(map(len, labels), default=0) <= 9
    axes.set_xticks(ticks, labels, rotation=0 if few_and_short else 90, fontsize=font_pt)
    axes.set_xlim(-0.6, len(names) - 0.4)


def _dot(values: tuple[float | None, ...]) -> float:
    """Return the diameter of a point, in points of 1/72 inch; many cuts need small ones."""
    return 2.6 if len(values) <= 60 else 1.5


def _literal(text: str) -> str:
    """Keep matplotlib from reading dollar signs as mathematics."""
    return text.replace("$", r"\$")


def _with_nan(values: tuple[float | None, ...]) -> list[float]:
    """Return the values with NaN at each gap, which matplotlib leaves out."""
    return [float("nan") if value is None else value for value in values]
