"""A small invented study, its report, and a real browser to open it in."""

import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

from tests.report.invented_splits import fast_server as fast_server
from tests.report.invented_splits import plan_directory as plan_directory
from tests.report.invented_splits import planned_study as planned_study
from tests.report.invented_splits import predictions as predictions
from tests.report.invented_splits import splits_directory as splits_directory
from tests.report.invented_splits import trained as trained
from tests.report.invented_study import candidates as candidates
from tests.report.invented_study import curve as curve
from tests.report.invented_study import graph as graph
from tests.report.invented_study import overlays as overlays
from tests.report.invented_study import records as records
from tests.report.invented_study import study as study
from tests.report.invented_study import study_directory as study_directory


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a headless Chromium; CHROMIUM names the program where it is not on the path.

    For one module: while Playwright runs it has an event loop running in this thread, and no other can start in it.
    """
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium found: install it or set CHROMIUM to its path")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    arguments += ["--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=arguments)
        yield launched
        launched.close()


@contextmanager
def _opened(browser: Browser, directory: Path) -> Generator[tuple[Page, list[str]]]:
    """Open a report from its file without a network; whatever goes wrong in the page is kept as text."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints: list[str] = []

    def keep_error(error: Error) -> None:
        complaints.append(f"page error: {error}")

    def keep_message(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"console: {message.text}")

    def keep_request(request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            complaints.append(f"request: {request.url}")

    page.on("pageerror", keep_error)
    page.on("console", keep_message)
    page.on("request", keep_request)
    page.on("requestfailed", lambda request: complaints.append(f"failed request: {request.url[:200]}"))
    page.goto((directory / "report.html").as_uri())
    page.wait_for_selector("html[data-ready]")
    yield page, complaints
    context.close()


@pytest.fixture(scope="module")
def opened_report(browser: Browser, study_directory: Path) -> Iterator[tuple[Page, list[str]]]:
    """Open the report of the study without splits, once."""
    with _opened(browser, study_directory) as opened:
        yield opened


@pytest.fixture(scope="module")
def opened_splits(browser: Browser, splits_directory: Path) -> Iterator[tuple[Page, list[str]]]:
    """Open the report of the study with splits, once."""
    with _opened(browser, splits_directory) as opened:
        yield opened


@pytest.fixture
def splits_page(opened_splits: tuple[Page, list[str]]) -> Iterator[Page]:
    """Hand out the report with splits; an error, a warning or a request fails the test."""
    page, complaints = opened_splits
    page.locator("#split-group").select_option(index=0)
    yield page
    assert not complaints


@pytest.fixture
def report_page(opened_report: tuple[Page, list[str]]) -> Iterator[Page]:
    """Hand out the open report as it first appears; an error, a warning or a request fails the test."""
    page, complaints = opened_report
    page.locator("#class-select").select_option(index=0)
    page.locator("input[name=heat][value=absolute]").check()
    page.locator("#candidates-only").uncheck()
    yield page
    assert not complaints
