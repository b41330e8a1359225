"""Predicting every split without training: what is measured, kept, and not computed twice."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from isplit.design import predict as module
from isplit.design.closed_form.passes import StatisticsImages
from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.kept_work import KEPT_WORK
from isplit.design.measure.calibration import Calibration, RemainingShare
from isplit.design.measure.splits import evaluate_splits
from isplit.design.predict import predict
from isplit.design.settings import CODERS, PredictSettings
from isplit.design.splits import read_split, split_directory
from isplit.design.study import Study, open_study
from isplit.errors import InputError
from isplit.records import Budget, PredictionsRecord

SETTINGS = PredictSettings(statistics_images=16, images=None, remote_images=6, precision="fp32")
BUDGETS = [Budget(payload_bytes=40), Budget(element_ratio=4)]
KEYWORDS = evaluate_splits.__kwdefaults__ or {}


@pytest.fixture
def study(analysed: Path, tmp_path: Path) -> Study:
    """A copy of the study that may be written into."""
    return open_study(shutil.copytree(analysed, tmp_path / "study"), allow_code=True)


def copied(study: Study) -> Path:
    """Return the directory of another copy of a study."""
    return shutil.copytree(study.directory, study.directory.parent / "other")


def recorded() -> tuple[list[str], Callable[[str, int, int], None]]:
    """Return a list of what was done, in order, and the progress callback that fills it."""
    seen: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        if what not in seen:
            seen.append(what)

    return seen, progress


def test_every_cut_at_every_budget(study: Study) -> None:
    """A row for each, within its budget on real payloads, and a split on disk that answers the same again."""
    record = predict(study, BUDGETS, settings=SETTINGS)

    cuts = [cut.name for cut in study.cuts()]
    assert {(cut, tag) for cut in cuts for tag in ("40B", "1in4")} == {
        (row.cut, row.budget.tag) for row in record.predictions
    }
    assert record == PredictionsRecord.load(study.directory)
    images = study.view().images("select")
    for row in record.predictions:
        assert "select" == row.measurement.part
        assert row.cui is not None
        assert len(images) == row.measurement.accuracy.images == row.measurement.payload_bytes.images
        directory = split_directory(
            study.directory, cut=row.cut, group="all classes", design="linear", budget=row.budget, trained=False
        )
        saved = read_split(directory)
        assert saved.record.measurement == row.measurement
        assert ("rans", {}) == (saved.record.coder, saved.tensors)
        (again,) = evaluate_splits(study.view(), [saved.at(study.cuts((row.cut,))[0])], images=images)
        assert row.measurement.accuracy.correct == int((again.answers == again.labels).sum())
        assert row.measurement.payload_bytes.mean == pytest.approx(float(again.payload_bytes.mean()))


def test_elements_of_a_ratio(study: Study) -> None:
    """One in four of the elements, as near as whole latents of all patches come to it from below."""
    record = predict(study, [Budget(element_ratio=4)], settings=SETTINGS)

    for row in record.predictions:
        elements = row.bytes / 4
        assert 0.1 * elements < row.measurement.elements <= elements / 4


def test_positions_share_a_few_bytes(study: Study) -> None:
    """A map over all positions is taken where it is expected to lose less, and then it does; a ratio has none."""
    budgets = Budget(payload_bytes=30), Budget(element_ratio=4)
    # The network answers too few images here to compare patches by its answers.
    tuning = ClosedFormTuning(held_out_images=12, compared_images=0)
    settings = replace(SETTINGS, statistics_images=12, tuning=tuning)
    joint, _ = predict(study, budgets, cuts=("relu1",), settings=settings).predictions
    specs = [
        read_split(
            split_directory(
                study.directory, cut="relu1", group="all classes", design="linear", budget=budget, trained=False
            )
        ).record.bottleneck
        for budget in budgets
    ]
    shutil.rmtree(study.directory / "splits")
    settings = replace(settings, tuning=replace(tuning, joint_worth=0.0))
    single, _ = predict(study, budgets, cuts=("relu1",), settings=settings).predictions

    assert joint.measurement.elements == specs[0].joint > 0 == specs[1].joint
    assert joint.measurement.divergence_nats < single.measurement.divergence_nats


def test_a_split_is_the_same_whatever_else_is_asked_for(study: Study) -> None:
    """Another, larger budget beside it changes nothing about a split: neither its shape nor what it answers."""
    settings = replace(SETTINGS, statistics_images=12, tuning=ClosedFormTuning(held_out_images=12, compared_images=0))
    few, many = Budget(payload_bytes=30), Budget(payload_bytes=300)
    directory = split_directory(
        study.directory, cut="relu1", group="all classes", design="linear", budget=few, trained=False
    )
    (alone,) = predict(study, [few], cuts=("relu1",), settings=settings).predictions
    spec = read_split(directory).record.bottleneck
    shutil.rmtree(study.directory / "splits")
    beside, _ = predict(study, [few, many], cuts=("relu1",), settings=settings).predictions

    assert spec.joint > 0
    assert spec == read_split(directory).record.bottleneck
    assert alone.measurement == beside.measurement


def test_nothing_is_computed_twice(study: Study) -> None:
    """The same again asks for no pass over the images; another budget does, and keeps what was there."""
    first = predict(study, BUDGETS[:1], settings=SETTINGS)
    seen, progress = recorded()

    again = predict(study, BUDGETS[:1], settings=SETTINGS, progress=progress)

    assert [] == seen
    assert first.predictions == again.predictions
    assert first.remote == again.remote
    both = predict(study, BUDGETS, settings=SETTINGS, progress=progress)
    assert "statistics of patches" in seen
    assert "compressed images" not in seen
    assert {"40B", "1in4"} == {row.budget.tag for row in both.predictions}


PHASES = [
    ("statistics of channels", 8),
    ("statistics of patches", 12),
    ("closed forms", 2),
    ("rank and step", 3),
    ("accuracy of the splits", 2),
    ("compressed images", 13),
]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: f"{phase[0]} {phase[1]}")
def test_stopped_in_any_phase_it_goes_on(study: Study, monkeypatch: pytest.MonkeyPatch, phase: tuple[str, int]) -> None:
    """A run that ends anywhere leaves what it has done, and the next one does the rest, with the same figures.

    Nothing is written because a run ends, so that it makes no difference whether it is interrupted or killed.
    """
    monkeypatch.setattr(module.evaluate_splits, "__kwdefaults__", {**KEYWORDS, "batch_size": 2})
    settings = replace(SETTINGS, batch_size=4)
    expected = predict(replace(study, directory=copied(study)), BUDGETS, settings=settings)

    monkeypatch.setattr("isplit.design.closed_form.kept_sums.SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("isplit.design.closed_form.kept_sums._LARGEST_SHARE", 1e9)

    def stop(what: str, done: int, total: int) -> None:
        if (what, done) == phase:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(study, BUDGETS, settings=settings, progress=stop)
    events: list[tuple[str, int]] = []
    again = predict(study, BUDGETS, settings=settings, progress=lambda what, done, total: events.append((what, done)))

    assert expected.predictions == again.predictions
    assert (expected.remote, expected.remote_skipped) == (again.remote, again.remote_skipped)
    before = {what for what, _ in PHASES[: PHASES.index(phase)]} - {phase[0]}
    assert not before & {what for what, _ in events} - {"statistics of channels"}
    if phase[0].startswith(("statistics", "accuracy")):
        assert phase not in events
    elif phase[0] != "compressed images":
        assert len(study.cuts()) - phase[1] == sum(what == phase[0] for what, _ in events)
    assert not (study.directory / KEPT_WORK).exists()


def test_what_is_kept_is_of_one_run(study: Study) -> None:
    """Other settings find nothing of a stopped run, and damaged files are as if there were none."""

    def stop(what: str, done: int, total: int) -> None:
        if (what, done) == ("rank and step", 5):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(study, BUDGETS, settings=SETTINGS, progress=stop)
    for path in (study.directory / KEPT_WORK).iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    seen, progress = recorded()
    predict(study, BUDGETS, settings=SETTINGS, progress=progress)
    assert "statistics of patches" in seen


def test_a_subset_answers_among_its_classes(study: Study) -> None:
    """Only images of the subset's classes are measured, and rows of other subsets stay."""
    predict(study, BUDGETS[:1], cuts=("pool1",), settings=SETTINGS)
    record = predict(study, BUDGETS[:1], cuts=("pool1",), group="bars,rows", settings=SETTINGS)

    assert ["all classes", "bars,rows"] == sorted(row.group for row in record.predictions)
    (subset,) = (row for row in record.predictions if row.group == "bars,rows")
    assert {"bars", "rows"} == set(subset.measurement.per_class)
    assert {"all classes", "bars,rows"} == {row.group for row in record.remote}


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ([], "at least one budget"),
        ([Budget(payload_bytes=5)], "below the smallest payload"),
        ([Budget()], "either bytes or an element ratio"),
        ([Budget(payload_bytes=50, element_ratio=4)], "either bytes or an element ratio"),
        ([Budget(element_ratio=0.5)], "sends more than everything"),
    ],
)
def test_budgets_that_cannot_be_met(study: Study, budgets: list[Budget], words: str) -> None:
    """Refused before anything is computed."""
    with pytest.raises(InputError, match=words):
        predict(study, budgets, settings=SETTINGS)


