"""The table of what was known beforehand: every rule a row, numbers as they are, and texts escaped."""

from collections.abc import Callable

import pytest

from isplit.records import (
    Budget,
    CandidatesRecord,
    CurveRecord,
    GraphRecord,
    PredictorScore,
    StudyRecord,
    Verification,
    VerificationRecord,
)
from isplit.report import FurtherRecords, report_html

Page = Callable[[VerificationRecord | None], str]


def score(predictor, tau, *, top1="pool1", error=None):
    return PredictorScore(
        predictor=predictor,
        cuts=3,
        kendall_tau=tau,
        top1=top1,
        top1_regret_points=None if top1 is None else 1.25,
        top3_regret_points=None if top1 is None else 0.0,
        mean_absolute_error_points=error,
    )


def verification(group="all classes"):
    return Verification(
        group=group,
        budget=Budget(payload_bytes=512),
        design="linear",
        cuts=(),
        scores=(score("cui", -1 / 3), score("closed-form", 1.0, error=2.04), score("calibrated", None, top1=None)),
        epochs=3,
        training_seconds=7200,
    )


@pytest.fixture
def page(study: StudyRecord, graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord) -> Page:
    """Return what draws the page of a verification."""

    def draw(record: VerificationRecord | None) -> str:
        return report_html(study, graph, curve, candidates, FurtherRecords(verification=record))

    return draw


def test_a_row_for_every_rule(page: Page) -> None:
    """Kendall's tau, regrets and error stand in the order of the headings; what is not known is a dash."""
    html = page(VerificationRecord(verifications=(verification(),)))

    cells = '</td><td class="number">'
    assert f"importance (CUI)</th><td><code>pool1</code>{cells}−0.33{cells}1.2{cells}0.0{cells}–</td>" in html
    assert f"closed form, untrained</th><td><code>pool1</code>{cells}1.00{cells}1.2{cells}0.0{cells}2.0</td>" in html
    assert f"closed form, calibrated</th><td>–{cells}–{cells}–{cells}–{cells}–</td>" in html
    assert "512 bytes: 0 cuts trained, at most 3 epochs each, 120 minutes in all" in html


def test_a_table_for_every_verification(page: Page) -> None:
    """Class subsets and budgets stand one below the other, their names escaped."""
    html = page(VerificationRecord(verifications=(verification(), verification("<b>"))))

    assert 2 == html.count('<table class="verified"')
    assert "&lt;b&gt;, 512 bytes" in html


def test_nothing_without_verifications(page: Page) -> None:
    """A study that was not verified has no such section."""
    for record in (None, VerificationRecord(verifications=())):
        assert "Was it known beforehand" not in page(record)
