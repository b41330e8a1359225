"""The main job as a function: what it refuses, what it reuses, and that captum would find the same curve."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

import isplit
from isplit.design.inputs.batches import iter_batches
from isplit.design.inputs.models import LoadedModel
from isplit.errors import ModelError
from isplit.records import Overlays, Preprocessing


class Small(nn.Module):
    """Two convolutions for digits, no better than chance."""

    preprocessing = Preprocessing(
        image_size=(8, 8), resize_size=8, interpolation="bilinear", channels=1, mean=(0.5,), std=(0.5,)
    )

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()
        )
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture
def model() -> LoadedModel:
    torch.manual_seed(0)
    return isplit.load_model(Small())


@pytest.fixture
def run(model: LoadedModel, tmp_path: Path) -> Callable[..., isplit.Study]:
    from isplit.design.analyze import analyze

    data = isplit.open_data("sklearn:digits")
    return lambda name="s", **options: analyze(model, data, tmp_path / name, **options)


def test_the_curve_is_captum_s(model: LoadedModel, run: Callable[..., isplit.Study]) -> None:
    """Averaged over the very images that were taken, class by class."""
    study = run(settings=isplit.AnalyzeSettings(images=40, precision="fp32"))
    data = isplit.open_data("sklearn:digits")
    (table,) = [np.load(path) for path in (study.directory / "scores").iterdir()]
    (batch,) = iter_batches(data, table["images"], model.preprocessing, batch_size=40)

    assert ["body.1", "body.2", "body.4"] == [point.cut for point in study.curve.points]
    for point, cut in zip(study.curve.points, study.graph_record.cuts, strict=False):
        layer = model.module.get_submodule(point.cut)
        maps = LayerGradCam(model.module, layer).attribute(batch.images, batch.labels, relu_attributions=True)
        assert isinstance(maps, torch.Tensor)
        scores = maps.detach().mean((1, 2, 3)).numpy() / cut.shape[0]
        classes = [scores[batch.labels.numpy() == number].mean() for number in range(10)]
        assert point.cui == pytest.approx(np.mean(classes), rel=1e-4)


def test_damaged_overlays_are_drawn_again(run: Callable[..., isplit.Study]) -> None:
    """Finished results are left alone, but not where a file of them is damaged."""
    settings = isplit.AnalyzeSettings(images=12)
    overlays = run(settings=settings).directory / Overlays.file_name
    drawn, written = Overlays.load(overlays.parent), overlays.stat().st_mtime_ns
    run(settings=settings)
    assert written == overlays.stat().st_mtime_ns

    overlays.write_bytes(overlays.read_bytes()[:50])
    run(settings=settings)
    again = Overlays.load(overlays.parent)
    assert drawn.maps.keys() == again.maps.keys() != set()
    assert all(np.array_equal(drawn.maps[cut], again.maps[cut]) for cut in drawn.maps)


def test_one_pass_serves_subsets(run: Callable[..., isplit.Study]) -> None:
    """A subset's curve is the mean over its own classes of what all classes' pass found."""
    study = run(classes=["1,2", "7,8,9"], settings=isplit.AnalyzeSettings(images=30))
    first, second = study.curve.subsets

    assert (6, 9) == (first.images, second.images)
    for point, whole in zip(first.points, study.curve.points, strict=True):
        assert point.cui == pytest.approx((whole.per_class["1"] + whole.per_class["2"]) / 2)
    assert 1 == len(list((study.directory / "scores").iterdir()))


def test_merged_classes_take_a_pass_of_their_own(run: Callable[..., isplit.Study]) -> None:
    """Their logit is another one."""
    study = run(classes=["1,2", "low=0+1,high=8+9"], settings=isplit.AnalyzeSettings(images=20))

    assert 2 == len(list((study.directory / "scores").iterdir()))
    assert ("low", "high") == study.curve.subsets[1].classes


def test_fewer_images_than_classes(run: Callable[..., isplit.Study]) -> None:
    """Classes without an image have no say, which is said; a subset of such classes takes images of its own."""
    study = run(classes=["1,2", "8,9"], settings=isplit.AnalyzeSettings(images=5))

    assert 5 == sum(study.curve.images_per_class.values())
    assert [2, 5] == [subset.images for subset in study.curve.subsets]
    assert any("fewer images (5) than there are classes (10)" in warning for warning in study.record.warnings)


def test_other_images_are_not_taken_for_these(model: LoadedModel, tmp_path: Path) -> None:
    """Scores are kept by the order of the images: another part of the same file has other scores."""
    from isplit.design.analyze import analyze

    rng = np.random.default_rng(0)
    arrays = {}
    for part in ("train", "test"):
        arrays |= {f"{part}_images": rng.integers(0, 255, (100, 8, 8), np.uint8), f"{part}_labels": np.arange(100) % 10}
    np.savez(tmp_path / "p.npz", **arrays)
    settings = isplit.AnalyzeSettings(images=20)
    train, test = (isplit.open_data(str(tmp_path / "p.npz"), split=part) for part in ("train", "test"))
    analyze(model, train, tmp_path / "s", settings=settings)
    again = analyze(model, test, tmp_path / "s", settings=settings, overwrite=True)
    fresh = analyze(model, test, tmp_path / "fresh", settings=settings)

    assert fresh.curve == again.curve


def test_the_channel_axis_can_be_given(run: Callable[..., isplit.Study]) -> None:
    """A cut's axis is taken as given; a cut that is not there is an error."""
    study = run(settings=isplit.AnalyzeSettings(images=10, channel_axes={"body.1": -1}))

    assert -1 == study.graph_record.cut("body.1").channel_axis
    with pytest.raises(ModelError, match="body9"):
        run("other", settings=isplit.AnalyzeSettings(images=10, channel_axes={"body9": 1}))


def test_from_python_a_bad_model_warns(model: LoadedModel, tmp_path: Path) -> None:
    """Who does not ask for the record hears of the chance level all the same."""
    with pytest.warns(UserWarning, match="no better than always guessing.*`isplit data` shows"):
        isplit.analyze(
            model, isplit.open_data("sklearn:digits"), out=tmp_path / "s", settings=isplit.AnalyzeSettings(images=10)
        )


def test_a_split_from_python(model: LoadedModel) -> None:
    """`split_model` takes the loaded model and a cut's name."""
    images = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(model.module(images), isplit.split_model(model, "body.2")(images))
