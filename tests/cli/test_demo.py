"""The demo, whole: what the README opens with."""

import json
from pathlib import Path

import numpy as np
import pytest

from isplit.errors import StudyError
from isplit.records import PlanRecord, RunsRecord, SplitRecord
from isplit.runtime.bundle import Bundle


def test_demo(demo):
    """Trains a network that reads digits, finds interior maxima of its curve, and leaves a report."""
    directory, result = demo

    assert 0 == result.code, result.err
    study = directory / "isplit-demo" / "study"
    record = json.loads((study / "study.json").read_text())
    ranking = json.loads((study / "candidates.json").read_text())
    assert record["base_accuracy"]["low"] > 0.9
    assert [] == record["warnings"]
    assert ranking["note"] is None
    assert "importance-maximum" in ranking["candidates"][0]["found_by"]
    assert all(candidate["cut"] in result.out for candidate in ranking["candidates"])
    assert str(study / "report.html") in result.out
    assert 50_000 < (study / "report.html").stat().st_size < 2_000_000


def test_demo_goes_the_whole_way(demo):
    """The planned split is trained within its budget, exported, served, and every image answered in every placement."""
    directory, result = demo

    study = directory / "isplit-demo" / "study"
    (split,) = [
        record
        for path in study.glob("splits/*/split.json")
        if (record := SplitRecord.load(path.parent)).training is not None
    ]
    assert split.measurement.accuracy.accuracy > 0.9
    assert split.measurement.payload_bytes.mean < 1.1 * split.budget.payload_bytes
    bundle = Bundle.open(directory / "isplit-demo" / "bundle")
    assert [split.cut] == [placement.name for placement in bundle.record.cuts]
    runs = RunsRecord.load(study)
    assert ["local", "remote", split.cut] == [run.placement for run in runs.runs]
    for run, source in zip(runs.runs, ("local", "remote", "split"), strict=True):
        assert {source: run.images} == run.sources
        assert run.accuracy.accuracy > 0.85
        assert run.placement in result.out
        assert run.predicted_ms > 0
        assert run.from_picture_median_ms > 0
    text = " ".join(result.out.split())
    for words in ("On a Raspberry Pi 4", "over Ethernet, split after", "over 4G, run it on the device", "checked"):
        assert words in text
    assert PlanRecord.load(study).answer.text.split(":")[0] in (study / "report.html").read_text()


@pytest.fixture
def train(tmp_path):
    """Train the demo's network on noise, for one step, into a file of this test's directory."""
    from isplit.design.demo import CompactResNet, train_demo
    from isplit.design.inputs.data import open_data

    rng = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", images=rng.integers(0, 256, (48, 8, 8), np.uint8), labels=np.arange(48) % 2)
    data = open_data(str(tmp_path / "noise.npz"))

    def run(path):
        train_demo(data, CompactResNet.preprocessing, path, epochs=1, progress=lambda done, total: None)

    return run


def test_weights_that_cannot_be_written(train, tmp_path):
    """Weights that have nowhere to go are an error that names the file."""
    with pytest.raises(StudyError, match=r"cannot write .*none/w\.safetensors"):
        train(tmp_path / "none" / "w.safetensors")


def test_failed_write_keeps_the_old_weights(train, tmp_path, monkeypatch):
    """Weights are written whole or not at all."""
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"old")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StudyError, match="No space left on device"):
        train(path)
    assert b"old" == path.read_bytes()
    assert ["noise.npz", "w.safetensors"] == sorted(path.name for path in tmp_path.iterdir())
