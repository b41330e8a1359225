"""What the page looks like in a real browser: contrast, room, and overlaps, on a laptop and on a phone, light and dark.

Contrast is computed from what the browser says it shows, by WCAG's formula. With ISPLIT_SCREENSHOTS set to a folder,
pictures of the pages are kept there for people to look at.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

from isplit.report.colours import contrast

Scheme = Literal["light", "dark"]
SIZES = {"laptop": (1280, 900), "phone": (390, 844)}

# Every element with words of its own: its colour, the first opaque background behind it, and its size.
WORDS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const known = new Map();
  const toHex = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      known.set(colour, [`#${[r, g, b].map((value) => value.toString(16).padStart(2, '0')).join('')}`, a]);
    }
    return known.get(colour);
  };
  const grounds = new Map([[null, '#ffffff']]);
  const behind = (item) => {
    if (!grounds.has(item)) {
      const [colour, opacity] = toHex(getComputedStyle(item).backgroundColor);
      grounds.set(item, opacity === 255 ? colour : behind(item.parentElement));
    }
    return grounds.get(item);
  };
  return [...document.querySelectorAll('main *')].filter((item) => {
    if (item.matches('option, optgroup, script, style, svg *:not(text)')) return false;
    const words = [...item.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const box = item.getBoundingClientRect();
    return words && box.width > 1 && box.height > 1 && getComputedStyle(item).visibility === 'visible';
  }).map((item) => {
    const style = getComputedStyle(item);
    const inSvg = item.namespaceURI.endsWith('svg');
    const colour = toHex(inSvg ? style.fill : style.color)[0];
    const words = item.textContent.trim().slice(0, 40);
    return { words, colour, ground: behind(item), size: parseFloat(style.fontSize) };
  });
}"""

# The boxes of all visible words in each drawing, as they stand on the screen; turned words by their four corners.
LABELS = """() => [...document.querySelectorAll('svg.drawing')].map((drawing) => ({
  name: drawing.id,
  texts: [...drawing.querySelectorAll('text')].filter((text) => text.getBoundingClientRect().width > 0).map((text) => {
    const box = text.getBBox(), matrix = text.getScreenCTM();
    const corner = (x, y) => { const point = new DOMPoint(x, y).matrixTransform(matrix); return [point.x, point.y]; };
    return { words: text.textContent, corners: [corner(box.x, box.y + 2), corner(box.x + box.width, box.y + 2),
      corner(box.x + box.width, box.y + box.height - 2), corner(box.x, box.y + box.height - 2)] };
  }),
}))"""


@pytest.fixture(scope="module", params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids="-".join)
def shown(request: pytest.FixtureRequest, browser: Browser, plan_directory: Path) -> Iterator[Page]:
    """Open the page with splits and a plan at a size, in a system that is light or dark."""
    size, scheme = request.param
    width, height = SIZES[size]
    context = browser.new_context(
        offline=True, viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto((plan_directory / "report.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    page.wait_for_selector("#plan-section[data-ready]")
    if folder := os.environ.get("ISPLIT_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"report-{size}-{scheme}.png", full_page=True)
    yield page
    context.close()


@pytest.fixture(scope="module")
def words(shown: Page) -> list[dict[str, Any]]:
    """Every element with words of its own, as the browser shows it."""
    return shown.evaluate(WORDS)


def test_all_words_are_legible(words: list[dict[str, Any]]):
    """WCAG AA: 4.5 between words and their background, those of the figures included."""
    assert len(words) > 300
    faint = [item for item in words if contrast(item["colour"], item["ground"]) < 4.5]
    assert faint == []


def test_no_words_are_too_small(words: list[dict[str, Any]]):
    """Nothing on a screen is set in less than 10 pixels."""
    assert [item for item in words if item["size"] < 10] == []


def test_page_does_not_scroll_sideways(shown: Page):
    """Wide tables scroll inside their boxes; nothing else is wider than the screen."""
    width = shown.viewport_size["width"] if shown.viewport_size else 0
    assert width == shown.evaluate("document.documentElement.scrollWidth")
    script = """() => [...document.querySelectorAll('main *')].filter((item) => !item.closest('.scroll') &&
        item.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((item) => item.outerHTML)"""
    assert shown.evaluate(script) == []
    scrolls = (
        "[...document.querySelectorAll('.scroll')].every(box => box.scrollWidth <= box.clientWidth || "
        "getComputedStyle(box).overflowX === 'auto')"
    )
    assert shown.evaluate(scrolls)


def test_labels_do_not_overlap(shown: Page):
    """No two labels of a figure lie on each other, turned ones included."""
    drawings = shown.evaluate(LABELS)
    expected = 6
    assert expected == len([drawing for drawing in drawings if drawing["texts"]])
    overlaps = [
        (drawing["name"], first["words"], second["words"])
        for drawing in drawings
        for index, first in enumerate(drawing["texts"])
        for second in drawing["texts"][index + 1 :]
        if _overlap(first["corners"], second["corners"])
    ]
    assert overlaps == []


def _overlap(first: list[list[float]], second: list[list[float]]) -> bool:
    """Whether two convex shapes have a point in common: no line along an edge of either parts them."""
    for shape in (first, second):
        for (x0, y0), (x1, y1) in zip(shape, [*shape[1:], shape[0]], strict=True):
            across = (y0 - y1, x1 - x0)
            places = [[x * across[0] + y * across[1] for x, y in corners] for corners in (first, second)]
            if max(places[0]) <= min(places[1]) or max(places[1]) <= min(places[0]):
                return False
    return True


def test_printed_page_is_light(shown: Page):
    """On paper the page is dark on white, whatever the screen shows, and boxes that scroll show all that they hold."""
    shown.emulate_media(media="print")
    ground = "getComputedStyle(document.querySelector('main')).backgroundColor"
    ink = "getComputedStyle(document.body).color"
    assert ("rgb(255, 255, 255)", "rgb(31, 41, 55)") == (shown.evaluate(ground), shown.evaluate(ink))
    assert shown.evaluate(
        "[...document.querySelectorAll('.scroll')].every(box => getComputedStyle(box).overflow === 'visible')"
    )
    assert shown.locator("#theme").is_hidden()
    shown.emulate_media(media="screen")
