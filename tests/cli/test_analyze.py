"""isplit analyze, from the command's words to the files of a study."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from isplit.design.devices import describe_device, resolve_device
from tests.cli.tiny_study import MODULES, RECORDS, read

CLASSES = ("bars", "dots", "rows")


def test_finishes(finished):
    """A good run exits 0."""
    assert 0 == finished[1].code


def test_leaves_a_whole_study(finished):
    """Records, report and figure are there, and no temporary file."""
    directory, _ = finished
    names = {path.name for path in directory.iterdir()}
    assert {*RECORDS, "report.html", "curve.svg"} <= names
    assert {".lock", ".lock.json"} == {name for name in names if name.startswith(".") or name.endswith(".tmp")}
    assert "<html" in (directory / "report.html").read_text()
    assert "<svg" in (directory / "curve.svg").read_text()


@pytest.mark.parametrize("name", RECORDS)
def test_every_record_names_its_schema(finished, name):
    """Each JSON file says which schema it follows, with a version."""
    assert re.fullmatch(rf"isplit\.{name.removesuffix('.json')}/\d+", read(finished[0], name)["schema"])


def test_curve_points(finished):
    """Each point of curve.json has cut, cui, stderr and per_class; all are finite and none negative here."""
    points = read(finished[0], "curve.json")["points"]
    assert len(points) >= 3
    for point in points:
        assert {"cut", "cui", "stderr", "per_class"} <= set(point)
        assert set(CLASSES) == set(point["per_class"])
        assert point["cui"] >= 0
        assert point["stderr"] >= 0
        assert all(value >= 0 for value in point["per_class"].values())


def test_overall_curve_is_the_mean_of_the_classes(finished):
    """Overall CUI is the mean of the class means."""
    for point in read(finished[0], "curve.json")["points"]:
        assert point["cui"] == pytest.approx(np.mean(list(point["per_class"].values())), rel=1e-9)


def test_candidates(finished):
    """candidates.json ranks from 1 on without gaps, says which rule found each, and is not empty."""
    candidates = read(finished[0], "candidates.json")["candidates"]
    assert list(range(1, len(candidates) + 1)) == [candidate["rank"] for candidate in candidates]
    assert candidates
    assert all(candidate["found_by"] for candidate in candidates)


def test_cut_names_are_the_same_everywhere(finished):
    """The curve's and the candidates' cuts are cuts of graph.json, each once, named by a module or an operation."""
    directory, _ = finished
    cuts = [cut["name"] for cut in read(directory, "graph.json")["cuts"]]
    assert len(cuts) == len(set(cuts))
    for name in cuts:
        assert name in MODULES or re.fullmatch(r"[\w.]*:\w+_\d+", name), name
    curve = [point["cut"] for point in read(directory, "curve.json")["points"]]
    assert [name for name in cuts if name in curve] == curve
    assert {candidate["cut"] for candidate in read(directory, "candidates.json")["candidates"]} <= set(cuts)


def test_default_cuts_come_after_activation(finished):
    """A convolution and its activation are one cut, named by the activation; pools are cuts of their own."""
    cuts = [cut["name"] for cut in read(finished[0], "graph.json")["cuts"]]
    assert ["relu1", "pool1", "relu2", "pool2", "relu3"] == cuts[:5]
    assert ["relu1", "pool1", "relu2", "pool2", "relu3"] == [
        p["cut"] for p in read(finished[0], "curve.json")["points"]
    ]


def test_graph_sizes(finished):
    """Shapes, bytes, MACs and parameters are those worked out by hand."""
    cuts = {cut["name"]: cut for cut in read(finished[0], "graph.json")["cuts"]}
    pool1 = cuts["pool1"]
    assert [8, 8, 8] == pool1["crossing"][0]["shape"]
    assert 8 * 8 * 8 * 4 == pool1["bytes"]
    conv1, conv2, conv3, fc = 16 * 16 * 8 * 27, 8 * 8 * 12 * 72, 4 * 4 * 12 * 108, 36
    assert (conv1, conv2 + conv3 + fc) == (pool1["head_macs"], pool1["tail_macs"])
    assert (8 * 28, 12 * 73 + 12 * 109 + 39) == (pool1["head_parameters"], pool1["tail_parameters"])


def test_study_says_where_everything_came_from(finished, tiny_args):
    """study.json holds the model, its weights and the data, with hashes, and the base accuracy with its interval."""
    record = read(finished[0], "study.json")
    assert tiny_args[0] == record["model"]["spec"]
    assert str(tiny_args[3]) == record["model"]["weights"]
    assert str(tiny_args[1]) == record["data"]["spec"]
    for digest in (record["model"]["weights_sha256"], record["model"]["fingerprint"], record["data"]["sha256"]):
        assert re.fullmatch(r"[0-9a-f]{64}", digest)
    assert list(CLASSES) == record["data"]["classes"]
    assert {"fit": 33, "select": 3, "test": 24} == record["data"]["part_images"]
    base = record["base_accuracy"]
    assert 24 == base["images"]
    assert base["low"] <= base["accuracy"] <= base["high"]
    assert base["accuracy"] > 0.8


def test_device_and_base_accuracy_are_printed_first(finished):
    """The first line says where it computes, the next the base accuracy; a good model gets no warning."""
    _, result = finished
    lines = [line for line in result.both.splitlines() if line.strip()]
    assert ["Computing on cpu.", "Base accuracy"] == [lines[0], lines[1][:13]]
    assert "warning" not in result.both


def test_ends_with_candidates_and_the_report(finished):
    """The terminal shows the ranked cuts in order, then where the report is."""
    directory, result = finished
    ranked = [candidate["cut"] for candidate in read(directory, "candidates.json")["candidates"]]
    places = [result.out.index(f" {cut} ") for cut in ranked]
    assert sorted(places) == places
    assert f"Report: {directory / 'report.html'}" in result.out.splitlines()[-2]
    assert f"isplit predict {directory}" in result.out.splitlines()[-1]


def test_terminal_table_shows_whole_rules(finished):
    """Where the output is no terminal, the rules that found a candidate are printed whole."""
    directory, result = finished
    assert "…" not in result.out
    assert "importance-maximum" in read(directory, "candidates.json")["candidates"][0]["found_by"]


def test_chance_level_warning(isplit, tiny_model_file, tiny_data, tmp_path, without_report):
    """Random weights are warned about, in the terminal before any result and in study.json."""
    result = isplit("analyze", f"{tiny_model_file}:build", tiny_data, "-o", tmp_path / "s")
    assert 0 == result.code
    assert "warning: the model is right on" in result.err
    assert result.both.index("warning") < result.both.index("Split points")
    assert any("right on" in warning for warning in read(tmp_path / "s", "study.json")["warnings"])


def test_json(isplit, tiny_args, tmp_path, without_report):
    """--json prints the record and nothing else on standard output."""
    result = isplit("analyze", *tiny_args, "-o", tmp_path / "s", "--json")
    assert 0 == result.code
    assert read(tmp_path / "s", "candidates.json") == json.loads(result.out)


def test_quiet(isplit, tiny_args, tmp_path, without_report):
    """--quiet prints nothing at all."""
    result = isplit("analyze", *tiny_args, "-o", tmp_path / "s", "--quiet")
    assert (0, "", "") == (result.code, result.out, result.err)
    assert (tmp_path / "s" / "candidates.json").exists()


def test_zip_is_the_same_as_its_folder(isplit, finished, tiny_args, tmp_path, without_report):
    """A zip of the folder gives the same curve."""
    archive = shutil.make_archive(str(tmp_path / "pictures"), "zip", tiny_args[1])
    assert 0 == isplit("analyze", tiny_args[0], archive, *tiny_args[2:], "-o", tmp_path / "s").code
    assert read(finished[0], "curve.json")["points"] == read(tmp_path / "s", "curve.json")["points"]


def test_residual_model_has_operation_cuts(isplit, tiny_data, tmp_path, without_report):
    """A sum has no module, so its cut is named `<enclosing module>:add_<k>` unless a module returns it."""
    path = tmp_path / "residual.py"
    path.write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, n):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)\n"
        "        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, n)\n"
        "    def forward(self, x):\n"
        "        x = self.a(x)\n"
        "        x = x + self.b(x)\n"
        "        return self.fc(self.pool(x).flatten(1))\n"
        "def build(num_classes=3):\n"
        "    return Net(num_classes)\n"
    )
    command = ("analyze", f"{path}:build", tiny_data, "--image-size", 16, "-o", tmp_path / "s", "--quiet")
    assert 0 == isplit(*command).code
    cuts = [cut["name"] for cut in read(tmp_path / "s", "graph.json")["cuts"]]
    assert re.fullmatch(r":add_\d+", cuts[1]), cuts
    assert cuts[1] in [point["cut"] for point in read(tmp_path / "s", "curve.json")["points"]]


NOT_FINITE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)
        self.preprocessing = {"image_size": (16, 16), "channels": 3}

    def forward(self, x):
        x = self.relu1(self.conv1(x))
        x = torch.sqrt(self.relu2(self.conv2(x)))  # the square root's gradient at 0 is infinite
        return self.fc(self.pool(x).flatten(1))


def build():
    return Net()
"""


