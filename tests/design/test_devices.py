"""Where the workstation computes: what is there, what is refused, and that analyze and predict mix no devices."""

import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

import isplit
from isplit.design import devices
from isplit.design.analyze import analyze
from isplit.design.devices import device_of, placed, resolve_device
from isplit.design.predict import predict
from isplit.design.settings import AnalyzeSettings, FitSettings, PredictSettings
from isplit.design.study import open_study
from isplit.errors import InputError
from isplit.records import Budget
from tests.design.pretend_device import DEVICE, pretended_device

BUDGETS = [Budget(payload_bytes=40), Budget(element_ratio=4)]


@pytest.fixture
def two_cards(monkeypatch):
    """A machine that has two of NVIDIA's cards, as far as names go."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("setting", "expected"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_cards(two_cards, setting, expected):
    """The first accelerator is taken for "auto"; a name takes what it names."""
    assert torch.device(expected) == resolve_device(setting)


def test_a_card_that_is_not_there(two_cards):
    """A device that is absent is refused with what there is, and nothing is taken in its place."""
    with pytest.raises(InputError, match="'cuda:2', which torch cannot use here: there is cpu, cuda:0, cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "meta"])
@pytest.mark.parametrize("settings", [AnalyzeSettings, PredictSettings, FitSettings])
def test_names_that_are_none(settings, name):
    """What is no device's name anywhere is refused where the settings are made."""
    with pytest.raises(InputError, match="choose one of auto, cpu, cuda"):
        settings(device=name)


def test_a_processor_alone(monkeypatch):
    """Without an accelerator "auto" is the processor."""
    monkeypatch.setattr(devices, "available_devices", lambda: ["cpu"])
    assert torch.device("cpu") == resolve_device("auto")


def test_placed_comes_back():
    """A module is on the device for the block, and back afterwards, whatever happens in it."""
    module = nn.Linear(2, 2)

    def fail():
        with placed(module, torch.device("meta")):
            assert torch.device("meta") == device_of(module)
            module.to_empty(device="cpu")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.device("cpu") == device_of(module)
    assert torch.device("cpu") == device_of(nn.ReLU())


def test_analyze_elsewhere(monkeypatch, tiny_model_file, tiny_weights, tiny_data, tmp_path):
    """The curve of another device is the processor's, and the records say where it was computed."""
    studies = {}
    for name in ("cpu", "cuda"):
        model = isplit.load_model(f"{tiny_model_file}:build", weights=str(tiny_weights))
        settings = AnalyzeSettings(images=12, precision="fp32", device=name)
        with pretended_device(monkeypatch):
            studies[name] = analyze(model, isplit.open_data(str(tiny_data)), tmp_path / name, settings=settings)
        assert torch.device("cpu") == device_of(model.module)
    here, there = studies["cpu"], studies["cuda"]

    assert ("cpu", str(DEVICE)) == (here.curve.device, there.curve.device)
    assert ("cpu", str(DEVICE)) == (here.record.versions["device"], there.record.versions["device"])
    assert [p.cui for p in here.curve.points] == pytest.approx([p.cui for p in there.curve.points], rel=1e-5)
    assert here.record.base_accuracy == there.record.base_accuracy


def test_predict_elsewhere(monkeypatch, analysed, tmp_path):
    """Accuracies and payloads of splits and compressed images are the processor's, of positions and of joint maps."""
    settings = PredictSettings(statistics_images=16, images=None, remote_images=6, precision="fp32")
    records = {}
    for name in ("cpu", "cuda"):
        study = open_study(shutil.copytree(analysed, tmp_path / name), allow_code=True)
        with pretended_device(monkeypatch):
            records[name] = predict(study, BUDGETS, settings=replace(settings, device=name))
    here, there = records["cpu"], records["cuda"]

    assert ("cpu", str(DEVICE)) == (here.device, there.device)
    assert [row.cut for row in here.predictions] == [row.cut for row in there.predictions]
    for row, other in zip(here.predictions, there.predictions, strict=True):
        assert row.measurement.payload_bytes.mean == pytest.approx(other.measurement.payload_bytes.mean, rel=0.02)
        assert abs(row.measurement.accuracy.accuracy - other.measurement.accuracy.accuracy) <= 0.1
    assert here.remote == there.remote


def test_the_pretended_device_refuses_mixtures(monkeypatch):
    """The device that these tests compute on notices what an accelerator would refuse."""
    with pretended_device(monkeypatch):
        elsewhere = torch.ones(3).to(DEVICE)
        with pytest.raises(RuntimeError, match="two devices"):
            elsewhere + torch.ones(3)
        with pytest.raises(RuntimeError, match="numpy"):
            elsewhere.numpy()
    assert [2.0] * 3 == (elsewhere + elsewhere).cpu().tolist()
