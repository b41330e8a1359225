"""Quick runs: all splits on few images, contenders on more, and the record says which are less certain."""

import itertools
import shutil

import numpy as np
import pytest

from isplit.design import predict_quick
from isplit.design.predict import predict
from isplit.design.predict_quick import evaluate_quickly, quick_settings
from isplit.design.settings import PredictSettings
from isplit.design.study import open_study
from isplit.records import Budget


def test_settings_only_take_fewer() -> None:
    """Counts above a quick run's are lowered, others stay."""
    few = PredictSettings(statistics_images=12, images=6, remote_images=0)
    assert few == quick_settings(few, fit_images=5000)
    lowered = quick_settings(PredictSettings(images=None), fit_images=5000)
    assert (208, 256, 50) == (lowered.statistics_images, lowered.images, lowered.remote_images)
    assert (50, 1024) == (lowered.tuning.pilot_images, lowered.tuning.max_patch_width)
    assert (512, 1) == (lowered.tuning.max_joint_width, lowered.tuning.decoder_factor)


def test_splits_that_a_full_run_would_take_for_its_own_are_as_in_a_full_run() -> None:
    """Where statistics are from as many images as without quick, vectors are as long as without it."""
    settings = PredictSettings()
    assert settings.tuning == quick_settings(settings, fit_images=208).tuning
    assert settings.tuning != quick_settings(settings, fit_images=209).tuning


def test_contenders_go_on_and_others_stop(analysed, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round has at most half of a budget's splits; all rows are there, with a warning about the uncertain ones."""
    study = open_study(shutil.copytree(analysed, tmp_path / "study"), allow_code=True)
    monkeypatch.setattr(predict_quick, "FIRST_IMAGES", 1)
    counts: list[int] = []
    real = predict_quick.evaluate_splits

    def counted(view, splits, **how):
        counts.append(len(splits))
        return real(view, splits, **how)

    monkeypatch.setattr(predict_quick, "evaluate_splits", counted)
    settings = PredictSettings(statistics_images=16, images=None, remote_images=0, precision="fp32", quick=True)
    sentences: list[str] = []
    record = predict(study, [Budget(payload_bytes=40)], settings=settings, announce=sentences.append)

    cuts = len(study.cuts())
    assert cuts == len(record.predictions) == counts[0]
    assert all(later <= max(2, (before + 1) // 2) for before, later in itertools.pairwise(counts))
    images = {row.measurement.accuracy.images for row in record.predictions}
    assert len(images) > 1
    assert any("splits were measured on fewer than" in text for text in record.warnings)
    assert any("a quick run took statistics from 16 images" in text for text in record.warnings)
    assert [f"for {cuts} cuts x 1 budget."] == [sentence[sentence.index("for") :] for sentence in sentences]
    full = predict(study, [Budget(payload_bytes=40)], settings=PredictSettings(**{**vars(settings), "quick": False}))
    assert 1 == len({row.measurement.accuracy.images for row in full.predictions})
    assert not any("quick" in text for text in full.warnings)


def test_the_best_split_is_measured_on_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: of eight splits of known accuracy the best one and its rival go on, the clearly worse ones do not."""
    shares = [0.2, 0.3, 0.9, 0.4, 0.85, 0.1, 0.5, 0.3]
    rng = np.random.default_rng(0)
    answers = {number: rng.random(256) < share for number, share in enumerate(shares)}

    def evaluate(view, splits, *, images, **how):
        return [predict_quick_evaluation(answers[number][images]) for number in splits]

    monkeypatch.setattr(predict_quick, "evaluate_splits", evaluate)
    budget = Budget(payload_bytes=40)
    evaluations = evaluate_quickly(
        None, list(range(8)), [budget] * 8, images=np.arange(256), precision="fp32", kept=None, progress=print
    )
    images = [len(evaluation.labels) for evaluation in evaluations]

    assert max(images) == images[2] > 32
    assert [32] * 3 == [images[0], images[1], images[5]]


def predict_quick_evaluation(right):
    """Return an evaluation with these answers, and nothing else of interest."""
    from isplit.design.measure.splits import SplitEvaluation

    count = len(right)
    return SplitEvaluation(
        split=None,
        labels=np.ones(count, int),
        whole=np.ones(count, int),
        answers=right.astype(int),
        payload_bytes=np.ones(count, int),
        divergences_nats=np.ones(count),
        clipped_share=0.0,
        precision="fp32",
    )
