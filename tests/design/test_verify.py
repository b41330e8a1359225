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
    (found,) = record.verifications
    assert list(CUTS) == [one.cut for one in found.cuts]
    assert ["cui", "size", "depth", "closed-form", "calibrated"] == [one.predictor for one in found.scores]
    predictions = {one.cut: one for one in PredictionsRecord.load(study.directory).predictions}
    curve = {point.cut: point.cui for point in CurveRecord.load(study.directory).points}
    for one in found.cuts:
        assert ("select", "test") == (one.closed_form.part, one.trained.part)
        assert one.closed_form == predictions[one.cut].measurement
        assert curve[one.cut] == one.cui
        before, whole = one.closed_form.accuracy.accuracy, one.closed_form.whole.accuracy
        assert pytest.approx(min(1, (before + whole) / 2)) == one.calibrated_accuracy
        assert one.trained == fit(study, one.cut, BUDGET, settings=fast(epochs=1)).measurement
    best = max(one.trained.accuracy.accuracy for one in found.cuts)
    for score in found.scores:
        (first,) = (one for one in found.cuts if one.cut == score.top1)
        assert 100 * (best - first.trained.accuracy.accuracy) == score.top1_regret_points
        assert 0 == score.top3_regret_points


def test_budgets_stand_side_by_side(study, fast):
    """A verification for another budget joins the first; one for the same takes its place."""
    settings = fast(epochs=0)
    for budget in (BUDGET, Budget(payload_bytes=40), BUDGET):
        verify(study, budget, cuts=CUTS[1:], settings=settings)
    tags = [one.budget.tag for one in VerificationRecord.load(study.directory).verifications]
    assert ["40B", "26B"] == tags


def test_one_cut(study, fast):
    """There is nothing to rank with a single cut."""
    with pytest.raises(InputError, match="at least two cuts, got 1"):
        verify(study, BUDGET, cuts=["pool1"], settings=fast())
    assert not (study.directory / "predictions.json").exists()