def test_after_training(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibration is applied to every row but plain PCA's; another calibration replaces what was there."""
    three = Calibration(
        name="three splits",
        splits=3,
        remaining=RemainingShare(intercept=0, per_log_classes=0),
        spread=1,
        noise=0.01,
        fewest_classes=2,
        most_classes=9,
        largest_loss=1,
        stderr=0.02,
    )
    monkeypatch.setattr(module, "packaged_calibration", lambda: three)
    record = predict(study, BUDGETS, settings=SETTINGS)
    both = predict(study, BUDGETS, settings=replace(SETTINGS, weighted=False)).predictions
    assert {("linear", False), ("pca", True)} == {(row.design, row.predicted_accuracy is None) for row in both}

    assert "three splits" == record.calibration
    for row in record.predictions:
        loss = row.measurement.whole.accuracy - row.measurement.accuracy.accuracy
        expected = row.measurement.whole.accuracy - 0.5 * max(loss, 0)
        assert pytest.approx(expected) == row.predicted_accuracy
        assert row.predicted_low is not None
        assert row.predicted_high is not None
        assert row.predicted_low < row.predicted_accuracy <= row.predicted_high

    monkeypatch.setattr(module, "packaged_calibration", lambda: None)
    again = predict(study, BUDGETS, settings=SETTINGS)
    assert again.calibration is None
    assert {None} == {row.predicted_accuracy for row in again.predictions}


def test_few_images_are_warned_about(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where moments and tables share images the record says so."""
    few = replace(SETTINGS, statistics_images=24, images=None)
    record = predict(study, BUDGETS, settings=few)
    shared = "too few to take the statistics of the closed forms and their code tables from different ones"
    assert shared in record.warnings[0]
    assert PredictionsRecord.load(study.directory).warnings == record.warnings

    tuning = replace(SETTINGS.tuning, held_out_images=4)
    enough = replace(SETTINGS, statistics_images=8, tuning=tuning)
    assert not any(shared in warning for warning in predict(study, BUDGETS, settings=enough).warnings)


def test_a_cut_has_other_patches_for_other_budgets(study: Study) -> None:
    """Few bytes give channels up for larger patches, many do not; each split on disk is that of its own budget."""
    worth = ((8, 0.0), (4, 0.0), (2, 1.0))
    tuning = ClosedFormTuning(max_patch_width=16, samples_per_dimension=1e-6, patch_worth=worth)
    few, many = Budget(payload_bytes=26), Budget(payload_bytes=4000)
    record = predict(study, [few, many], cuts=("relu1",), settings=replace(SETTINGS, tuning=tuning))

    sides: list[int] = []
    for row in record.predictions:
        directory = split_directory(
            study.directory, cut="relu1", group="all classes", design="linear", budget=row.budget, trained=False
        )
        saved = read_split(directory)
        (cut,) = study.cuts(("relu1",))
        (again,) = evaluate_splits(study.view(), [saved.at(cut)], images=study.view().images("select"))
        assert row.measurement.payload_bytes.mean == again.payload_bytes.mean()
        assert row.measurement.divergence_nats == pytest.approx(again.divergence_nats, rel=1e-3)
        sides.append(saved.record.bottleneck.patch)
    assert [2, 1] == sides
    assert [row.budget for row in record.predictions] == [few, many]


@pytest.mark.parametrize("coder", CODERS)
def test_every_coder_keeps_the_budget(study: Study, coder: str) -> None:
    """Payloads are those of the coder that is asked for, and keep the budget on the images that they were fitted to.

    Tables of rans fit these few images far better than others, for which the budget leaves room.
    """
    budget = Budget(payload_bytes=60)
    settings = replace(SETTINGS, coder=coder, images=None)
    (row,) = predict(study, budget, cuts=("pool1",), settings=settings).predictions
    directory = split_directory(
        study.directory, cut="pool1", group="all classes", design="linear", budget=budget, trained=False
    )
    saved = read_split(directory)
    images = StatisticsImages.of(study.view(), settings).held_out
    (again,) = evaluate_splits(study.view(), [saved.at(study.cuts(("pool1",))[0])], images=images)

    assert coder == saved.record.coder == saved.codec.coder
    assert (35 if coder == "rans" else 45) < again.payload_bytes.mean() <= 60
    assert 35 < row.measurement.payload_bytes.mean <= 1.4 * 60  # of three images only
    assert row.measurement == saved.record.measurement
    seen, progress = recorded()
    predict(study, budget, cuts=("pool1",), settings=settings, progress=progress)
    assert [] == seen
    predict(study, budget, cuts=("pool1",), settings=replace(settings, coder="rle" if coder != "rle" else "raw"))
    assert coder != read_split(directory).record.coder
