"""Draw shapes as SVG, on an area that is as wide as the page allows or has a fixed width.

In a page, a drawing is *fluid*: horizontal places are per cent of the area, so that one drawing fits every screen and
its text keeps its size. Colours come from the page's style sheet. A *fixed* drawing is a file or a fragment on its
own: places are numbers, and each shape contains its colours.

Places are given as (share, y): the share of the area's width in [0, 1], and pixels from its top.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi, sin
from xml.etree import ElementTree

from markupsafe import Markup

from isplit.report.colours import LIGHT

Point = tuple[float, float]
Shape = ElementTree.Element

MONOSPACE = 'ui-monospace, "DejaVu Sans Mono", Consolas, monospace'
# The box of a path in a fluid drawing has this width on every screen; per cent would be too coarse with six digits.
_PATH_WIDTH = 1000.0


def _star(outer: float, inner: float) -> str:
    corners = [
        (radius * sin(pi * step / 5), -radius * cos(pi * step / 5)) for step, radius in enumerate((outer, inner) * 5)
    ]
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in corners) + "Z"


def _circle(radius: float) -> str:
    return f"M{-radius} 0a{radius} {radius} 0 1 1 {2 * radius} 0a{radius} {radius} 0 1 1 {-2 * radius} 0Z"


SYMBOLS: dict[str, str] = {
    "star": _star(8.5, 3.5),
    "diamond": "M0 -6.5L6.5 0L0 6.5L-6.5 0Z",
    "triangle": "M0 -7L7 5.5H-7Z",
    "circle": _circle(5.0),
    "dot": _circle(3.0),
    "peak": _circle(4.2),
    "point": _circle(1.8),
    "square": "M-3.2 -3.2H3.2V3.2H-3.2Z",
    "small-square": "M-2.5 -2.5H2.5V2.5H-2.5Z",
}
"""Outlines of the marks around their place."""

STYLES: dict[str, dict[str, str]] = {
    "grid": {"stroke": "{grid}", "stroke-width": "1"},
    "axis": {"stroke": "{edge}", "stroke-width": "1"},
    "guide": {"stroke": "{accent}", "stroke-width": "1", "stroke-dasharray": "2 3", "opacity": "0.6"},
    "spike": {"stroke": "{edge}", "stroke-width": "1", "opacity": "0"},
    "curve": {"fill": "none", "stroke": "{blue}", "stroke-width": "2", "stroke-linejoin": "round"},
    "curve-dot": {"fill": "{blue}"},
    "band": {"fill": "{blue}", "fill-opacity": "0.18", "stroke": "none"},
    "reference": {"fill": "none", "stroke": "{reference}", "stroke-width": "2", "stroke-linejoin": "round"},
    "size": {"fill": "none", "stroke": "{slate}", "stroke-width": "2", "stroke-linejoin": "round"},
    "size-dot": {"fill": "{slate}"},
    "input-line": {"stroke": "{slate}", "stroke-width": "1.2", "stroke-dasharray": "6 4"},
    "maximum": {"fill": "{accent}", "stroke": "{paper}", "stroke-width": "1"},
    "hollow": {"fill": "{paper}", "stroke": "{accent}", "stroke-width": "1.6", "stroke-linejoin": "round"},
    "class-maximum": {"fill": "{blue}", "stroke": "{paper}", "stroke-width": "1.5"},
    "peak": {"fill": "#ffffff", "stroke": "#111827", "stroke-width": "1.5"},
    "placement": {"fill": "currentColor", "fill-opacity": "0.55", "stroke": "currentColor", "stroke-width": "1.4"},
    "gap": {"stroke": "{paper}", "stroke-width": "1"},
    "column": {"fill": "none", "stroke": "none"},
    "cell": {"fill": "none", "stroke": "none"},
    "tick": {"fill": "{soft}", "font-size": "11px"},
    "name": {"fill": "{ink}", "font-size": "11px", "font-family": MONOSPACE},
    "label": {"fill": "{ink}", "font-size": "11.5px"},
    "axis-title": {"fill": "{ink}", "font-size": "12px"},
    "title": {"fill": "{ink}", "font-size": "12px", "font-weight": "bold"},
    "rank": {"fill": "{ink}", "font-size": "12px", "font-weight": "bold"},
    "note": {"fill": "{soft}", "font-size": "11px"},
    "whole": {"stroke": "{accent}", "stroke-width": "1.4"},
    "whole-band": {"fill": "{accent}", "fill-opacity": "0.12"},
    "whole-note": {"fill": "{accent}", "font-size": "11.5px"},
    "diagonal": {"stroke": "{edge}", "stroke-width": "1.2", "stroke-dasharray": "2 4", "fill": "none"},
    "image-line": {"fill": "none", "stroke": "{slate}", "stroke-width": "1.6", "stroke-dasharray": "6 4"},
    "image-dot": {"fill": "{slate}"},
    "image-bar": {"stroke": "{slate}", "stroke-width": "1", "opacity": "0.5"},
    "image-other": {"fill": "none", "stroke": "{reference}", "stroke-width": "1.2"},
    "cut-line": {"fill": "none", "stroke": "currentColor", "stroke-width": "1.7", "stroke-linejoin": "round"},
    "cut-dashed": {"fill": "none", "stroke": "currentColor", "stroke-width": "1.7", "stroke-dasharray": "2 4"},
    "cut-dot": {"fill": "currentColor"},
    "cut-bar": {"stroke": "currentColor", "stroke-width": "1", "opacity": "0.45"},
    "cut-mark": {"fill": "currentColor", "stroke": "{paper}", "stroke-width": "1"},
}
"""The styles of shapes, by SVG's property names; names in braces are colours of a theme."""