def test_not_finite_importance_is_reported_by_cut(isplit, tiny_data, tmp_path, without_report):
    """NaN or infinity stops the ranking with exit 1 and names the cuts; curve.json has null there and counts it."""
    (tmp_path / "bad.py").write_text(NOT_FINITE)
    out = tmp_path / "s"
    result = isplit("analyze", f"{tmp_path / 'bad.py'}:build", tiny_data, "-o", out)
    assert 1 == result.code, result.both
    assert "Traceback" not in result.err
    points = read(out, "curve.json")["points"]
    broken = [point["cut"] for point in points if point["non_finite"]]
    assert broken
    assert any(cut in result.err.splitlines()[-1] for cut in broken)
    assert all(point["cui"] is None for point in points if point["non_finite"])
    assert not (out / "candidates.json").exists()


def test_as_a_process(tiny_args, tmp_path):
    """The installed command does the same, from relative paths, and its standard output is the record."""
    command = [Path(sys.executable).with_name("isplit"), "analyze", *map(str, tiny_args), "--json", "-o", "s"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert (0, "") == (done.returncode, done.stderr.partition("Base accuracy")[0])
    assert json.loads(done.stdout) == read(tmp_path / "s", "candidates.json")
    assert (tmp_path / "s" / "report.html").exists()


def test_the_first_line_says_where_it_is_computed(finished):
    """Before any work the device is named, and the records name it."""
    directory, result = finished
    device = read(directory, "curve.json")["device"]
    assert describe_device(resolve_device("auto")) == device == read(directory, "study.json")["device"]
    assert f"Computing on {device}." == result.err.splitlines()[0]
