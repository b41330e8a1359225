"""The plan's section: what it says, and that the page's cost model is the planner's."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from isplit.errors import StudyError
from isplit.plan.devices import load_device
from isplit.plan.evaluate import Load
from isplit.plan.links import load_link
from isplit.plan.planner import PlanSettings, plan
from isplit.records import Limits, LinkRecord, PlanRecord, ProfileRecord
from isplit.report import write_report
from tests.conftest import Result

# Positions of the sliders: log10 of the rate, log10 of the round trip + 1, log10 of the speed.
POSITIONS = ((4.5, 1.0, 0.0), (5.5, 2.3, -1.0), (7.25, 0.5, 0.7), (9.0, 2.0, 1.2), (3.2, 2.99, -0.4))
LINKS = {
    "clean": {},
    "lossy": {"loss_up": 0.03, "loss_down": 0.01},
    "small packets": {"loss_up": 0.02, "mtu_bytes": 120},
}


def link_with(**changes: float) -> LinkRecord:
    return load_link("4g", name="--link").model_copy(update=changes)


def open_plan(browser: Browser, directory: Path) -> tuple[Page, list[str]]:
    page = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}).new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto((directory / "report.html").as_uri())
    page.wait_for_selector("#plan-section[data-ready]")
    return page, complaints


def move(page: Page, **positions: float) -> dict[str, Any]:
    """Move sliders and return the latency of every placement, and the best one, as the page has them then."""
    script = """async (positions) => {
        for (const [name, value] of Object.entries(positions)) {
            const input = document.getElementById(`plan-${name}`);
            input.value = value;
            input.dispatchEvent(new Event('input'));
        }
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        const { best, ms } = document.getElementById('plan-section').dataset;
        return { best, ms };
    }"""
    return page.evaluate(script, positions)


@pytest.fixture(scope="module")
def plan_page(browser: Browser, plan_directory: Path) -> Iterator[Page]:
    """Open the page with a plan; an error or a message in the console fails its tests."""
    page, complaints = open_plan(browser, plan_directory)
    yield page
    page.context.close()
    assert complaints == []


@pytest.fixture
def planned(plan_page: Page) -> Page:
    """Hand out the page with its sliders where the plan put them."""
    if plan_page.locator("#plan-reset").is_enabled():
        plan_page.locator("#plan-reset").click()
    return plan_page


def compare(page: Page, record: PlanRecord, shown: dict[str, Any]) -> None:
    """Check that the page has the record's latencies and its choice."""
    latencies = json.loads(shown["ms"])
    expected = {placement.name: pytest.approx(placement.latency_ms, rel=1e-6) for placement in record.placements}
    assert expected == latencies
    assert (record.answer.chosen or "") == shown["best"]


def test_page_starts_where_the_plan_stands(planned: Page, plan_directory: Path):
    """Without a move of a slider the page has the plan's own latencies, choice, and sentence."""
    record = PlanRecord.load(plan_directory)
    compare(planned, record, move(planned))
    assert record.answer.text.replace("`", "") == planned.locator("#plan-answer").inner_text()
    assert planned.locator("#plan-now strong").inner_text() == record.answer.chosen
    assert planned.locator("#plan-reset").is_disabled()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("link", LINKS)
def test_page_and_planner_agree(
    browser: Browser,
    planned_study: Path,
    fast_server: ProfileRecord,
    tmp_path: Path,
    link: str,
    warm: bool,
    transport: str,
):
    """Every placement takes as long in the page as in Python, and the same one is chosen, wherever the sliders are."""
    for path in planned_study.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    device, server = load_device("pi4", name="--device"), fast_server
    settings = PlanSettings(load=Load(transport=transport, warm=warm), middle=True)  # pyright: ignore[reportArgumentType]
    start, limits = link_with(**LINKS[link]), Limits(max_accuracy_loss=0.05)

    def plan_at(rate: float, rtt_ms: float, speed: float) -> PlanRecord:
        moved = start.with_rate(rate).model_copy(update={"rtt_ms": rtt_ms})
        machine = device.scaled(1 / speed)
        return plan(tmp_path, device=machine, link=moved, server=server, limits=limits, settings=settings)

    plan(tmp_path, device=device, link=start, server=server, limits=limits, settings=settings).save(tmp_path)
    write_report(tmp_path)
    page, complaints = open_plan(browser, tmp_path)
    choices: set[str] = set()
    for rate, rtt, speed in POSITIONS:
        shown = move(page, rate=rate, rtt=rtt, speed=speed)
        record = plan_at(10**rate, 10**rtt - 1, 10**speed)
        compare(page, record, shown)
        choices.add(shown["best"])
    page.context.close()
    assert complaints == []
    assert len(choices) > 1


def test_limits_change_the_answer(planned: Page, plan_directory: Path, fast_server: ProfileRecord):
    """A latency that nothing keeps leaves no answer; a large loss lets every placement in; both as Python says."""
    shown = move(planned, latency=0.0)
    assert ("", "No placement keeps these limits.") == (shown["best"], planned.locator("#plan-now").inner_text())
    shown = move(planned, latency=4.02, loss=20.1, speed=-1.5)
    device = load_device("pi4", name="--device").scaled(10**1.5)
    record = plan(plan_directory, device=device, link="4g", server=fast_server, limits=Limits(max_accuracy_loss=1.0))
    compare(planned, record, shown)


def test_reset_goes_back_to_the_plan(planned: Page, plan_directory: Path):
    """The exact numbers of the plan come back, not those of the sliders' steps."""
    move(planned, rate=4.0, rtt=2.0)
    planned.locator("#plan-reset").click()
    compare(planned, PlanRecord.load(plan_directory), move(planned))


