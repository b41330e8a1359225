"""Where the workstation computes: what is there, what is refused, and that analyze and predict mix no devices."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import isplit
from isplit.design import devices
from isplit.design.analyze import analyze
from isplit.design.closed_form.joint import solve_joint
from isplit.design.devices import device_of, placed, resolve_device
from isplit.design.fit import fit
from isplit.design.fit_remote import fit_remote
from isplit.design.graph.export_trace import trace_with_export
from isplit.design.graph.fx_trace import trace_with_fx
from isplit.design.graph.outputs import ModelCall
from isplit.design.predict import predict
from isplit.design.remote_settings import without_split_settings
from isplit.design.settings import AnalyzeSettings, FitSettings, PredictSettings
from isplit.design.study import open_study
from isplit.design.training.checkpoint import Checkpoint
from isplit.errors import InputError, ModelError
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
        with placed(module, device=torch.device("meta")):
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
    assert ("cpu", str(DEVICE)) == (here.record.device, there.record.device)
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


def test_predict_without_float64(monkeypatch, analysed, tmp_path):
    """A device that has no float64, as Apple's, sums on the CPU and gives the same."""
    settings = PredictSettings(statistics_images=16, images=None, remote_images=0, precision="fp32")
    records = {}
    for name in ("cpu", "cuda"):
        study = open_study(shutil.copytree(analysed, tmp_path / name), allow_code=True)
        with pretended_device(monkeypatch, float64=False):
            records[name] = predict(study, BUDGETS[:1], settings=replace(settings, device=name))
    for row, other in zip(records["cpu"].predictions, records["cuda"].predictions, strict=True):
        assert row.measurement.payload_bytes.mean == pytest.approx(other.measurement.payload_bytes.mean, rel=0.02)
        assert abs(row.measurement.accuracy.accuracy - other.measurement.accuracy.accuracy) <= 0.1


@pytest.mark.parametrize("options", [{}, {"start": "random"}, {"design": "undercomplete"}])
def test_fit_elsewhere(monkeypatch, analysed, tmp_path, fast, options):
    """A split is trained and measured on the other device, and its files are those of the CPU."""
    settings = replace(fast(epochs=2), precision="fp32")
    records = {}
    for name in ("cpu", "cuda"):
        study = open_study(shutil.copytree(analysed, tmp_path / name), allow_code=True)
        with pretended_device(monkeypatch):
            records[name] = fit(study, "pool1", 60, settings=replace(settings, device=name), **options)
        assert torch.device("cpu") == device_of(study.graph.module)
    here, there = records["cpu"], records["cuda"]

    assert ("cpu", str(DEVICE)) == (here.device, there.device)
    for row, other in zip(here.training.curve, there.training.curve, strict=True):
        assert row.losses == pytest.approx(other.losses, rel=0.02)
    assert abs(here.measurement.accuracy.accuracy - there.measurement.accuracy.accuracy) <= 0.1


def test_fit_goes_on_elsewhere(monkeypatch, analysed, tmp_path, fast):
    """A run that was stopped after an epoch on the other device ends as one that was not."""
    settings = replace(fast(epochs=3), precision="fp32", device="cuda")
    whole = open_study(shutil.copytree(analysed, tmp_path / "whole"), allow_code=True)
    halted = open_study(shutil.copytree(analysed, tmp_path / "halted"), allow_code=True)
    save = Checkpoint.save

    def stop(checkpoint, state, tensors):
        save(checkpoint, state, tensors)
        raise KeyboardInterrupt

    with pretended_device(monkeypatch):
        expected = fit(whole, "pool1", 60, settings=settings)
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "save", stop)
            with pytest.raises(KeyboardInterrupt):
                fit(halted, "pool1", 60, settings=settings)
        record = fit(halted, "pool1", 60, settings=settings)
    assert [row.losses for row in expected.training.curve] == [row.losses for row in record.training.curve]
    assert expected.measurement == record.measurement


def test_fit_remote_elsewhere(monkeypatch, analysed, tmp_path, fast):
    """The opponent is trained and measured on the other device."""
    settings = without_split_settings(replace(fast(epochs=1), precision="fp32", model_rate=1e-3))
    records = {}
    for name in ("cpu", "cuda"):
        study = open_study(shutil.copytree(analysed, tmp_path / name), allow_code=True)
        with pretended_device(monkeypatch):
            records[name] = fit_remote(study, "jpeg:20", after="pool1", settings=replace(settings, device=name))
    here, there = records["cpu"], records["cuda"]
    assert ("cpu", str(DEVICE)) == (here.device, there.device)
    assert here.curve[1].losses == pytest.approx(there.curve[1].losses, rel=0.02)


