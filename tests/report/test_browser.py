"""The page in a real browser; the fixture fails a test on any error, warning or request."""

from playwright.sync_api import Page, expect

from isplit.records import CandidatesRecord, CurveRecord, GraphRecord


def _column(page: Page, column: int) -> list[str]:
    script = "column => [...document.querySelectorAll('#cuts-table tbody tr')].map(row => row.cells[column].innerText)"
    return page.evaluate(script, column)


def _marks(page: Page) -> list[tuple[str, float]]:
    """Return the kind of each visible mark and the number of the cut that it stands at."""
    script = """() => [...document.querySelectorAll('#curve-drawing [data-part=marks] use')].map(
        mark => [mark.dataset.series, parseFloat(mark.getAttribute('x')) / 100 * 11.2 - 0.6])"""
    return [(kind, round(place)) for kind, place in page.evaluate(script)]


def _values(page: Page) -> list[float]:
    """Read the drawn dots back as values, by the ticks of the axis."""
    script = """() => {
        const ticks = [...document.querySelectorAll('#curve-drawing [data-part=upper-axis] > svg')].map(
            tick => [Number(tick.getAttribute('y')), Number(tick.textContent.replace('−', '-'))]);
        const [[y0, v0], [y1, v1]] = [ticks[0], ticks.at(-1)];
        return [...document.querySelectorAll('#curve-drawing [data-part=dots] use')].map(
            dot => v0 + (Number(dot.getAttribute('y')) - y0) / (y1 - y0) * (v1 - v0));
    }"""
    return page.evaluate(script)


def _tip(page: Page) -> list[str]:
    return page.locator("#tip").inner_text().split("\n")


def test_page_shows_both_figures_and_every_cut(report_page: Page, graph: GraphRecord):
    """Both figures are visible offline, and the table has a row for each cut of the graph."""
    assert report_page.locator("#curve-drawing").is_visible()
    assert report_page.locator("#classes-drawing .heat-absolute").is_visible()
    assert report_page.locator("#classes-drawing .heat-relative").is_hidden()
    assert len(graph.cuts) == report_page.locator("#cuts-table tbody tr").count()


def test_script_draws_all_classes_as_python_did(report_page: Page):
    """Choosing a class and all classes again leaves the figure as it came with the page."""
    part = "name => document.querySelector(`#curve-drawing [data-part=${name}]`)"
    paths = f"['curve', 'band'].map(name => ({part})(name).querySelector('path').getAttribute('d'))"
    values, marks, before = _values(report_page), _marks(report_page), report_page.evaluate(paths)
    report_page.locator("#class-select").select_option(index=5)
    assert before != report_page.evaluate(paths)
    report_page.locator("#class-select").select_option(index=0)
    assert [round(value, 4) for value in values] == [round(value, 4) for value in _values(report_page)]
    assert marks == _marks(report_page)
    for ours, theirs in zip(before, report_page.evaluate(paths), strict=True):
        assert len(ours.split("L")) == len(theirs.split("L"))
    assert [("maximum", 4), ("maximum", 1), ("unsettled", 9), ("size", 10)] == marks


def test_choosing_a_class_draws_its_curve_over_a_grey_reference(report_page: Page, curve: CurveRecord):
    """The curve changes to the class's; the all-classes curve stays as the reference."""
    reference = report_page.locator("#curve-drawing [data-part=reference] path")
    assert (reference.get_attribute("d") or "") == ""
    report_page.get_by_label("Classes", exact=True).select_option(label="<b>&cat")
    values = _values(report_page)
    expected = -2.69897  # log10 of 2e-3 at features.4; features.19 has no value
    assert abs(expected - values[1]) < 1e-3
    assert len(curve.points) - 1 == len(values)
    assert (reference.get_attribute("d") or "").startswith("M")
    assert report_page.get_by_text("highest interior maximum of the class").first.is_visible()


def test_choosing_a_subset_moves_the_stars(report_page: Page, candidates: CandidatesRecord):
    """The subset's own candidates are marked, and the key shows only what is drawn."""
    report_page.get_by_label("Classes", exact=True).select_option(label=candidates.subsets[0].name)
    assert [("maximum", 1)] == _marks(report_page)
    assert report_page.locator("[data-kind=maximum]").is_visible()
    assert report_page.locator("[data-kind=size]").is_hidden()


def test_titles_are_drawn_as_text(report_page: Page):
    """A title that looks like HTML is neither markup in the menu nor in a figure."""
    labels = report_page.locator("#classes-drawing [data-width=wide] .label").all_text_contents()
    expected = ["goldfish", "<b>&cat", "school bus", "espresso"]
    assert expected == labels
    assert expected == report_page.locator("#class-select optgroup[label=Classes] option").all_text_contents()


