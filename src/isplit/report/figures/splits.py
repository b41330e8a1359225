"""Draw accuracy over bytes, and predicted against measured accuracy, for one set of classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10

from markupsafe import Markup

from isplit.report.colours import SHADES
from isplit.report.figures.axes import Axes, draw_frame, draw_titles
from isplit.report.scales import even_ticks, log_ticks
from isplit.report.split_series import Dot, GroupSeries, Line, Pair
from isplit.report.svg import Drawing, Shape

BYTES_HEIGHT = 420.0
PAIRS_HEIGHT = 400.0


@dataclass(frozen=True, kw_only=True)
class Key:
    """An entry of a legend: the series that it hides and shows, its label, its colour, and its drawing.

    `line` is the style of a line through the entry, "" for none; `symbol` and `style` are those of its mark.
    """

    series: str
    label: str
    shade: int | None
    line: str
    symbol: str
    style: str


@dataclass(frozen=True, kw_only=True)
class SplitFigures:
    """The figures of one set of classes; `pairs` is empty if no split was trained after a prediction."""

    name: str
    bytes: Markup
    keys: tuple[Key, ...]
    pairs: Markup


def split_figures(group: GroupSeries, *, number: int, cut_numbers: dict[str, int]) -> SplitFigures:
    """Draw the figures of one set of classes.

    Args:
        group: Its series.
        number: Of the set of classes, for the names of elements.
        cut_numbers: The number of each cut, by which all figures and tables of a page know it.

    """
    drawing, keys = _draw_bytes(group, cut_numbers)
    pairs = Markup("")
    if group.pairs:
        pairs = _draw_pairs(group, cut_numbers).fluid_svg(identity=f"pairs-drawing-{number}")
    return SplitFigures(
        name=group.name, bytes=drawing.fluid_svg(identity=f"bytes-drawing-{number}"), keys=tuple(keys), pairs=pairs
    )


def shade_number(shade: float) -> int:
    """Return which of the page's colours a place among the cuts has."""
    return round(shade * (SHADES - 1))


# ---- accuracy over bytes ----


def _draw_bytes(group: GroupSeries, cut_numbers: dict[str, int]) -> tuple[Drawing, list[Key]]:
    drawing, axes = Drawing(height=BYTES_HEIGHT), _bytes_axes(group)
    draw_frame(drawing, axes, log_ticks(axes.left, axes.right), even_ticks(axes.low, axes.high))
    draw_titles(drawing, "bytes per image, mean (logarithmic)", "accuracy, %")
    if group.whole is not None:
        low, high = axes.bar(group.whole.low, group.whole.high)
        drawing.rectangle(drawing.root, (0, high), width_share=1, height=low - high, style="whole-band")
        height = axes.y(group.whole.accuracy)
        drawing.line(drawing.root, (0, height), (1, height), "whole")
    keys = _draw_images(drawing, axes, group)
    for index, line in enumerate(group.lines):
        keys.append(_draw_line(drawing, axes, line, series=f"line-{index}", number=cut_numbers[line.cut]))
    for index, line in enumerate(group.trained):
        keys.append(_draw_trained(drawing, axes, line, series=f"trained-{index}", number=cut_numbers[line.cut]))
    if group.whole is not None:
        words = f"local, whole model: {group.whole.accuracy:.1f} %"
        drawing.text(drawing.root, (0, axes.y(group.whole.accuracy)), words, "whole-note", shift=(6, -6))
    return drawing, keys


def _bytes_axes(group: GroupSeries) -> Axes:
    """Return limits that show all splits; images far below them (such as quality 5) may lie outside the figure."""
    shown = [dot for line in (*group.lines, *group.trained) for dot in line.dots]
    shown += [group.images[index] for index in group.efficient]
    logs = [log10(dot.bytes) for dot in (*shown, *group.images)]
    pad = 0.06 * max(max(logs) - min(logs), 0.5)
    ends = [end for dot in shown for end in (dot.accuracy - dot.below, dot.accuracy + dot.above)]
    if group.whole is not None:
        ends += [group.whole.low, group.whole.high]
    low, high = max(0.0, min(ends)), min(100.0, max(ends))
    room = 0.05 * max(high - low, 1.0)
    return Axes(left=min(logs) - pad, right=max(logs) + pad, low=low - room, high=high + room, height=BYTES_HEIGHT)


def _draw_images(drawing: Drawing, axes: Axes, group: GroupSeries) -> list[Key]:
    """Draw the compressed images: all settings as open squares, and a line through those that no other beats."""
    if not group.images:
        return []
    unbeaten = [group.images[index] for index in group.efficient]
    beaten = [dot for index, dot in enumerate(group.images) if index not in group.efficient]
    keys = [
        Key(
            series="images",
            label="remote: JPEG, WebP",
            shade=None,
            line="image-line",
            symbol="square",
            style="image-dot",
        )
    ]
    others = drawing.group(drawing.root, data_series="other-images")
    _draw_dots(drawing, others, axes, beaten, symbol="small-square", style="image-other")
    if beaten:
        keys.append(
            Key(
                series="other-images",
                label="remote, other settings",
                shade=None,
                line="",
                symbol="small-square",
                style="image-other",
            )
        )
    best = drawing.group(drawing.root, data_series="images")
    _draw_path(drawing, best, axes, unbeaten, "image-line")
    _draw_bars(drawing, best, axes, unbeaten, "image-bar")
    _draw_dots(drawing, best, axes, unbeaten, symbol="square", style="image-dot")
    return keys