class Positions(nn.Module):
    """Adds a code of its positions, which it makes on its input's device."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 3)

    def forward(self, images):
        maps = self.conv(images)
        code = torch.arange(maps.shape[3], device=images.device) + torch.zeros(maps.shape[3]).to(images.device)
        return self.fc((maps + code / 10).mean((2, 3)))


@pytest.mark.parametrize("trace", [trace_with_fx, trace_with_export])
def test_graphs_that_name_the_cpu(monkeypatch, trace):
    """A graph that was captured on the CPU makes its tensors where it computes, and names the CPU again afterwards."""
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = Positions().eval()
    module, _ = trace(model, images, ModelCall())
    before = str(module.graph)
    expected = module(images)
    with pretended_device(monkeypatch), placed(module, device=DEVICE), torch.no_grad():
        there = module(images.to(DEVICE))
        assert DEVICE == there.device
        torch.testing.assert_close(expected, there.cpu())
    assert before == str(module.graph)
    torch.testing.assert_close(expected, module(images))


def test_joint_latents_elsewhere(monkeypatch):
    """The map over all positions that is solved for on the other device is the CPU's."""
    latents = [torch.randn(60, 3, 4, generator=torch.Generator().manual_seed(0)).cumsum(2)]
    expected = solve_joint(latents)
    with pretended_device(monkeypatch):
        solution = solve_joint(latents, device=DEVICE)
    assert torch.device("cpu") == solution.vectors.device
    torch.testing.assert_close(expected.mean, solution.mean)
    torch.testing.assert_close(expected.vectors.abs(), solution.vectors.abs(), rtol=1e-3, atol=1e-4)


def test_float32_is_not_rounded_on_a_card(monkeypatch):
    """Nothing is computed in TF32 while a model is on a card of NVIDIA's, and torch's settings come back."""
    before = torch.backends.cudnn.allow_tf32
    model = nn.ReLU()  # without numbers that would have to be moved
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with placed(model, device=torch.device("cuda:0")):
        assert (False, False) == (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    assert torch.backends.cudnn.allow_tf32
    monkeypatch.undo()
    assert before == torch.backends.cudnn.allow_tf32


def test_a_model_that_makes_tensors_elsewhere(monkeypatch):
    """Code that no graph shows makes a tensor on the CPU: the message says what to do about it."""

    def compute():
        with placed(nn.Linear(2, 2), device=DEVICE):
            torch.ones(3).to(DEVICE) + torch.ones(3)

    with pretended_device(monkeypatch), pytest.raises(ModelError, match="its code makes tensors elsewhere"):
        compute()


def test_memory_runs_out(monkeypatch):
    """A device without memory left is an error with a remedy, not a traceback."""

    def compute():
        with placed(nn.Linear(2, 2), device=DEVICE):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with (
        pretended_device(monkeypatch),
        pytest.raises(InputError, match="no memory left: choose a smaller"),
    ):
        compute()


MIXTURES = {
    "sum": lambda there, here: there + here,
    "index on the device": lambda there, here: here[there.long()],
    "values": lambda there, here: there.index_put_((torch.tensor([0]),), torch.ones(1)),
    "generator": lambda there, here: there.normal_(generator=torch.Generator()),
    "joined": lambda there, here: torch.cat([there, here]),
    "array": lambda there, here: np.asarray(there),
    "numpy": lambda there, here: there.numpy(),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_the_pretended_device_refuses(monkeypatch, name):
    """The device that these tests compute on notices what an accelerator would refuse."""
    with pretended_device(monkeypatch):
        there = torch.zeros(3).to(DEVICE)
        with pytest.raises((RuntimeError, TypeError), match=r"same device|indices are on|generator|numpy"):
            MIXTURES[name](there, torch.ones(3))
    assert [0.0] * 3 == there.cpu().tolist()


@pytest.mark.parametrize(("name", "expected"), [("cuda:1", ["cuda:1"]), ("mps", ["mps"]), ("cpu", [])])
def test_an_accelerator_is_waited_for(monkeypatch, name, expected):
    """Each kind of accelerator is waited for in its own way, and a processor is not waited for."""
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append(str(device)))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    devices.synchronise(torch.device(name))
    assert expected == waited
