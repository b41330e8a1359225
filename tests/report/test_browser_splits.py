"""Splits in a real browser; the fixture fails a test on any error, warning or request."""

import re

from playwright.sync_api import Page

BYTES, PAIRS = '#figure-bytes [data-group="0"]', '#figure-pairs [data-group="0"]'


def _tips(page: Page, inside: str) -> list[str]:
    return page.locator(f"{inside} [data-tip]").evaluate_all("points => points.map(point => point.dataset.tip)")


def test_accuracy_over_bytes_is_drawn(splits_page: Page):
    """A line for each cut with its error bars, the images that no other beats, trained splits, and the whole model."""
    legend = splits_page.locator(f"{BYTES} .legend-entry").all_inner_texts()
    assert [
        "remote: JPEG, WebP",
        "remote, other settings",
        "features.4",
        "features.13",
        "features.28",
        "features.13, trained",
    ] == legend
    line = splits_page.locator(f"{BYTES} [data-series=line-0]")
    assert (2, 2, 1) == tuple(line.locator(kind).count() for kind in ("use", "line", "path"))
    first, second = _tips(splits_page, f"{BYTES} [data-series=line-0]")
    assert first.startswith("features.4, budget 128 bytes\nbefore training: 50.0% (43.1–56.9, 200 images)")
    assert "bytes: mean 510.0, 95 % up to 518, at most 530" in second
    assert 3 == splits_page.locator(f"{BYTES} [data-series=images] use").count()
    assert ["features.13, budget 128 bytes, trained, 5 epochs"] == [
        tip.split("\n")[0] for tip in _tips(splits_page, f"{BYTES} [data-series=trained-0]")
    ]
    assert "local, whole model: 80.0 %" in (splits_page.locator(BYTES).text_content() or "")
    assert splits_page.locator("#bytes-drawing-0").is_visible()


def test_points_lie_where_their_bytes_and_accuracies_are(splits_page: Page):
    """500 bytes are a tick and a split; 80 per cent are a tick and the same split."""
    script = """() => {
        const at = (item) => item.getBoundingClientRect();
        const texts = [...document.querySelectorAll('#bytes-drawing-0 text')];
        const middle = (box) => [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
        const dot = middle(at(document.querySelectorAll('#bytes-drawing-0 [data-series=line-1] use')[1]));
        const across = middle(at(texts.find((text) => text.textContent === '500')));
        const upwards = middle(at(texts.find((text) => text.textContent === '80')));
        return [Math.abs(dot[0] - across[0]), Math.abs(dot[1] - upwards[1])];
    }"""
    across, upwards = splits_page.evaluate(script)
    assert across < 1.5
    assert upwards < 2.5


def test_predicted_against_measured_is_drawn(splits_page: Page):
    """One point: 75 before, 78 after."""
    (tip,) = _tips(splits_page, PAIRS)
    assert "test part: 78.0%" in tip
    assert tip.endswith("before: 75.0% (68.6–80.5, 200 images) on the select part")
    assert "accuracy before training, %" in (splits_page.locator(PAIRS).text_content() or "")


def test_choosing_a_subset_shows_its_splits(splits_page: Page):
    """The subset has one split, no images and no trained split; both figures follow."""
    splits_page.locator("#split-group").select_option(label="animals")
    assert splits_page.locator("#bytes-drawing-0").is_hidden()
    assert ["features.4"] == splits_page.locator("#figure-bytes .legend-entry:visible").all_inner_texts()
    assert splits_page.get_by_text("No split of these classes was trained after a prediction.").is_visible()


def test_points_are_read_with_pointer_and_keyboard(splits_page: Page):
    """The nearest point speaks, its cut is highlighted in the tables, and hidden series are passed over."""
    dot = splits_page.locator(f"{BYTES} [data-series=line-0] use").first
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    assert box is not None
    splits_page.mouse.move(box["x"] + 8, box["y"] + 8)
    assert splits_page.locator("#tip").inner_text().startswith("features.4, budget 128 bytes\n")
    rows = splits_page.locator("#splits-table tr.linked").all_inner_texts()
    assert {"features.4"} == {row.split("\t")[0] for row in rows}
    splits_page.mouse.move(2, 2)
    splits_page.get_by_role("button", name="remote, other settings").click()
    splits_page.locator("#plot-bytes-0").focus()
    splits_page.keyboard.press("Home")
    assert splits_page.locator("#tip").inner_text().startswith("remote: WebP quality 5, side × 0.5\n")
    splits_page.keyboard.press("End")
    assert splits_page.locator("#tip").inner_text().startswith("features.13, budget 128 bytes, trained")
    splits_page.get_by_role("button", name="remote, other settings").click()


def test_legend_hides_a_line_of_its_own_set_of_classes(splits_page: Page):
    """Another set of classes has a series of the same name, which stays."""
    splits_page.locator(f"{BYTES} [data-toggles=line-0]").click()
    assert splits_page.locator(f"{BYTES} [data-series=line-0]").is_hidden()
    splits_page.locator("#split-group").select_option(label="animals")
    assert splits_page.locator('#figure-bytes [data-group="1"] [data-series=line-0]').is_visible()
    splits_page.locator("#split-group").select_option(index=0)
    splits_page.locator(f"{BYTES} [data-toggles=line-0]").click()


def test_table_of_placements_sorts(splits_page: Page):
    """Numbers sort as numbers, rows without one come last; the table of cuts is left alone."""
    cuts = splits_page.locator("#cuts-table tbody tr").first.inner_text()
    splits_page.locator("#splits-table").get_by_role("button", name=re.compile("^Budget")).click()
    cells = "[...document.querySelectorAll('#splits-table tbody tr')].map(row => row.cells[3].innerText)"
    expected = ["128 bytes"] * 5 + ["512 bytes"] * 3 + [""] * 6
    assert expected == splits_page.evaluate(cells)
    assert cuts == splits_page.locator("#cuts-table tbody tr").first.inner_text()


def test_page_with_splits_fits_a_narrow_screen(splits_page: Page):
    """On a telephone the legend goes below the figure, and nothing but the scrolling boxes is wider."""
    beside = "document.querySelector('.legend.side').getBoundingClientRect().top"
    below = "document.querySelector('#plot-bytes-0').getBoundingClientRect().bottom"
    assert splits_page.evaluate(f"{beside} < {below}")
    splits_page.set_viewport_size({"width": 390, "height": 800})
    assert splits_page.evaluate(f"{beside} >= {below}")
    expected = 390
    assert expected == splits_page.evaluate("document.documentElement.scrollWidth")
    splits_page.set_viewport_size({"width": 1280, "height": 900})
