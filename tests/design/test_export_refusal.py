"""What does not answer as torch does is not written, and nothing else is written over."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from isplit.design import export as export_module
from isplit.design.export import export
from isplit.design.export_settings import ExportSettings
from isplit.design.inputs.weights import fingerprint
from isplit.design.onnx.files import to_onnx
from isplit.errors import BundleError, ExportError, InputError, ModelError
from isplit.runtime.bundle import Bundle

FEW = ExportSettings(images=3, local=False, remote=False)


def spoil(target, change):
    """Return an exporter that changes the first large weight of the files that give `target`."""
    real = export_module.to_onnx

    def export_spoilt(module, example, *, source, **names):
        model = real(module, example, source=source, **names)
        if target == names["target"]:
            tensor = max(model.graph.initializer, key=lambda weight: len(weight.raw_data))
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
        return model

    return export_spoilt


@pytest.mark.parametrize(
    ("target", "says"), [("latent", "pool1.head.onnx gives other latents"), ("logits", "answers otherwise than torch")]
)
def test_altered_model(tiny_study, tmp_path, monkeypatch, target, says):
    """A file with one weight changed is refused by name, and nothing is left."""
    monkeypatch.setattr(export_module, "to_onnx", spoil(target, lambda weight: weight * np.float32(1.3)))
    with pytest.raises(ExportError, match=says):
        export(tiny_study, ["pool1"], tmp_path / "bundle", settings=FEW)
    assert [] == list(tmp_path.iterdir())


def test_not_a_number(tiny_study, tmp_path, monkeypatch):
    """Logits that are NaN are no answer."""
    monkeypatch.setattr(export_module, "to_onnx", spoil("logits", lambda weight: weight * np.float32("nan")))
    with pytest.raises(ExportError, match="nan"):
        export(tiny_study, ["pool1"], tmp_path / "bundle", settings=FEW)


def test_tolerance(tiny_study, tmp_path):
    """The tolerance is kept: a far smaller one than float32 can meet is refused, and says what allows more."""
    with pytest.raises(ExportError, match="tolerance=SHARE"):
        export(tiny_study, ["pool1"], tmp_path / "bundle", settings=replace(FEW, tolerance=1e-12))
    assert [] == list(tmp_path.iterdir())


def test_refused_over_a_bundle(tiny_study, exported, tmp_path, monkeypatch):
    """A bundle that was to be replaced is still there, whole, when the new one is refused."""
    out = tmp_path / "bundle"
    export(tiny_study, ["pool1"], out, settings=FEW)
    monkeypatch.setattr(export_module, "to_onnx", spoil("latent", np.zeros_like))
    with pytest.raises(ExportError):
        export(tiny_study, ["pool2"], out, settings=replace(FEW, overwrite=True))
    assert ["bundle"] == [path.name for path in tmp_path.iterdir()]
    assert ["pool1"] == [cut.name for cut in Bundle.open(out).record.cuts]
    monkeypatch.undo()
    with pytest.raises(BundleError, match="overwrite=True"):
        export(tiny_study, ["pool2"], out, settings=FEW)
    export(tiny_study, ["pool2"], out, settings=replace(FEW, overwrite=True))
    assert ["pool2"] == [cut.name for cut in Bundle.open(out).record.cuts]
    assert ["bundle"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("manifest", [None, "{}", '{"schema": "other/1"}', "["])
def test_not_a_bundle(tiny_study, tmp_path, manifest):
    """A directory with anything else in it is not touched, whatever it says of itself."""
    out = tmp_path / "mine"
    out.mkdir()
    (out / "work.txt").write_text("a year")
    if manifest is not None:
        (out / "manifest.json").write_text(manifest)
    with pytest.raises(BundleError, match="no bundle"):
        export(tiny_study, ["pool1"], out, settings=ExportSettings(overwrite=True))
    assert "a year" == (out / "work.txt").read_text()


def test_a_file_in_the_way(tiny_study, tmp_path):
    """A file is not a place for a bundle."""
    (tmp_path / "bundle").write_text("")
    with pytest.raises(BundleError, match="no directory"):
        export(tiny_study, ["pool1"], tmp_path / "bundle")


def test_a_place_that_cannot_be_written(tiny_study, tmp_path):
    """Where nothing can be written, the message says so."""
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot write"):
        export(tiny_study, ["pool1"], tmp_path / "file" / "bundle")


def test_no_onnx(monkeypatch):
    """What torch cannot export is an error that names the part, and the module keeps its mode."""

    def fail(*args, **kwargs):
        raise RuntimeError("\n\nno such operator")

    monkeypatch.setattr("torch.onnx.export", fail)
    module = torch.nn.Dropout().train()
    with pytest.raises(ModelError, match="'latent': no such operator"):
        to_onnx(module, torch.zeros(2, 3), source="image", target="latent")
    assert module.training


def test_nothing_of_the_study_changes(tiny_study, exported):
    """Export leaves the model in its mode, with its gradients and its values."""
    assert tiny_study.record.model.fingerprint == fingerprint(tiny_study.model.module)
    assert all(parameter.requires_grad for parameter in tiny_study.model.module.parameters())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"images": 0}, "images is 0"),
        ({"int8_images": 0}, "int8_images"),
        ({"calibration_images": -1}, "calibration_images"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
    ],
)
def test_settings(fields, says):
    """Settings that make no sense are refused when they are made."""
    with pytest.raises(InputError, match=says):
        ExportSettings(**fields)


@pytest.mark.parametrize("name", ["a b", "a.b", "x" * 65, "naïve"])
def test_name(tiny_study, tmp_path, name):
    """A name that could not stand on the wire is refused before any work."""
    with pytest.raises(InputError, match="letters, digits"):
        export(tiny_study, ["pool1"], tmp_path / "bundle", settings=ExportSettings(name=name))


def test_no_cut(tiny_study, tmp_path):
    """A bundle needs a cut."""
    with pytest.raises(InputError, match="at least one cut"):
        export(tiny_study, [], tmp_path / "bundle")


def test_models_are_valid_onnx(exported):
    """Every file passes onnx's own checker, shapes included, with its external weights."""
    for path in exported.bundle.directory.rglob("*.onnx"):
        onnx.checker.check_model(str(path), full_check=True)
