"""Every cut trained, and what was known beforehand."""

import pytest

from isplit.design.fit import fit
from isplit.design.measure.calibration import Calibration, RemainingShare
from isplit.design.verify import verify
from isplit.errors import InputError
from isplit.records import Budget, CurveRecord, PredictionsRecord, VerificationRecord

BUDGET = Budget(payload_bytes=26)
CUTS = ("relu1", "pool1", "pool2")


def test_verification(study, fast, monkeypatch):
    """The record holds each cut as predicted on select and as trained on test, and a score for every rule."""
    half = Calibration(
        name="half of the loss stays",
        splits=2,
        remaining=RemainingShare(intercept=0, per_log_classes=0),
        spread=1,
        noise=0.1,
        fewest_classes=2,
        most_classes=9,
        largest_loss=1,
        stderr=0,
    )
    monkeypatch.setattr("isplit.design.predict.packaged_calibration", lambda: half)
    record = verify(study, BUDGET, cuts=CUTS, settings=fast(epochs=1))
    assert record == VerificationRecord.load(study.directory)
    (verification,) = record.verifications
    assert list(CUTS) == [row.cut for row in verification.cuts]
    assert ["cui", "size", "depth", "closed-form", "closeness", "calibrated"] == [
        score.predictor for score in verification.scores
    ]
    predictions = {row.cut: row for row in PredictionsRecord.load(study.directory).predictions}
    curve = {point.cut: point.cui for point in CurveRecord.load(study.directory).points}
    for row in verification.cuts:
        assert ("select", "test") == (row.closed_form.part, row.trained.part)
        assert row.closed_form == predictions[row.cut].measurement
        assert curve[row.cut] == row.cui
        before, whole = row.closed_form.accuracy.accuracy, row.closed_form.whole.accuracy
        assert pytest.approx(min(1, (before + whole) / 2)) == row.calibrated_accuracy
        assert row.trained == fit(study, row.cut, BUDGET, settings=fast(epochs=1)).measurement
    best = max(row.trained.accuracy.accuracy for row in verification.cuts)
    for score in verification.scores:
        (first,) = (row for row in verification.cuts if row.cut == score.top1)
        assert 100 * (best - first.trained.accuracy.accuracy) == score.top1_regret_points
        assert 0 == score.top3_regret_points


def test_budgets_stand_side_by_side(study, fast):
    """A verification for another budget joins the first; one for the same takes its place."""
    settings = fast(epochs=0)
    for budget in (BUDGET, Budget(payload_bytes=40), BUDGET):
        verify(study, budget, cuts=CUTS[1:], settings=settings)
    tags = [row.budget.tag for row in VerificationRecord.load(study.directory).verifications]
    assert ["40B", "26B"] == tags


def test_one_cut(study, fast):
    """There is nothing to rank with a single cut."""
    with pytest.raises(InputError, match="at least two cuts, got 1"):
        verify(study, BUDGET, cuts=["pool1"], settings=fast())
    assert not (study.directory / "predictions.json").exists()
