"""Which split is exported: the trained one if there is one, and never one that was not meant."""

import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from isplit.design.export import export
from isplit.design.export_settings import ExportSettings
from isplit.design.graph import split
from isplit.design.inputs.weights import fingerprint
from isplit.design.predict import predict
from isplit.design.settings import PredictSettings, SplitFilter
from isplit.design.splits import choose_split, read_split, save_split, split_directory
from isplit.errors import DamagedSplitWarning, StudyError
from isplit.records import Budget, Training
from isplit.runtime.bundle import Bundle

FEW = ExportSettings(images=3, local=False, remote=False)
TRAINING = Training(
    start="closed-form", trained=("tail",), part="fit", images=30, epochs=1, best_epoch=1, seconds=1.0, settings={}
)


@pytest.fixture
def own_study(tiny_study, tmp_path):
    """The study with a directory of its own, for a test to add splits to."""
    return replace(tiny_study, directory=Path(shutil.copytree(tiny_study.directory, tmp_path / "study")))


def where(study, cut, *, budget=60, trained=False):
    return split_directory(
        study.directory,
        cut=cut,
        group="all classes",
        design="linear",
        budget=Budget(payload_bytes=budget),
        trained=trained,
    )


def add_split(study, cut, *, budget=60, training=TRAINING, **sides):
    """Save the closed form of a cut once more, as another budget's or with trained sides."""
    saved = read_split(where(study, cut))
    changed = saved.record.model_copy(update={"budget": Budget(payload_bytes=budget), "training": training})
    directory = where(study, cut, budget=budget, trained=training is not None)
    save_split(directory, changed, replace(saved.at(study.cuts((cut,))[0]), **sides))
    return directory


def test_trained_tail(own_study, run_onnx, exported, tmp_path):
    """A trained split's own tail is exported; the head stays the model's."""
    tail = deepcopy(split(own_study.graph, "pool2").tail)
    last = tail.get_submodule("fc")
    before = last.bias.detach().clone()
    with torch.no_grad():
        last.weight.neg_()
        last.bias.copy_(torch.tensor([0.5, 0.25, 0.0]))
    add_split(own_study, "pool2", tail=tail)
    export(own_study, ["pool2"], tmp_path / "bundle", settings=FEW)
    bundle, pixels = Bundle.open(tmp_path / "bundle"), exported.pixels[:4]
    latents = run_onnx(bundle.head_path("pool2"), pixels)
    np.testing.assert_array_equal(run_onnx(exported.bundle.head_path("pool2"), pixels), latents)
    expected = before.numpy() - run_onnx(exported.bundle.tail_path("pool2"), latents) + last.bias.detach().numpy()
    np.testing.assert_allclose(expected, run_onnx(bundle.tail_path("pool2"), latents), atol=1e-5)


def test_trained_head(own_study, exported, run_onnx, tmp_path):
    """So is a trained head, and the model keeps its own weights."""
    head = deepcopy(split(own_study.graph, "pool2").head)
    with torch.no_grad():
        head.get_submodule("conv1").bias.add_(3)
    add_split(own_study, "pool2", head=head)
    export(own_study, ["pool2"], tmp_path / "bundle", settings=FEW)
    latents = run_onnx(Bundle.open(tmp_path / "bundle").head_path("pool2"), exported.pixels)
    assert (run_onnx(exported.bundle.head_path("pool2"), exported.pixels) != latents).mean() > 0.1
    assert own_study.record.model.fingerprint == fingerprint(own_study.model.module)


def test_closed_form_on_demand(own_study):
    """--closed-form passes the trained split by."""
    add_split(own_study, "pool2")
    chosen = choose_split(own_study.view(), "pool2", split_filter=SplitFilter(closed_form=True))
    assert chosen.record.training is None
    assert choose_split(own_study.view(), "pool2", split_filter=SplitFilter()).record.training is not None