def test_pointing_at_a_cut_says_what_it_is_everywhere(report_page: Page):
    """The box has name, rank, importance with its error, size and MACs, and the cut's row is highlighted."""
    report_page.locator("#curve-drawing .spike[data-index='4']").scroll_into_view_if_needed()
    box = report_page.locator("#curve-drawing").bounding_box()
    assert box is not None
    report_page.mouse.move(box["x"] + box["width"] * 4.6 / 11.2 + 3, box["y"] + 100)
    expected = [
        "features.13, candidate 1",
        "all classes: CUI 1.60e-4 ± 5.0e-6 (s.e.)",
        "128×8×8, 32\u00a0KiB = 2.67 × fp32 input",
        "head: 41.7 % of the MACs",
    ]
    assert expected == _tip(report_page)
    linked = report_page.locator(".linked")
    kinds = linked.evaluate_all("items => items.map(item => item.tagName.toLowerCase())")
    assert {"line", "rect", "li", "tr"} == set(kinds)
    assert report_page.locator("#cuts-table tr.linked").inner_text().startswith("5\tfeatures.13")
    report_page.mouse.move(2, 2)
    assert report_page.locator("#tip").is_hidden()
    assert linked.count() == 0


def test_curve_is_read_with_the_keyboard(report_page: Page):
    """Arrow keys walk through the cuts, Home and End go to the ends, Escape leaves; each is announced."""
    figure = report_page.locator("#figure-curve")
    figure.focus()
    report_page.keyboard.press("ArrowRight")
    assert "features.1" == _tip(report_page)[0]
    report_page.keyboard.press("ArrowRight")
    assert "features.4, candidate 2" == _tip(report_page)[0]
    assert (report_page.locator("#spoken").text_content() or "").startswith("features.4, candidate 2; all classes")
    report_page.keyboard.press("End")
    assert "features.30, candidate 4" == _tip(report_page)[0]
    report_page.keyboard.press("Escape")
    assert report_page.locator("#tip").is_hidden()


def test_heat_map_is_read_in_both_directions_and_both_colourings(report_page: Page):
    """A cell says class, cut and value; relative values are ratios to all classes."""
    report_page.locator("#figure-classes").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        report_page.keyboard.press(key)
    assert ["<b>&cat", "features.4", "log₁₀ CUI −2.70"] == _tip(report_page)
    report_page.get_by_label("relative to all classes").check()
    assert report_page.locator("#classes-drawing .heat-relative").is_visible()
    report_page.locator("#figure-classes").focus()
    report_page.keyboard.press("ArrowUp")
    report_page.keyboard.press("ArrowDown")
    report_page.keyboard.press("ArrowDown")
    report_page.keyboard.press("ArrowRight")
    assert ["school bus", "features.4", "2 × all classes"] == _tip(report_page)


def test_legend_hides_and_shows(report_page: Page):
    """A press hides a series and another shows it again; it stays hidden when another curve is chosen."""
    band = report_page.locator("#curve-drawing [data-part=band]")
    entry = report_page.get_by_role("button", name="± 2 standard errors")
    entry.click()
    assert (band.is_hidden(), entry.get_attribute("aria-pressed")) == (True, "false")
    report_page.locator("#class-select").select_option(index=1)
    assert band.is_hidden()
    entry.click()
    assert band.is_visible()


def test_double_click_in_a_legend_shows_only_that(report_page: Page):
    """A second double-click shows all again."""
    star = report_page.locator("[data-kind=maximum] button")
    star.dblclick()
    assert report_page.locator("#curve-drawing [data-part=band]").is_hidden()
    assert report_page.locator("#curve-drawing [data-part=marks] use[data-series=maximum]").first.is_visible()
    star.dblclick()
    assert report_page.locator("#curve-drawing [data-part=band]").is_visible()


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


def test_maps_lie_over_their_images(report_page: Page):
    """Three images have a map at each of three cuts, decoded at 64 pixels, over the image itself."""
    widths = report_page.evaluate("[...document.querySelectorAll('#overlays img')].map(image => image.naturalWidth)")
    expected = [64] * 9
    assert expected == widths
    behind = "[...document.querySelectorAll('.overlay')].map(box => getComputedStyle(box).backgroundImage.slice(0, 20))"
    expected = ['url("data:image/png;'] * 12
    assert expected == report_page.evaluate(behind)


def test_button_changes_the_colours_and_back(report_page: Page):
    """The button names what it brings, and the choice is for the page's own colours."""
    button = report_page.locator("#theme")
    ground = "getComputedStyle(document.querySelector('main')).backgroundColor"
    assert ("Dark colours", "rgb(255, 255, 255)") == (button.inner_text(), report_page.evaluate(ground))
    button.click()
    assert ("Light colours", "rgb(18, 22, 29)") == (button.inner_text(), report_page.evaluate(ground))
    button.click()
    assert "rgb(255, 255, 255)" == report_page.evaluate(ground)


def test_page_fits_a_narrow_screen(report_page: Page):
    """Nothing but the scrolling boxes is wider than a telephone, the figures included."""
    report_page.set_viewport_size({"width": 390, "height": 800})
    assert report_page.locator("#curve-drawing [data-width=narrow]").is_visible()
    expect(report_page.locator("#curve-drawing [data-width=wide]")).to_be_hidden()
    expected = 390
    assert expected == report_page.evaluate("document.documentElement.scrollWidth")
    report_page.set_viewport_size({"width": 1280, "height": 900})
    assert report_page.locator("#curve-drawing [data-width=wide]").is_visible()
