"""Shapes of fluid and of fixed drawings."""

from xml.etree import ElementTree

import pytest

from isplit.report.colours import DARK, LIGHT
from isplit.report.svg import STYLES, SYMBOLS, Drawing, Margins, style_sheet, symbol_library

MARGINS = Margins(left=10, right=20, top=5, bottom=15)


def fixed(drawing: Drawing) -> ElementTree.Element:
    return ElementTree.fromstring(drawing.fixed_svg(margins=MARGINS, font_family="Arial", title="a < b"))


def test_fluid_places_are_per_cent_of_the_area():
    """A line and a mark keep their place on every screen; heights are pixels."""
    drawing = Drawing(height=100)
    line = drawing.line(drawing.root, (0.25, 10), (1, 20.5), "axis")
    mark = drawing.mark(drawing.root, "star", (1 / 3, 40), "maximum", data_cut="7")
    expected = {"x1": "25%", "y1": "10", "x2": "100%", "y2": "20.5", "class": "axis"}
    assert expected == line.attrib
    expected = {"href": "#mark-star", "x": "33.33%", "y": "40", "data-cut": "7", "class": "maximum"}
    assert expected == mark.attrib


def test_fluid_paths_stretch_without_their_lines():
    """A path has a box of its own that stretches with the area, while its line stays as thick as it is."""
    drawing = Drawing(height=100)
    path = drawing.path(drawing.root, [[(0, 0), (0.5, 50)], [], [(1, 100)]], "curve")
    expected = ("M0 0L500 50M1000 100", "non-scaling-stroke")
    assert expected == (path.get("d"), path.get("vector-effect"))
    (box,) = list(drawing.root)
    expected = ("100%", "0 0 1000 100", "none")
    assert expected == (box.get("width"), box.get("viewBox"), box.get("preserveAspectRatio"))


def test_fixed_places_are_numbers_and_colours_stand_at_the_shapes():
    """A file needs no style sheet, in any program that reads SVG."""
    drawing = Drawing(height=100, width=400, theme=DARK)
    line = drawing.line(drawing.root, (0.25, 10), (1, 20.5), "axis")
    path = drawing.path(drawing.root, [[(0, 0), (0.5, 50)]], "curve", closed=True)
    mark = drawing.mark(drawing.root, "dot", (0.5, 40), "curve-dot")
    expected = {"x1": "100", "y1": "10", "x2": "400", "y2": "20.5", "stroke": DARK["edge"], "stroke-width": "1"}
    assert expected == line.attrib
    expected = "M0 0L200 50Z"
    assert expected == path.get("d")
    expected = ("translate(200 40)", SYMBOLS["dot"], DARK["blue"])
    assert expected == (mark.get("transform"), mark.get("d"), mark.get("fill"))


def test_fixed_drawing_has_its_margins_around_the_area():
    """The size counts the margins, in pixels or in points of a paper."""
    drawing = Drawing(height=100, width=400)
    root = fixed(drawing)
    expected = ("430", "120", "0 0 430 120")
    assert expected == (root.get("width"), root.get("height"), root.get("viewBox"))
    paper = drawing.fixed_svg(margins=MARGINS, for_paper=True, font_family="Arial", title="")
    assert 'width="322.5pt" height="90pt" viewBox="0 0 430 120"' in paper


@pytest.mark.parametrize("width", [None, 400])
def test_words_are_never_markup(width: float | None):
    """A name that looks like a tag is text, in a page and in a file."""
    drawing = Drawing(height=100, width=width)
    drawing.text(drawing.root, (0.5, 10), "<b>&", "name", shift=(1, 2), anchor="end", turn=-45)
    drawing.group(drawing.root, data_tip='"><script>')
    svg = (
        drawing.fluid_svg(identity="d")
        if width is None
        else drawing.fixed_svg(margins=MARGINS, font_family="Arial", title="<script>")
    )
    assert "&lt;b&gt;&amp;</" in svg
    assert "<script>" not in svg
    assert 'rotate(-45)" ' not in svg or "text-anchor" in svg


def test_words_are_turned_about_their_place():
    """The shift is in pixels, after the place."""
    drawing = Drawing(height=100, width=400)
    words = drawing.text(drawing.root, (0.5, 10), "a", "name", shift=(1, 2), turn=-90)
    expected = "translate(201 12) rotate(-90)"
    assert expected == words.get("transform")


def test_style_sheet_has_every_style_in_the_page_colours():
    """Every class of a fluid drawing has a rule, and every colour in it exists in the theme."""
    sheet = style_sheet()
    assert [name for name in STYLES if f".drawing .{name}, .key .{name} {{" not in sheet] == []
    names = {value[1:-1] for style in STYLES.values() for value in style.values() if value.startswith("{")}
    assert names <= set(LIGHT)
    assert ".drawing .grid, .key .grid { stroke: var(--grid); stroke-width: 1; }" in sheet


def test_library_has_every_symbol():
    """The marks of a page refer to outlines that stand in it once."""
    root = ElementTree.fromstring(symbol_library())
    assert [f"mark-{name}" for name in SYMBOLS] == [shape.get("id") for shape in root.iter("path")]
