"""Splits in a real browser; the fixture fails a test on any error, warning or request."""

import re
from typing import Any

from playwright.sync_api import Page, expect


def _trace(page: Page, figure: str, name: str) -> dict[str, Any] | None:
    script = "([figure, name]) => document.getElementById(figure).data.find(trace => trace.name === name)"
    return page.evaluate(script, [figure, name])


def test_accuracy_over_bytes_is_drawn(splits_page: Page):
    """A line for each cut, error bars, the images that no other beats, trained splits, and the whole model's line."""
    line = _trace(splits_page, "figure-bytes", "features.4")
    assert line is not None
    assert ([127.5, 510], [50, 79.5]) == (line["x"], line["y"])
    assert [7, 7] == [round(line["error_y"][side][0]) for side in ("array", "arrayminus")]
    assert "budget 512 bytes" in line["customdata"][1]
    images = _trace(splits_page, "figure-bytes", "remote: JPEG, WebP")
    assert images is not None
    assert [150, 600, 900] == images["x"]
    trained = _trace(splits_page, "figure-bytes", "features.13, trained")
    assert trained is not None
    assert ([125], [78]) == (trained["x"], trained["y"])
    axis = splits_page.evaluate("document.getElementById('figure-bytes').layout.xaxis.type")
    assert "log" == axis
    assert splits_page.locator("#figure-bytes .main-svg").first.is_visible()
    assert "local, whole model: 80.0 %" in splits_page.locator("#figure-bytes").inner_text()


def test_predicted_against_measured_is_drawn(splits_page: Page):
    """One point: 75 before, 78 after."""
    pairs = _trace(splits_page, "figure-pairs", "pairs")
    assert pairs is not None
    assert ([75], [78]) == (pairs["x"], pairs["y"])
    assert "accuracy before training, %" in splits_page.locator("#figure-pairs").inner_text()


def test_choosing_a_subset_draws_its_splits(splits_page: Page):
    """The subset has one split and no images."""
    splits_page.locator("#split-group").select_option(label="animals")
    names = splits_page.evaluate("document.getElementById('figure-bytes').data.map(trace => trace.name)")
    assert ["features.4"] == names


def test_table_of_placements_sorts(splits_page: Page):
    """Numbers sort as numbers, rows without one come last; the table of cuts is left alone."""
    cuts = splits_page.locator("#cuts-table tbody tr").first.inner_text()
    splits_page.locator("#splits-table").get_by_role("button", name=re.compile("^Budget")).click()
    cells = "[...document.querySelectorAll('#splits-table tbody tr')].map(row => row.cells[3].innerText)"
    expected = ["128 bytes"] * 5 + ["512 bytes"] * 3 + [""] * 6
    assert expected == splits_page.evaluate(cells)
    assert cuts == splits_page.locator("#cuts-table tbody tr").first.inner_text()


def test_page_with_splits_fits_a_narrow_screen(splits_page: Page):
    """On a telephone the legend goes below the plot, and nothing but the scrolling boxes is wider."""
    splits_page.set_viewport_size({"width": 390, "height": 800})
    drawing = splits_page.locator("#figure-bytes .main-svg").first
    expect(drawing).to_have_attribute("width", re.compile(r"^3\d\d$"))
    orientation = "document.getElementById('figure-bytes').layout.legend.orientation"
    splits_page.wait_for_function(f"{orientation} === 'h'")
    expected = 390
    assert expected == splits_page.evaluate("document.documentElement.scrollWidth")
    splits_page.set_viewport_size({"width": 1280, "height": 900})
    expect(drawing).to_have_attribute("width", re.compile(r"^1\d\d\d$"))