def style_sheet() -> str:
    """Return the styles as CSS for the fluid drawings of a page, the colours as the page's variables."""
    rules: list[str] = []
    for name, properties in STYLES.items():
        values = (f"{key}: {_as_variable(value)};" for key, value in properties.items())
        rules.append(f".drawing .{name}, .key .{name} {{ {' '.join(values)} }}")
    return "\n".join(rules)


def _as_variable(value: str) -> str:
    return f"var(--{value[1:-1]})" if value.startswith("{") else value


def symbol_library() -> Markup:
    """Return the marks as symbols for the fluid drawings of a page, which refer to them."""
    root = ElementTree.Element("svg", {"width": "0", "height": "0", "class": "library", "aria-hidden": "true"})
    definitions = ElementTree.SubElement(root, "defs")
    for name, outline in SYMBOLS.items():
        ElementTree.SubElement(definitions, "path", {"id": f"mark-{name}", "d": outline})
    return _markup(root)


@dataclass(frozen=True, kw_only=True)
class Margins:
    """The room around a fixed drawing's area, in pixels."""

    left: float
    right: float
    top: float
    bottom: float


class Drawing:
    """Draw on an area that is `height` pixels high.

    Args:
        height: The height of the area in pixels.
        width: The width of the area in pixels; None makes the drawing fluid.
        theme: The colours of a fixed drawing.

    """

    def __init__(self, *, height: float, width: float | None = None, theme: Mapping[str, str] = LIGHT) -> None:
        self.height = height
        self.width = width
        self._theme = theme
        self.root = ElementTree.Element("g")

    def x(self, share: float) -> str:
        """Return a horizontal place as an attribute's value."""
        return f"{_short(100 * share)}%" if self.width is None else _short(share * self.width)

    def group(self, parent: Shape, **attributes: str) -> Shape:
        """Add a group of shapes; `data_series="2"` becomes the attribute data-series."""
        return ElementTree.SubElement(parent, "g", _named(attributes))

    def line(self, parent: Shape, start: Point, end: Point, style: str) -> Shape:
        """Add a straight line."""
        places = {"x1": self.x(start[0]), "y1": _short(start[1]), "x2": self.x(end[0]), "y2": _short(end[1])}
        return self._add(parent, "line", style, places)

    def rectangle(self, parent: Shape, corner: Point, *, width_share: float, height: float, style: str) -> Shape:
        """Add a rectangle by its upper left corner; its width is a share of the area's."""
        places = {"x": self.x(corner[0]), "y": _short(corner[1])}
        return self._add(
            parent, "rect", style, places | {"width": self.x(width_share), "height": _short(max(height, 0.0))}
        )

    def circle(self, parent: Shape, place: Point, *, radius: float, style: str, **attributes: str) -> Shape:
        """Add a circle; attributes are named as in `group`."""
        places = {"cx": self.x(place[0]), "cy": _short(place[1]), "r": _short(radius)}
        return self._add(parent, "circle", style, places | _named(attributes))

    def picture(self, parent: Shape, uri: str, *, style: str) -> Shape:
        """Stretch a picture over the whole area of a fluid drawing, its pixels as they are."""
        assert self.width is None
        places = {"href": uri, "width": "100%", "height": _short(self.height), "preserveAspectRatio": "none"}
        return self._add(parent, "image", style, places)

    def path(
        self, parent: Shape, runs: Iterable[Sequence[Point]], style: str, *, closed: bool = False, clipped: bool = False
    ) -> Shape:
        """Add lines through the points of each run, with a gap between runs.

        `closed` runs are areas. What is `clipped` does not leave the area of a fluid drawing.
        """
        width = _PATH_WIDTH if self.width is None else self.width
        end = "Z" if closed else ""
        outline = "".join(
            "M" + "L".join(f"{_short(share * width)} {_short(y)}" for share, y in run) + end for run in runs if run
        )
        if self.width is not None:
            return self._add(parent, "path", style, {"d": outline})
        box = ElementTree.SubElement(
            parent,
            "svg",
            {
                "width": "100%",
                "height": _short(self.height),
                "viewBox": f"0 0 {_PATH_WIDTH:g} {_short(self.height)}",
                "preserveAspectRatio": "none",
                "overflow": "hidden" if clipped else "visible",
            },
        )
        return self._add(box, "path", style, {"d": outline, "vector-effect": "non-scaling-stroke"})

    def mark(self, parent: Shape, symbol: str, place: Point, style: str, **attributes: str) -> Shape:
        """Add one of SYMBOLS; attributes are named as in `group`."""
        named = _named(attributes)
        if self.width is None:
            places = {"href": f"#mark-{symbol}", "x": self.x(place[0]), "y": _short(place[1])}
            return self._add(parent, "use", style, places | named)
        moved = f"translate({self.x(place[0])} {_short(place[1])})"
        return self._add(parent, "path", style, {"d": SYMBOLS[symbol], "transform": moved} | named)

    def text(
        self,
        parent: Shape,
        place: Point,
        words: str,
        style: str,
        *,
        shift: Point = (0.0, 0.0),
        anchor: str = "start",
        turn: float = 0.0,
    ) -> Shape:
        """Add words at a place, shifted by pixels and turned by degrees about that place.

        `anchor` says which end of the words is at the place: "start", "middle" or "end".
        """
        moved = f"translate({_short(shift[0])} {_short(shift[1])})" + (f" rotate({turn:g})" if turn else "")
        aligned = {} if anchor == "start" else {"text-anchor": anchor}
        if self.width is None:
            box = ElementTree.SubElement(
                parent, "svg", {"x": self.x(place[0]), "y": _short(place[1]), "overflow": "visible"}
            )
            shape = self._add(box, "text", style, aligned | {"transform": moved})
        else:
            moved = f"translate({_short(place[0] * self.width + shift[0])} {_short(place[1] + shift[1])})" + (
                f" rotate({turn:g})" if turn else ""
            )
            shape = self._add(parent, "text", style, aligned | {"transform": moved})
        shape.text = words
        return shape

    def fluid_svg(self, *, identity: str) -> Markup:
        """Return the drawing for a page whose style sheet has `style_sheet`; the box around it sets its width."""
        attributes = {"class": "drawing", "id": identity, "width": "100%", "height": _short(self.height)}
        root = ElementTree.Element("svg", attributes)
        root.extend(list(self.root))
        return _markup(root)

    def fixed_svg(self, *, margins: Margins, for_paper: bool = False, font_family: str, title: str) -> Markup:
        """Return the drawing with its margins as an element that needs no style sheet.

        With `for_paper` its size is in points, 72 to the inch, where a pixel is 1/96 inch.
        """
        assert self.width is not None
        width = self.width + margins.left + margins.right
        height = self.height + margins.top + margins.bottom
        root = ElementTree.Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "width": f"{_short(0.75 * width)}pt" if for_paper else _short(width),
                "height": f"{_short(0.75 * height)}pt" if for_paper else _short(height),
                "viewBox": f"0 0 {_short(width)} {_short(height)}",
                "font-family": font_family,
                "role": "img",
                "style": "max-width: 100%; height: auto",
            },
        )
        ElementTree.SubElement(root, "title").text = title
        area = ElementTree.SubElement(
            root, "g", {"transform": f"translate({_short(margins.left)} {_short(margins.top)})"}
        )
        area.extend(list(self.root))
        return _markup(root)

    def _add(self, parent: Shape, tag: str, style: str, attributes: dict[str, str]) -> Shape:
        shape = ElementTree.SubElement(parent, tag, attributes)
        self._apply(shape, style)
        return shape

    def _apply(self, shape: Shape, style: str) -> None:
        if self.width is None:
            shape.set("class", style)
            return
        for key, value in STYLES[style].items():
            shape.set(key, self._theme[value[1:-1]] if value.startswith("{") else value)


def _short(value: float) -> str:
    """Return a number with two decimals at most, which is finer than any screen."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _named(attributes: Mapping[str, str]) -> dict[str, str]:
    return {key.replace("_", "-"): text for key, text in attributes.items()}


def _markup(root: Shape) -> Markup:
    """Return an element as text. ElementTree escapes what it writes, so the text is markup that may stand in a page."""
    return Markup(ElementTree.tostring(root, encoding="unicode"))
