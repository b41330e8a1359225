"""Splits trained on the small model and pictures."""

import pytest
import torch

from isplit.design.closed_form_tuning import ClosedFormTuning
from isplit.design.fit import fit
from isplit.design.measure.splits import evaluate_splits, measure
from isplit.design.splits import load_split, read_split
from isplit.design.study import open_study
from isplit.design.training.loop import TrainingRun
from isplit.errors import InputError, NonFiniteError, StudyError
from isplit.records import Budget, SplitRecord
from tests.design.fitting import SMALL, Interrupt, directory_of, fit_into, weights_of

RATIO = Budget(element_ratio=16)


@pytest.mark.parametrize(
    ("design", "start", "budget"),
    [
        ("linear", "random", SMALL),
        ("linear", "random", RATIO),
        ("undercomplete", "random", Budget(payload_bytes=60)),
        ("undercomplete", "random", RATIO),
    ],
)
def test_training_lowers_the_loss(study, fast, design, start, budget):
    """Both stages learn: the error of the features, and then the loss on the select part, which is not trained on."""
    settings = fast(epochs=4, feature_epochs=4)
    record = fit(study, "pool1", budget, design=design, start=start, settings=settings)
    features = [row for row in record.training.curve if row.stage == "features"]
    task = [row for row in record.training.curve if row.stage == "task"]
    assert features[-1].losses["loss"] < 0.9 * features[0].losses["loss"]
    assert min(row.losses["select"] for row in task) < 0.7 * task[0].losses["select"]
    assert [1, 2, 3, 4] == [row.epoch for row in features]
    assert [0, 1, 2, 3, 4] == [row.epoch for row in task]


def test_closed_form_improves(study, fast):
    """From a closed form that loses something, the loss falls, and its figures stand beside."""
    record = fit(study, "relu1", Budget(element_ratio=1000), settings=fast(epochs=4))
    training = record.training
    start, *later = [row.losses["select"] for row in training.curve]
    assert min(later) < start
    assert "closed-form" == training.start
    assert "test" == record.measurement.part == training.before.part
    assert "select" == training.select.part
    assert record.measurement.accuracy.images == training.before.accuracy.images
    assert 1 == training.threads
    assert "torch" in record.versions


def test_joint_latents_learn(study, fast):
    """From random values, what all positions share is learnt as the rest is, keeps its bytes, and is in the files."""
    tuning = ClosedFormTuning(held_out_images=4)
    settings = fast(epochs=4, feature_epochs=4, statistics_images=12, tuning=tuning)
    record = fit(study, "pool1", Budget(payload_bytes=40), start="random", settings=settings)
    directory = directory_of(study, settings, record.budget, start="random")
    saved = read_split(directory)
    task = [row for row in record.training.curve if row.stage == "task"]
    rank = saved.bottleneck.joint.rank
    assert 0 < record.bottleneck.joint == rank == record.measurement.elements == saved.codec.shape[0]
    assert min(row.losses["select"] for row in task) < 0.7 * task[0].losses["select"]
    assert task[-1].payload_bytes <= 40


def test_identity(study, fast):
    """Without encoder and decoder, the tail alone learns to live with the rounding."""
    record = fit(study, "pool1", Budget(payload_bytes=200), design="identity", settings=fast(epochs=1))
    assert record.training.curve[-1].payload_bytes <= 200
    assert 512 == record.measurement.elements


def test_head_is_frozen(study, fast, monkeypatch):
    """The study's model stays as it was, bit for bit, and a frozen head is not in the files."""
    scores = iter([(0.1, 1.0), (0.2, 1.0)])
    monkeypatch.setattr(TrainingRun, "_select", lambda _: next(scores))
    before = {name: value.clone() for name, value in study.model.module.state_dict().items()}
    settings = fast(epochs=1)
    fit(study, "pool1", SMALL, settings=settings)
    after = study.model.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in study.model.module.parameters())
    names = weights_of(directory_of(study, settings))
    assert {"bottleneck", "model"} == {name.partition(".")[0] for name in names}
    assert not any(name.startswith("model.head") for name in names)
    assert not torch.equal(before["conv2.weight"], names["model.tail.conv2.weight"])


def test_head_that_learns(study, fast):
    """An open head belongs to the split; the study's own stays as it was."""
    before = {name: value.clone() for name, value in study.model.module.state_dict().items()}
    settings = fast(epochs=2, train_head=True, flip=True)
    record = fit(study, "pool1", SMALL, settings=settings)
    built = load_split(study, directory_of(study, settings))
    assert built.head is not None
    assert ("head", "encoder", "decoder", "tail") == record.training.trained
    assert torch.equal(before["conv1.weight"], study.model.module.state_dict()["conv1.weight"])
    if record.training.best_epoch:
        assert not torch.equal(before["conv1.weight"], built.head.conv1.weight)