def _draw_line(drawing: Drawing, axes: Axes, line: Line, *, series: str, number: int) -> Key:
    shade = shade_number(line.shade)
    style = "cut-dashed" if line.dashed else "cut-line"
    group = _shaded(drawing, shade, series=series, number=number)
    _draw_path(drawing, group, axes, line.dots, style)
    _draw_bars(drawing, group, axes, line.dots, "cut-bar")
    _draw_dots(drawing, group, axes, line.dots, symbol="dot", style="cut-dot")
    return Key(series=series, label=line.label, shade=shade, line=style, symbol="dot", style="cut-dot")


def _draw_trained(drawing: Drawing, axes: Axes, line: Line, *, series: str, number: int) -> Key:
    shade = shade_number(line.shade)
    group = _shaded(drawing, shade, series=series, number=number)
    _draw_bars(drawing, group, axes, line.dots, "cut-bar")
    _draw_dots(drawing, group, axes, line.dots, symbol="star", style="cut-mark")
    return Key(series=series, label=f"{line.label}, trained", shade=shade, line="", symbol="star", style="cut-mark")


def _shaded(drawing: Drawing, shade: int, *, series: str, number: int) -> Shape:
    """Return a group in a cut's colour, which the page knows by the number of its cut."""
    return drawing.group(drawing.root, data_series=series, data_cut=str(number), style=f"color: var(--shade-{shade})")


def _draw_path(drawing: Drawing, group: Shape, axes: Axes, dots: Sequence[Dot], style: str) -> None:
    if len(dots) > 1:
        places = [(axes.x(log10(dot.bytes)), axes.y(dot.accuracy)) for dot in dots]
        drawing.path(group, [places], style, clipped=True)


def _draw_bars(drawing: Drawing, group: Shape, axes: Axes, dots: Sequence[Dot], style: str) -> None:
    for dot in dots:
        low, high = axes.bar(dot.accuracy - dot.below, dot.accuracy + dot.above)
        if low > high:
            x = axes.x(log10(dot.bytes))
            drawing.line(group, (x, low), (x, high), style)


def _draw_dots(drawing: Drawing, group: Shape, axes: Axes, dots: Sequence[Dot], *, symbol: str, style: str) -> None:
    for dot in dots:
        if axes.inside(dot.accuracy):
            place = (axes.x(log10(dot.bytes)), axes.y(dot.accuracy))
            drawing.mark(group, symbol, place, style, data_tip=dot.tip)


# ---- predicted against measured ----


def _draw_pairs(group: GroupSeries, cut_numbers: dict[str, int]) -> Drawing:
    drawing, axes = Drawing(height=PAIRS_HEIGHT), _pairs_axes(group.pairs)
    draw_frame(drawing, axes, even_ticks(axes.left, axes.right), even_ticks(axes.low, axes.high))
    before = "predicted accuracy after training, %" if group.calibrated else "accuracy before training, %"
    draw_titles(drawing, before, "accuracy after training, %")
    drawing.path(drawing.root, [[(0, axes.y(axes.left)), (1, axes.y(axes.right))]], "diagonal")
    for pair in sorted(group.pairs, key=lambda pair: pair.x):
        dot = drawing.group(
            drawing.root,
            data_cut=str(cut_numbers[pair.cut]),
            style=f"color: var(--shade-{shade_number(pair.shade)})",
        )
        x, y = axes.x(pair.x), axes.y(pair.y)
        low, high = axes.bar(pair.y - pair.y_below, pair.y + pair.y_above)
        drawing.line(dot, (x, low), (x, high), "cut-bar")
        left, right = max(0.0, axes.x(pair.x - pair.x_below)), min(1.0, axes.x(pair.x + pair.x_above))
        drawing.line(dot, (left, y), (right, y), "cut-bar")
        drawing.mark(dot, "circle", (x, y), "cut-mark", data_tip=pair.tip)
    return drawing


def _pairs_axes(pairs: Sequence[Pair]) -> Axes:
    """Return the same limits for both axes, so that equal accuracies lie on the diagonal."""
    ends = [end for pair in pairs for end in (pair.x - pair.x_below, pair.x + pair.x_above)]
    ends += [end for pair in pairs for end in (pair.y - pair.y_below, pair.y + pair.y_above)]
    low, high = max(0.0, min(ends)) - 1, min(100.0, max(ends)) + 1
    return Axes(left=low, right=high, low=low, high=high, height=PAIRS_HEIGHT)
