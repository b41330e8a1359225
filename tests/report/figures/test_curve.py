"""The curve as a file, and as the figure of the page."""

import re
from xml.etree import ElementTree

import pytest

from isplit.report import curve_svg
from isplit.report.curve_series import curves
from isplit.report.figures.curve import curve_figure, shown_range
from tests.report.invented_study import Records

SVG = "{http://www.w3.org/2000/svg}"


def part(svg: str, name: str) -> ElementTree.Element:
    (element,) = (group for group in ElementTree.fromstring(svg).iter("g") if group.get("data-part") == name)
    return element


def test_svg_is_the_same_bytes_again(records: Records):
    """The same records give the same file: no date, no random ids."""
    assert curve_svg(*records) == curve_svg(*records)


def test_svg_keeps_text_as_text(records: Records):
    """Names can be searched and edited, and the size is that of a paper's column: 7 inches of 72 points."""
    root = ElementTree.fromstring(curve_svg(*records))
    texts = {"".join(node.itertext()) for node in root.iter(f"{SVG}text")}
    assert {"features.22:cat_2", "log₁₀ CUI", "KiB per image", "± 2 standard errors", "maximum, not settled"} <= texts
    assert {"input, fp32", "12 KiB", "input, uint8", "3 KiB"} <= texts
    assert root.get("width") == "504pt"


def test_names_of_files_are_drawn_as_they_are(records: Records):
    """Neither dollar signs nor angle brackets mean anything in a figure."""
    study, graph, curve, candidates = records
    data = study.data.model_copy(update={"spec": "$a_1$<b>.zip"})
    svg = curve_svg(study.model_copy(update={"data": data}), graph, curve, candidates).decode()
    assert "$a_1$&lt;b&gt;.zip, 400 images" in svg


def test_values_lie_where_the_axis_says(records: Records):
    """The dot of features.4, at a CUI of 1e-4, is as high as the tick of −4."""
    svg = curve_figure(*records).svg
    (tick,) = (box for box in part(svg, "upper-axis").iter("svg") if "".join(box.itertext()) == "−4.0")
    dots = part(svg, "dots").findall("use")
    expected = tick.get("y")
    assert expected == dots[1].get("y")
    expected = f"{100 * 1.6 / 11.2:.2f}%"
    assert expected == dots[1].get("x")


def test_curve_has_a_gap_where_a_value_is_missing(records: Records):
    """features.19 has no value: the line is two pieces, and the band leaves out features.10, whose error is wide."""
    svg = curve_figure(*records).svg
    (line,) = part(svg, "curve").iter("path")
    expected = [6, 4]
    assert expected == [run.count("L") + 1 for run in re.findall(r"M[^M]+", line.get("d", ""))]
    (band,) = part(svg, "band").iter("path")
    expected = [2 * 3, 2 * 2, 2 * 4]
    assert expected == [run.count("L") + 1 for run in re.findall(r"M[^M]+", band.get("d", ""))]


def test_candidates_are_marked_by_what_found_them(records: Records):
    """Stars, a hollow star and a diamond with their ranks; the first three have lines down to their sizes."""
    svg = curve_figure(*records).svg
    marks = part(svg, "marks")
    expected = [
        ("maximum", "#mark-star"),
        ("maximum", "#mark-star"),
        ("unsettled", "#mark-star"),
        ("size", "#mark-diamond"),
    ]
    assert expected == [(mark.get("data-series"), mark.get("href")) for mark in marks.iter("use")]
    expected = ["1", "2", "3", "4"]
    assert expected == ["".join(text.itertext()) for text in marks.iter("text")]
    expected = 6
    assert expected == len(part(svg, "guides").findall("line"))


def test_a_class_is_shown_together_with_all_classes(records: Records):
    """The axis of a class holds its own curve and the reference."""
    study, _, curve, candidates = records
    overall, *others = curves(study, curve, candidates)
    low, high = shown_range(others[3], overall)
    assert low <= min(value for value in overall.log10 if value is not None)
    assert high >= max(value for value in others[3].log10 if value is not None)


@pytest.mark.parametrize("points", [0, 1])
def test_curve_without_a_line_is_drawn_all_the_same(records: Records, points: int):
    """A model of linear layers only has no cut with positions."""
    study, graph, curve, candidates = records
    short = curve.model_copy(update={"points": curve.points[:points], "subsets": ()})
    none = candidates.model_copy(update={"candidates": (), "subsets": ()})
    ElementTree.fromstring(curve_svg(study, graph, short, none))
    ElementTree.fromstring(curve_figure(study, graph, short, none).svg)