def test_bars_front_and_map_follow_the_sliders(planned: Page):
    """The best is the first bar, has the ring on the front, and is the colour of the map where the circle stands."""
    for positions in ({"speed": 0.0}, {"speed": -1.5}):
        best = move(planned, **positions)["best"]
        assert planned.locator("#plan-bars .run-name").first.inner_text() == best
        ring = planned.locator("#front-drawing circle.best")
        assert (ring.get_attribute("data-tip") or "").startswith(f"{best}\n")
        here = planned.evaluate("""() => {
            const at = document.querySelector('#map-drawing [data-part=here]').getBoundingClientRect();
            const x = (at.left + at.right) / 2, y = Math.min((at.top + at.bottom) / 2,
                document.getElementById('map-drawing').getBoundingClientRect().bottom - 2);
            const cell = [...document.querySelectorAll('#map-drawing [data-part=cells] rect')].find((rect) => {
                const box = rect.getBoundingClientRect();
                return x >= box.left && x < box.right && y >= box.top && y < box.bottom;
            });
            const keys = [...document.querySelectorAll('#map-legend .legend-fixed')];
            const like = (key) => key.firstChild.style.background === cell.getAttribute('fill') &&
                key.firstChild.style.opacity === cell.getAttribute('fill-opacity');
            return keys.find(like).textContent;
        }""")
        assert here == best


def test_a_kind_has_one_colour(planned: Page):
    """The map paints a placement in the colour that its circle has on the front."""
    move(planned)
    painted = planned.evaluate("""() => [...document.querySelectorAll('#map-legend .legend-fixed')].map((entry) => {
        const circles = [...document.querySelectorAll('#front-drawing circle')];
        const circle = circles.find((each) => each.dataset.tip.startsWith(`${entry.textContent}\\n`));
        return [entry.firstChild.style.background, circle.parentElement.style.color];
    })""")
    assert len(painted) >= 2
    assert [in_map for in_map, _ in painted] == [in_front for _, in_front in painted]


def test_widths_of_the_bars_are_shares_of_the_longest(planned: Page):
    """The parts of each bar add up to its total over the longest total."""
    latencies = json.loads(move(planned)["ms"])
    rows = planned.evaluate("""() => [...document.querySelectorAll('#plan-bars .run')].map((row) => [
        row.querySelector('.run-name').innerText,
        [...row.querySelectorAll('.run-bar span')].reduce((sum, part) => sum + parseFloat(part.style.width), 0)])""")
    longest = max(latencies[name] for name, _ in rows)
    assert {name: pytest.approx(100 * latencies[name] / longest, abs=0.01) for name, _ in rows} == dict(rows)
    assert len(rows) >= 3


def test_map_is_read_with_the_keyboard(planned: Page):
    """The keys walk over rates, and the box names placement, latency, rate and speed."""
    planned.locator("#plot-map").focus()
    planned.keyboard.press("End")
    lines = planned.locator("#tip").inner_text().split("\n")
    assert lines[-1].endswith("× as fast")
    assert "Gbit/s" in lines[-1]
    assert " ms, " in lines[1]


def test_table_has_every_placement(planned: Page, plan_directory: Path):
    """Rows carry what the record says, limits that are broken included, and the chosen one is marked."""
    record = PlanRecord.load(plan_directory)
    rows = planned.locator("#plan-table tbody tr")
    assert len(record.placements) == rows.count()
    assert planned.locator("#plan-table tr.candidate td").first.inner_text() == record.answer.chosen
    broken = next(placement for placement in record.placements if placement.violates == ("max_accuracy_loss",))
    row = rows.nth([placement.name for placement in record.placements].index(broken.name)).inner_text()
    assert row.endswith("loss of accuracy")
    assert f"{broken.latency_ms:.1f}" in row


def test_plan_leads_the_page(plan_directory: Path):
    """Its sentence stands before what the importance says, and a study without a plan has nothing of it."""
    page = (plan_directory / "report.html").read_text("utf-8")
    assert page.index('id="plan-answer"') < page.index('id="answer"') < page.index('id="figure-curve"')
    assert "What the importance says" in page


def test_study_without_a_plan_has_none_of_it(splits_directory: Path):
    """Neither section, numbers nor script."""
    page = (splits_directory / "report.html").read_text("utf-8")
    assert "plan-section" not in page
    assert 'id="plan"' not in page


def test_plan_of_another_model_is_refused(plan_directory: Path, tmp_path: Path):
    """A plan.json that was copied from elsewhere is named, with the way out."""
    for path in plan_directory.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    PlanRecord.load(plan_directory).model_copy(update={"model_fingerprint": "f" * 64}).save(tmp_path)
    with pytest.raises(StudyError, match=r"plan\.json .* is a plan of another model; run `isplit plan"):
        write_report(tmp_path)


def test_plan_draws_the_report_again(isplit: Callable[..., Result], splits_directory: Path, tmp_path: Path):
    """`isplit plan` leaves a page that its answer leads; without a page before it there is none after it."""
    study, bare = tmp_path / "study", tmp_path / "bare"
    for directory, names in ((study, ("*.json", "report.html")), (bare, ("*.json",))):
        directory.mkdir()
        for path in (path for name in names for path in splits_directory.glob(name)):
            (directory / path.name).write_bytes(path.read_bytes())
        result = isplit("plan", directory, "--device", "pi4", "--server", "pi5", "--link", "4g", "-q")
        assert 0 == result.code, result.err
    assert 'id="plan-answer"' in (study / "report.html").read_text("utf-8")
    assert (bare / "plan.json").exists()
    assert not (bare / "report.html").exists()