@pytest.mark.parametrize("side", ["encoder", "decoder", "tail"])
def test_closed_sides_stay(study, fast, side):
    """A side that is closed keeps its values."""
    open_all, closed = fast(epochs=1), fast(epochs=1, **{f"train_{side}": False})
    tensors = []
    for settings, name in ((open_all, "open"), (closed, "closed"), (fast(epochs=0), "start")):
        directory = study.directory / name
        # A lower loss than the start's is not certain in one epoch; whatever comes of it is kept here.
        with pytest.MonkeyPatch.context() as patch:
            scores = iter([(0.1, 1.0), (0.2, 1.0)])
            patch.setattr(TrainingRun, "_select", lambda _, scores=scores: next(scores))
            fit_into(directory, study, RATIO, settings=settings)
        tensors.append(weights_of(directory))
    name = "model.tail.conv2.weight" if side == "tail" else f"bottleneck.maps.0.{side}"
    opened, kept, start = (weights.get(name, study.model.module.conv2.weight) for weights in tensors)
    assert torch.equal(start, kept)
    assert not torch.equal(start, opened)


@pytest.mark.parametrize("start", ["closed-form", "random"])
def test_budget_is_kept(study, fast, start):
    """At rates that would blow the latents up, no epoch ends above its budget of bytes."""
    settings = fast(epochs=3, bottleneck_rate=0.2)
    record = fit(study, "relu1", Budget(payload_bytes=40), start=start, settings=settings)
    sizes = [row.payload_bytes for row in record.training.curve if row.payload_bytes is not None]
    assert all(size <= 40 for size in sizes)
    assert sizes[-1] > 36


@pytest.mark.parametrize("settings", [{}, {"train_head": True}, {"train_tail": False}])
@pytest.mark.parametrize("design", ["linear", "undercomplete"])
def test_loaded_split_answers_as_measured(study, fast, settings, design):
    """What is loaded from the files gives exactly the measurement in the record."""
    budget = Budget(payload_bytes=40)
    directory = study.directory / "here"
    record = fit_into(directory, study, budget, design=design, settings=fast(epochs=2, **settings))
    again = open_study(study.directory, allow_code=True)
    built = load_split(again, directory)
    assert ("train_tail" not in settings) == (built.tail is not None)
    view = again.view()
    images = view.images("test")
    (evaluation,) = evaluate_splits(view, [built], images=images, precision=record.measurement.precision)
    assert record.measurement == measure(view, evaluation, part="test")
    assert record == SplitRecord.load(directory)


def test_nothing_of_the_model_survives_failure(study, fast):
    """A run that fails leaves the model's mode and gradients as they were."""
    study.model.module.conv2.train()
    with pytest.raises(KeyboardInterrupt):
        fit(study, "pool1", SMALL, settings=fast(), progress=Interrupt("stage 2, epoch 1"))
    assert study.model.module.conv2.training
    assert all(parameter.requires_grad for parameter in study.model.module.parameters())


def test_loss_that_is_no_number(study, fast, monkeypatch):
    """Training ends at the first loss that is no number, in words that say what to do."""
    monkeypatch.setattr(TrainingRun, "_error", lambda _, difference: {"loss": difference.mean() * float("nan")})
    with pytest.raises(NonFiniteError, match="choose smaller learning rates"):
        fit(study, "pool1", RATIO, start="random", settings=fast())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"design": "magic"}, "choose one of linear, undercomplete, identity"),
        ({"start": "warm"}, "choose one of closed-form, random"),
        ({"design": "undercomplete", "start": "closed-form"}, "has no closed form"),
        ({"design": "identity", "budget": Budget(element_ratio=4)}, "sends every element"),
        ({"design": "identity", "budget": Budget(payload_bytes=30)}, "give more bytes"),
        ({"budget": Budget(payload_bytes=3)}, "below the smallest payload"),
        ({"budget": Budget()}, "either bytes or an element ratio"),
        ({"cut": "pool9"}, "has no cut 'pool9'"),
        ({"group": "pets"}, "has no class subset 'pets'"),
    ],
)
def test_refused(study, fast, options, says):
    """What cannot be trained is refused before anything is, in words that help."""
    options = {"cut": "pool1", "budget": SMALL, "settings": fast(epochs=1)} | options
    with pytest.raises(InputError, match=says):
        fit(study, options.pop("cut"), options.pop("budget"), **options)
    assert not list((study.directory / "splits").glob("*/split.json"))


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": -1},
        {"batch_size": 1},
        {"distillation": 1.5},
        {"temperature": 0},
        {"patience": 0},
        {"features": "cloud"},
        {"precision": "fp8"},
        {"images": 1},
        dict.fromkeys(("train_encoder", "train_decoder", "train_tail"), False),
    ],
)
def test_settings_refused(fast, changes):
    """Settings that make no sense are refused when they are made."""
    with pytest.raises(InputError):
        fast(**changes)


def test_split_of_another_model(study, fast):
    """A split that was made from another model is not loaded."""
    directory = study.directory / "here"
    record = fit_into(directory, study, SMALL, settings=fast(epochs=0))
    record.model_copy(update={"model": "another"}).save(directory)
    with pytest.raises(StudyError, match="another model"):
        load_split(study, directory)
