"""Training that was interrupted goes on, what is trained or saved already is used, and the best epoch is kept."""

from dataclasses import replace

import pytest
import torch

from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.fit import fit
from isplit.design.splits import read_split
from isplit.design.study import open_study
from isplit.design.training.loop import TrainingRun
from isplit.records import Budget, SplitRecord
from tests.design.fitting import SMALL, Interrupt, directory_of, fit_into, weights_of


def assert_same(first, second):
    """Both directories hold the same weights, bit for bit, and the same codec."""
    weights, other = weights_of(first), weights_of(second)
    assert weights.keys() == other.keys()
    assert all(torch.equal(weights[name], other[name]) for name in weights)
    assert read_split(first).codec.codec_id == read_split(second).codec.codec_id


@pytest.mark.parametrize(
    ("design", "where"),
    [
        ("linear", "stage 2, epoch 1"),
        ("linear", "stage 2, epoch 3"),
        ("undercomplete", "stage 1, epoch 2"),
        ("undercomplete", "stage 2, epoch 1"),
        ("undercomplete", "stage 2, epoch 2"),
    ],
)
def test_resumed_run_ends_the_same(study, fast, design, where):
    """A run that was interrupted and resumed ends with the weights of one that was not, bit for bit."""
    settings = fast(epochs=3, feature_epochs=2, flip=True)
    options = {"design": design, "settings": settings}
    straight, stopped = study.directory / "straight", study.directory / "stopped"
    fit_into(straight, study, Budget(payload_bytes=40), **options)
    with pytest.raises(KeyboardInterrupt):
        fit_into(stopped, study, Budget(payload_bytes=40), progress=Interrupt(where), **options)
    assert (stopped / "checkpoint.json").exists() or "stage 1, epoch 1" in where
    assert not (stopped / "split.json").exists()
    seen = []
    again = open_study(study.directory, allow_code=True)  # as another process would
    record = fit_into(stopped, again, Budget(payload_bytes=40), progress=lambda what, *_: seen.append(what), **options)
    assert_same(straight, stopped)
    assert not any("stage 1, epoch 1" in what for what in seen)
    assert [] == list(stopped.glob("checkpoint*"))
    first = SplitRecord.load(straight)
    assert first.measurement == record.measurement
    assert [row.losses for row in first.training.curve] == [row.losses for row in record.training.curve]


def test_resumed_with_joint_latents(study, fast):
    """The same where all positions share; and a checkpoint of a bottleneck of another shape is not gone on with."""
    settings = fast(epochs=3, statistics_images=12)
    straight, stopped = study.directory / "straight", study.directory / "stopped"
    with pytest.raises(KeyboardInterrupt):
        fit_into(stopped, study, SMALL, settings=settings, progress=Interrupt("stage 2, epoch 2"))
    settings = replace(settings, tuning=ClosedFormTuning(held_out_images=4))
    seen = []

    def progress(what, done, total):
        seen.append(what)
        Interrupt("stage 2, epoch 3")(what, done, total)

    with pytest.raises(KeyboardInterrupt):
        fit_into(stopped, study, SMALL, settings=settings, progress=progress)
    assert any("stage 2, epoch 1" in what for what in seen)
    record = fit_into(stopped, study, SMALL, settings=settings)
    fit_into(straight, study, SMALL, settings=settings)
    assert record.bottleneck.joint > 0
    assert_same(straight, stopped)


def test_best_epoch_is_kept(study, fast, monkeypatch):
    """Training stops when the select part's accuracy has not risen for `patience` epochs; the best weights are kept."""
    scores = iter([(0.5, 1.0), (0.6, 1.0), (0.9, 1.0), (0.8, 1.0), (0.9, 1.5), (1.0, 0.0)])
    seen = []

    def select(run):
        seen.append({name: value.clone() for name, value in run.task.network.tail.state_dict().items()})
        return next(scores)

    monkeypatch.setattr(TrainingRun, "_select", select)
    settings = fast(epochs=9, patience=2)
    record = fit(study, "pool1", SMALL, settings=settings)
    assert (2, 4) == (record.training.best_epoch, record.training.epochs)
    saved = weights_of(directory_of(study, settings))
    assert all(torch.equal(value, saved[f"model.tail.{name}"]) for name, value in seen[2].items())
    assert not torch.equal(seen[3]["fc.weight"], seen[2]["fc.weight"])


def test_equal_accuracies(study, fast, monkeypatch):
    """Of equal accuracies the lower loss counts."""
    scores = iter([(0.5, 1.0), (0.5, 0.8), (0.5, 0.9)])
    monkeypatch.setattr(TrainingRun, "_select", lambda run: next(scores))
    assert 1 == fit(study, "pool1", SMALL, settings=fast(epochs=2)).training.best_epoch


def test_where_features_are_kept_changes_nothing(study, fast):
    """Features in memory, on the disk and kept for later give the same weights; computed anew, nearly the same."""
    for store in ("memory", "disk", "keep", "recompute"):
        fit_into(study.directory / store, study, SMALL, settings=fast(epochs=1, features=store))
    assert_same(study.directory / "memory", study.directory / "disk")
    assert_same(study.directory / "memory", study.directory / "keep")
    losses = [
        SplitRecord.load(study.directory / store).training.curve[-1].losses["bytes"]
        for store in ("memory", "recompute")
    ]
    assert pytest.approx(losses[0], rel=1e-2) == losses[1]


def test_trained_already(study, fast):
    """The same settings are not trained twice; others are."""
    settings = fast(epochs=1)
    first = fit(study, "pool1", SMALL, settings=settings)
    changed = (directory_of(study, settings) / first.weights.name).stat().st_mtime_ns
    assert first == fit(study, "pool1", SMALL, settings=settings)
    assert changed == (directory_of(study, settings) / first.weights.name).stat().st_mtime_ns
    other = fit(study, "pool1", SMALL, settings=fast(epochs=1, seed=1))
    assert 1 == other.seed
    assert changed != (directory_of(study, settings) / other.weights.name).stat().st_mtime_ns


def test_starts_from_what_predict_saved(study, fast, monkeypatch):
    """The closed form is not solved for again where `predict` left it."""
    from isplit.design.predict import predict
    from isplit.design.settings import PredictSettings

    predict(study, [SMALL], cuts=("pool1",), settings=PredictSettings(remote_images=0))
    monkeypatch.setattr("isplit.design.training.start.closed_forms", lambda *_, **__: pytest.fail("solved again"))
    record = fit(study, "pool1", SMALL, settings=fast(epochs=1))
    assert record.training.before is not None
