"""The page in a real browser; the fixture fails a test on any error, warning or request."""

import re
from typing import Any

from playwright.sync_api import Page, expect

from isplit.records import CandidatesRecord, CurveRecord, GraphRecord

_TRACE = "name => document.getElementById('figure-curve').data.find(trace => trace.name === name)"


def _trace(page: Page, name: str) -> dict[str, Any] | None:
    return page.evaluate(_TRACE, name)


def _column(page: Page, column: int) -> list[str]:
    script = "column => [...document.querySelectorAll('#cuts-table tbody tr')].map(row => row.cells[column].innerText)"
    return page.evaluate(script, column)


def test_page_shows_both_plots_and_every_cut(report_page: Page, graph: GraphRecord):
    """Both plots are drawn offline, and the table has a row for each cut of the graph."""
    expected = 2
    assert expected == report_page.locator(".js-plotly-plot").count()
    assert len(graph.cuts) == report_page.locator("#cuts-table tbody tr").count()
    assert report_page.locator("#figure-curve .main-svg").first.is_visible()


def test_curve_is_drawn_with_its_gap_and_marks(report_page: Page):
    """The drawn values are log10 CUI; stars and diamonds stand at their candidates."""
    curve = _trace(report_page, "curve")
    assert curve is not None
    assert (round(curve["y"][1], 4), curve["y"][6]) == (-4.0, None)
    marks = {kind: (_trace(report_page, f"mark {kind}") or {}).get("x") for kind in ("maximum", "unsettled", "size")}
    expected = {"maximum": [4, 1], "unsettled": [9], "size": [10]}
    assert expected == marks


def test_choosing_a_class_draws_its_curve_over_a_grey_reference(report_page: Page, curve: CurveRecord):
    """The curve changes to the class's; the all-classes curve stays as the reference."""
    before = _trace(report_page, "curve")
    assert before is not None
    assert _trace(report_page, "reference") is None
    report_page.get_by_label("Classes", exact=True).select_option(label="<b>&cat")
    after, reference = _trace(report_page, "curve"), _trace(report_page, "reference")
    assert after is not None
    assert reference is not None
    assert before["y"] == reference["y"]
    expected = -2.69897  # log10 of 2e-3, which class n02 has at features.4
    assert expected == round(after["y"][1], 5)
    assert len(curve.points) == len(after["y"])


def test_choosing_a_subset_moves_the_stars(report_page: Page, candidates: CandidatesRecord):
    """The subset's own candidates are marked, and the key shows only what is drawn."""
    report_page.get_by_label("Classes", exact=True).select_option(label=candidates.subsets[0].name)
    maximum, unsettled = _trace(report_page, "mark maximum"), _trace(report_page, "mark unsettled")
    assert maximum is not None
    assert unsettled is not None
    assert (maximum["x"], unsettled["x"]) == ([1], [])
    assert report_page.locator("[data-kind=maximum]").is_visible()
    assert report_page.locator("[data-kind=size]").is_hidden()


def test_titles_are_drawn_as_text(report_page: Page):
    """A title that looks like HTML is neither markup in the menu nor in a plot."""
    labels = report_page.locator("#figure-classes .yaxislayer-above text").all_text_contents()
    expected = ["goldfish", "<b>&cat", "school bus", "espresso"]
    assert expected == labels
    assert expected == report_page.locator("#class-select optgroup[label=Classes] option").all_text_contents()


def test_heat_map_switches_to_relative(report_page: Page):
    """Relative values are log10 of the ratio to all classes: 0 for a class that equals them."""
    report_page.get_by_label("relative to all classes").check()
    row = report_page.evaluate("document.getElementById('figure-classes').data[0].z[0]")
    expected = [0] * 6 + [None] + [0] * 4
    assert expected == row


def test_clicking_a_heading_sorts_and_again_reverses(report_page: Page):
    """Numbers sort as numbers, and aria-sort tells the direction."""
    size = report_page.get_by_role("columnheader", name="Size KiB, fp32")
    size.get_by_role("button").click()
    expected = ["8.0", "16.0", "16.0", "32.0", "32.0", "32.0", "64.0", "64.0", "64.0", "128.0", "128.0", "256.0"]
    assert expected == _column(report_page, 3)
    assert size.get_attribute("aria-sort") == "ascending"
    size.get_by_role("button").click()
    assert expected[::-1] == _column(report_page, 3)
    assert size.get_attribute("aria-sort") == "descending"


def test_sorting_works_with_the_keyboard_and_puts_gaps_last(report_page: Page):
    """Enter on a focused heading sorts; cuts without a rank stay at the end both ways."""
    button = report_page.get_by_role("columnheader", name="Rank").get_by_role("button")
    button.focus()
    report_page.keyboard.press("Enter")
    expected = ["1", "2", "3", "4"] + [""] * 8
    assert expected == _column(report_page, 11)
    report_page.keyboard.press("Enter")
    expected = ["4", "3", "2", "1"] + [""] * 8
    assert expected == _column(report_page, 11)


def test_filter_leaves_the_candidates(report_page: Page, candidates: CandidatesRecord):
    """Only candidate rows stay visible while the box is ticked."""
    report_page.get_by_label("Candidates only").check()
    visible = report_page.locator("#cuts-table tbody tr").filter(visible=True)
    assert len(candidates.candidates) == visible.count()


def test_overlays_are_loaded_images(report_page: Page):
    """Three images have a map at each of three cuts, decoded at 64 pixels, over the image itself."""
    widths = report_page.evaluate("[...document.querySelectorAll('#overlays img')].map(image => image.naturalWidth)")
    expected = [64] * 9
    assert expected == widths


def test_page_fits_a_narrow_screen(report_page: Page):
    """Nothing but the scrolling boxes is wider than a telephone, the plots included."""
    report_page.set_viewport_size({"width": 390, "height": 800})
    drawing = report_page.locator("#figure-curve .main-svg").first
    expect(drawing).to_have_attribute("width", re.compile(r"^3\d\d$"))
    expected = 390
    assert expected == report_page.evaluate("document.documentElement.scrollWidth")
    report_page.set_viewport_size({"width": 1280, "height": 900})
    expect(drawing).to_have_attribute("width", re.compile(r"^1\d\d\d$"))
