"""Draw figure 2: the importance of every cut for every class, as a picture with one pixel for each."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from isplit.records import CandidatesRecord, CurveRecord, GraphRecord, StudyRecord
from isplit.report.colours import gradient, heat_ramp
from isplit.report.curve_series import HeatMap, Values, heat_map
from isplit.report.figures.cut_axis import WIDTHS, Width, cut_share, draw_cut_names
from isplit.report.svg import Drawing

LARGEST_ROW_PX, SMALLEST_ROW_PX, TALLEST_PX = 26.0, 2.0, 1600.0
GAPS_UP_TO_CUTS, GAPS_FROM_ROW_PX = 60, 12.0
MANY_CELLS = 20_000
"""With more cells than this, a picture has 64 colours, which take half the bytes and look the same."""
LETTER_PX = 6.2

# Relative importance is drawn as a colour over the page's background, stronger the further it is from the average.
MORE, LESS, MISSING = (214, 52, 71), (46, 118, 214), (139, 148, 160)
_CHARACTERS = {"narrow": 13, "middle": 20, "wide": 24}


@dataclass(frozen=True, kw_only=True)
class HeatScale:
    """The legend of one colouring of the map: CSS colours from left to right, and the values at both ends."""

    colours: str
    low: str
    high: str


@dataclass(frozen=True, kw_only=True)
class ClassesFigure:
    """The figure for a page, the room in pixels around it on each width of screen, and its legends."""

    svg: Markup
    bottom: dict[str, float]
    left: dict[str, float]
    absolute: HeatScale
    relative: HeatScale


def classes_figure(
    study: StudyRecord, graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord
) -> ClassesFigure:
    """Draw the map for the page in both colourings; the page shows one of them."""
    heat = heat_map(study, curve)
    row_px = row_height(len(heat.labels))
    drawing = Drawing(height=row_px * len(heat.labels))
    numbers = {cut.name: number for number, cut in enumerate(graph.cuts)}
    names = [point.cut for point in curve.points]
    for style, picture in (("heat-absolute", _absolute_picture(heat)), ("heat-relative", _relative_picture(heat))):
        if picture:
            drawing.picture(drawing.root, picture, style=style)
    _draw_gaps(drawing, rows=len(heat.labels), columns=len(names), row_px=row_px)
    _draw_peaks(drawing, heat, columns=len(names), row_px=row_px)
    columns = drawing.group(drawing.root, data_part="hits")
    for index, name in enumerate(names):
        width = 1 / len(names)
        column = drawing.rectangle(
            columns, (index * width, 0), width_share=width, height=drawing.height, style="column"
        )
        column.set("data-cut", str(numbers[name]))
    cell = drawing.rectangle(drawing.root, (0, 0), width_share=1 / max(len(names), 1), height=row_px, style="cell")
    cell.set("data-part", "cell")
    left = {width.name: _draw_labels(drawing, heat.labels, row_px=row_px, width=width) for width in WIDTHS}
    places = {name: index for index, name in enumerate(names)}
    ranked = [places[candidate.cut] for candidate in candidates.candidates if candidate.cut in places]
    bottom = draw_cut_names(drawing, names, ranked=ranked, top=drawing.height, pad=0.5)
    return ClassesFigure(
        svg=drawing.fluid_svg(identity="classes-drawing"),
        bottom=bottom,
        left=left,
        absolute=_absolute_scale(heat),
        relative=_relative_scale(heat),
    )


def row_height(classes: int) -> float:
    """Return the height of a class's row in pixels: a thousand classes still fit a page."""
    return min(LARGEST_ROW_PX, max(SMALLEST_ROW_PX, TALLEST_PX / max(classes, 1)))