def test_several(own_study):
    """With several budgets one has to be named; the message lists them, and naming one works."""
    add_split(own_study, "pool2", budget=90, training=None)
    with pytest.raises(StudyError, match="60 bytes, linear, closed form, 90 bytes, linear, closed form"):
        choose_split(own_study.view(), "pool2", split_filter=SplitFilter())
    wanted = SplitFilter(budget=Budget(payload_bytes=90))
    assert 90 == choose_split(own_study.view(), "pool2", split_filter=wanted).record.budget.payload_bytes


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (
            SplitFilter(budget=Budget(element_ratio=64.0)),
            "a budget of one in 64 elements; it has: 60 bytes, linear",
        ),
        (SplitFilter(design="pca"), "no split with the design pca"),
    ],
)
def test_none_that_fits(tiny_study, wanted, says):
    """Where none fits, the message says what there is."""
    with pytest.raises(StudyError, match=says):
        choose_split(tiny_study.view(), "pool2", split_filter=wanted)


@pytest.mark.parametrize(
    ("budget", "says"), [(None, "--cut relu3 --bytes N`"), (Budget(payload_bytes=99), "--cut relu3 --bytes 99`")]
)
def test_none_at_all(tiny_study, budget, says):
    """A cut without any split names the command that makes one."""
    with pytest.raises(StudyError, match=says) as caught:
        choose_split(tiny_study.view(), "relu3", split_filter=SplitFilter(budget=budget))
    assert "isplit predict" in str(caught.value)
    assert "isplit fit" in str(caught.value)


def test_another_subset(tiny_study):
    """The advice names the subset."""
    view = tiny_study.view("bars,rows")
    with pytest.raises(StudyError, match="--group 'bars,rows'"):
        choose_split(view, "relu3", split_filter=SplitFilter())


def test_another_model(own_study):
    """A split that was made for other weights is refused."""
    directory = where(own_study, "pool2")
    read_split(directory).record.model_copy(update={"model": "0" * 64}).save(directory)
    with pytest.raises(StudyError, match="another model"):
        choose_split(own_study.view(), "pool2", split_filter=SplitFilter())


def test_no_two_splits_in_one_place(tmp_path: Path) -> None:
    """Class subsets whose names differ only in what a file cannot be called have directories of their own."""
    groups = ("all classes", "all_classes", "a b", "a_b", "a/b", "ä b", "../a")
    places = {
        split_directory(
            tmp_path, cut="pool1", group=group, design="linear", budget=Budget(element_ratio=64), trained=True
        )
        for group in groups
    }

    assert len(groups) == len(places)
    assert {tmp_path / "splits"} == {place.parent for place in places}


def test_one_damaged_split_does_not_block_the_others(own_study, tmp_path):
    """Another cut is exported with a warning; the advice in it helps, and for the damaged cut itself it is an error."""
    directory = where(own_study, "pool1")
    (directory / "split.json").write_text("{")
    with pytest.warns(DamagedSplitWarning, match=r"a split was left out: .*delete the folder"):
        export(own_study, ["pool2"], tmp_path / "bundle", settings=FEW)
    with pytest.warns(DamagedSplitWarning), pytest.raises(StudyError, match="has no split at pool1"):
        choose_split(own_study.view(), "pool1", split_filter=SplitFilter())
    shutil.rmtree(directory)
    choose_split(own_study.view(), "pool2", split_filter=SplitFilter())


@pytest.mark.parametrize("damage", ["split.json", "weights"])
def test_a_damaged_split_is_made_again(own_study, damage):
    """`predict` makes a damaged split again instead of stopping at it."""
    directory = where(own_study, "pool2")
    before = read_split(directory).record
    path = directory / (damage if damage == "split.json" else before.weights.name)
    path.write_bytes(path.read_bytes()[:-9])
    settings = PredictSettings(statistics_images=24, images=12, remote_images=0, precision="fp32")
    predict(own_study, [Budget(payload_bytes=60)], cuts=["pool2"], settings=settings)
    assert before.weights == read_split(directory).record.weights


@pytest.mark.parametrize("ranks", [(3,), (2**31,), (2**62,)])
def test_a_record_that_describes_other_weights(own_study, ranks):
    """A bottleneck is compared with its weights before memory is allocated for what its record says."""
    directory = where(own_study, "pool2")
    saved = read_split(directory)
    bottleneck = saved.record.bottleneck.model_copy(update={"ranks": ranks})
    saved.record.model_copy(update={"bottleneck": bottleneck}).save(directory)
    with pytest.raises(StudyError, match="is damaged"):
        read_split(directory)
