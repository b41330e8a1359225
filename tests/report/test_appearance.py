"""What the page looks like in a real browser: contrast, room, and overlaps, on a laptop and on a phone, light and dark.

Contrast is computed from what the browser says it shows, by WCAG's formula. With ISPLIT_SCREENSHOTS set to a folder,
pictures of the pages are kept there for people to look at.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

from isplit.plan.planner import plan
from isplit.records import (
    Accuracy,
    Execution,
    Machine,
    ModelPartTime,
    PayloadBytes,
    PlacementMemory,
    PlacementRun,
    Power,
    ProfileRecord,
    RunsRecord,
    TimeFigure,
)
from isplit.report import write_report
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


def _figure(median_ms: float) -> TimeFigure:
    return TimeFigure(median_ms=median_ms, p95_ms=1.2 * median_ms, runs=40)


@pytest.fixture(scope="module")
def measured_device() -> ProfileRecord:
    """A board whose parts, memory and energy were measured with the study's model."""
    return ProfileRecord(
        isplit_version="0.1.0",
        name="board",
        title="a board with a long name, revision 1.2, in a case",
        source="measured",
        machine=Machine(processor="Cortex-A72", architecture="aarch64", system="Linux"),
        execution=Execution(provider="CPUExecutionProvider", threads=4, warm_up_runs=5, runs=40, interleaved=True),
        model="torchvision:vgg16",
        model_fingerprint="b" * 64,
        preprocess=_figure(3.0),
        whole=_figure(1200.0),
        heads=(ModelPartTime(start=None, end="features.13", time=_figure(510.0)),),
        memory=(PlacementMemory(placement="features.13", peak_bytes=90_000_000, baseline_bytes=40_000_000),),
        power=Power(meter="rapl", active_w=5.0, idle_w=2.0, energy_mj={"local": 6010.0, "features.13": 2700.0}),
    )


@pytest.fixture(scope="module")
def full_directory(
    tmp_path_factory: pytest.TempPathFactory,
    plan_directory: Path,
    measured_device: ProfileRecord,
    fast_server: ProfileRecord,
) -> Path:
    """The study with splits, a plan for a measured device, and a measurement over a link beside the plan."""
    directory = tmp_path_factory.mktemp("full") / "study"
    shutil.copytree(plan_directory, directory)
    plan(directory, device=measured_device, link="4g", server=fast_server).save(directory)
    run = PlacementRun(
        placement="features.13",
        images=40,
        accuracy=Accuracy.from_counts(30, 40),
        sources={"split": 40},
        payload_bytes=PayloadBytes.from_lengths([120, 128]),
        total_median_ms=74.0,
        total_p95_ms=99.0,
        part_ms={"head": 50.0, "wire": 20.0, "server": 4.0},
        predicted_ms=71.0,
        from_picture_median_ms=74.2,
    )
    words = "over 12 Mbit/s up, 30 Mbit/s down, 50 ms, made by a proxy of isplit"
    RunsRecord(link=words, link_bits_per_s=12_000_000, runs=(run,)).save(directory)
    write_report(directory)
    return directory


@pytest.fixture(scope="module", params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids="-".join)
def shown(request: pytest.FixtureRequest, browser: Browser, full_directory: Path) -> Iterator[Page]:
    """Open the page with all its sections at a size, in a light or dark system; a message of the page is an error."""
    size, scheme = request.param
    width, height = SIZES[size]
    context = browser.new_context(
        offline=True, viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((full_directory / "report.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    page.wait_for_selector("#plan-section[data-ready]")
    if folder := os.environ.get("ISPLIT_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"report-{size}-{scheme}.png", full_page=True)
    yield page
    context.close()
    assert [] == complaints


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


def test_plan_machines_and_measurements_are_there(shown: Page):
    """The sections of the plan, of its measured device, and of predicted beside measured times are on the page."""
    device = shown.locator("#machines-section dd").first.inner_text()
    assert "times are measured (profile board); Cortex-A72 (aarch64); 4 threads on CPUExecutionProvider" in device
    row = shown.locator("#machines-table tbody tr").filter(has_text="features.13").inner_text()
    assert "510.00" in row
    assert ["85.8", "2,700.0"] == row.split("\t")[-2:]
    assert ["71.0", "74.2"] == shown.locator(".run-table tbody tr").inner_text().split("\t")[-2:]
    assert shown.locator("#plan-answer").inner_text().startswith("On a board with a long name")


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