def _draw_labels(drawing: Drawing, labels: tuple[str, ...], *, row_px: float, width: Width) -> float:
    """Draw as many class names as there is room for, and return the width of the longest in pixels."""
    every = -(-12 // int(row_px)) if row_px < 12 else 1
    group = drawing.group(drawing.root, data_width=width.name)
    longest = 0
    for row in range(0, len(labels), every):
        # Class names are cut at their end, because their start distinguishes them; cuts are distinguished by their
        # end.
        characters = _CHARACTERS[width.name]
        label = labels[row] if len(labels[row]) <= characters else labels[row][: characters - 1] + "…"
        longest = max(longest, len(label))
        drawing.text(group, (0, (row + 0.5) * row_px), label, "label", shift=(-8, 4), anchor="end")
    return LETTER_PX * longest + 18


def _draw_gaps(drawing: Drawing, *, rows: int, columns: int, row_px: float) -> None:
    """Draw lines between the cells where they are large enough."""
    if row_px >= GAPS_FROM_ROW_PX:
        for row in range(1, rows):
            drawing.line(drawing.root, (0, row * row_px), (1, row * row_px), "gap")
    if columns <= GAPS_UP_TO_CUTS:
        for column in range(1, columns):
            drawing.line(drawing.root, (column / columns, 0), (column / columns, drawing.height), "gap")


def _draw_peaks(drawing: Drawing, heat: HeatMap, *, columns: int, row_px: float) -> None:
    group = drawing.group(drawing.root, data_series="peaks")
    for row, peak in enumerate(heat.peaks):
        if peak is not None:
            place = (cut_share(peak, columns, pad=0.5), (row + 0.5) * row_px)
            drawing.mark(group, "peak" if row_px >= GAPS_FROM_ROW_PX else "point", place, "peak")


# ---- pictures ----


def _values(rows: tuple[Values, ...]) -> NDArray[np.float64]:
    """Return the values as an array, with NaN for what is missing."""
    return np.array([[np.nan if value is None else value for value in row] for row in rows], float)


def _absolute_limits(heat: HeatMap) -> tuple[float, float]:
    known = [value for row in heat.absolute for value in row if value is not None] or [0.0]
    return min(known), max(known)


def _relative_limit(heat: HeatMap) -> float:
    return max([0.01, *(abs(value) for row in heat.relative for value in row if value is not None)])


def _absolute_picture(heat: HeatMap) -> str:
    low, high = _absolute_limits(heat)
    places = (_values(heat.absolute) - low) / max(high - low, 1e-12)
    opaque = np.concatenate([heat_ramp(), np.full((256, 1), 255, np.uint8)], axis=1)
    return _picture(places, opaque)


def _relative_picture(heat: HeatMap) -> str:
    limit = _relative_limit(heat)
    shares = np.linspace(-1, 1, 256)
    colours = np.where(shares[:, None] > 0, [MORE], [LESS])
    strength = np.rint(255 * np.abs(shares) ** 0.8)[:, None]
    return _picture((_values(heat.relative) / limit + 1) / 2, np.concatenate([colours, strength], 1).astype(np.uint8))


def _picture(places: NDArray[np.float64], ramp: NDArray[np.uint8]) -> str:
    """Return places in [0, 1] on a ramp of 256 colours (red, green, blue, opacity) as a PNG in a data URI.

    The first colour of the picture's own palette stands for what is missing.
    """
    if not places.size:
        return ""
    levels = 255 if places.size <= MANY_CELLS else 64
    indices = np.where(np.isnan(places), 0, 1 + np.rint((levels - 1) * np.nan_to_num(places).clip(0, 1)))
    steps = ramp[np.linspace(0, 255, levels).round().astype(int)]
    palette = np.concatenate([[(*MISSING, 130)], steps]).astype(np.uint8)
    picture = Image.fromarray(indices.astype(np.uint8)).convert("P")
    picture.putpalette(palette[:, :3].tobytes())
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True, transparency=palette[:, 3].tobytes())
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


# ---- legends ----


def _absolute_scale(heat: HeatMap) -> HeatScale:
    low, high = (f"{value:.2f}".replace("-", "−") for value in _absolute_limits(heat))
    return HeatScale(colours=gradient(heat_ramp()), low=low, high=high)


def _relative_scale(heat: HeatMap) -> HeatScale:
    ratio = 10 ** _relative_limit(heat)
    less, more = (f"rgb({red} {green} {blue})" for red, green, blue in (LESS, MORE))
    return HeatScale(colours=f"{less}, transparent, {more}", low=f"{1 / ratio:.2g} ×", high=f"{ratio:.2g} ×")
