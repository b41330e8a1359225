"""isplit analyze, from the command's words to the files of a study."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isplit.design.devices import describe_device, resolve_device

CLASSES = ("bars", "dots", "rows")
MODULES = ("conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "conv3", "relu3", "avgpool", "flatten", "fc")
RECORDS = ("study.json", "graph.json", "curve.json", "candidates.json")

COUNTED_DATA = '''
from pathlib import Path

import numpy as np

LOG = Path(__file__).with_name("reads.txt")


class Counted:
    """Stripes, upright and lying; every picture read leaves a line in reads.txt."""

    classes = ("bars", "dots", "rows")

    def __init__(self):
        self.targets = [i % 3 for i in range(60)]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        with LOG.open("a") as file:
            file.write(f"{i}\\n")
        rng = np.random.default_rng(i)
        return rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), self.targets[i]


def make():
    return Counted()
'''


def read(directory, name):
    return json.loads((Path(directory) / name).read_text())


@pytest.fixture
def counted(tmp_path):
    """A data factory, and a function that says how many pictures were read since it was last asked."""
    path = tmp_path / "counted.py"
    path.write_text(COUNTED_DATA)

    def reads():
        log = tmp_path / "reads.txt"
        count = len(log.read_text().splitlines()) if log.exists() else 0
        log.unlink(missing_ok=True)
        return count

    return f"{path}:make", reads


# --- the whole command ---


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


def test_same_seed_same_bytes(isplit, finished, tiny_args, tmp_path, without_report):
    """Two runs on the same input give the same records, byte for byte."""
    isplit("analyze", *tiny_args, "-o", tmp_path / "s", "--quiet")
    for name in RECORDS:
        assert (finished[0] / name).read_bytes() == (tmp_path / "s" / name).read_bytes()


# --- the same again ---


def test_rerun_reuses_what_is_there(isplit, tiny_model_file, counted, tmp_path, without_report):
    """A second run reads neither the test part nor the scored images again, and gives the same bytes."""
    data, reads = counted
    command = ("analyze", f"{tiny_model_file}:build", data, "-o", tmp_path / "s", "--quiet")
    assert 0 == isplit(*command).code
    first = {name: (tmp_path / "s" / name).read_bytes() for name in RECORDS}
    assert reads() >= 54
    assert 0 == isplit(*command).code
    assert first == {name: (tmp_path / "s" / name).read_bytes() for name in RECORDS}
    assert reads() <= 6 + 28  # the few pictures of the overlays, and those that tell whether the data is the same


def test_more_images_adds_to_what_is_there(isplit, tiny_model_file, counted, tmp_path, without_report):
    """A run with more images scores only those that are new."""
    data, reads = counted
    command = ("analyze", f"{tiny_model_file}:build", data, "-o", tmp_path / "s", "--quiet", "--images")
    isplit(*command, 30)
    reads()
    assert 0 == isplit(*command, 42).code
    assert reads() <= 12 + 6 + 28
    assert 42 == read(tmp_path / "s", "curve.json")["images"]
    isplit(*command[:4], tmp_path / "fresh", "--quiet", "--images", 42)
    assert read(tmp_path / "fresh", "curve.json") == read(tmp_path / "s", "curve.json")


def test_changed_model_code_is_not_mistaken_for_the_old(isplit, tiny_args, tmp_path, without_report):
    """Same weights, another activation: the old scores are not taken for the new model's."""
    source = Path(tiny_args[0].removesuffix(":build")).read_text()
    path = tmp_path / "mine.py"
    path.write_text(source)
    rest = (tiny_args[1], "--weights", tiny_args[3], "--quiet", "-o")
    assert 0 == isplit("analyze", f"{path}:build", *rest, tmp_path / "s").code
    path.write_text(source.replace("nn.ReLU()", "nn.Sigmoid()"))
    result = isplit("analyze", f"{path}:build", *rest, tmp_path / "s")
    if result.code:
        assert 2 == result.code
        assert "--overwrite" in result.err
        return
    assert 0 == isplit("analyze", f"{path}:build", *rest, tmp_path / "fresh").code
    for name in ("study.json", "curve.json", "candidates.json"):
        assert read(tmp_path / "fresh", name) == read(tmp_path / "s", name)


def test_changed_pictures_are_noticed(isplit, tiny_args, tiny_data, tmp_path, without_report):
    """Other pictures under the same names, of the same length in bytes: the study is refused or made anew."""
    for path in sorted((tiny_data / "train").rglob("*.png")):
        copy = tmp_path / "data" / path.parent.name / f"{path.stem}.bmp"
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(copy)
    command = ("analyze", tiny_args[0], tmp_path / "data", *tiny_args[2:], "--quiet", "-o")
    assert 0 == isplit(*command, tmp_path / "s").code
    for path in (tmp_path / "data").rglob("*.bmp"):
        Image.open(path).point(lambda value: value // 2).save(path)
    result = isplit(*command, tmp_path / "s")
    if result.code:
        assert 2 == result.code
        assert "data" in result.err
        return
    assert 0 == isplit(*command, tmp_path / "fresh").code
    assert read(tmp_path / "fresh", "curve.json") == read(tmp_path / "s", "curve.json")


def test_other_test_images_are_measured(isplit, tiny_args, tmp_path, without_report):
    """The base accuracy is of as many test images as asked for now, not as an earlier run was asked for."""
    isplit("analyze", *tiny_args, "-o", tmp_path / "s", "--test-images", 6)
    assert 6 == read(tmp_path / "s", "study.json")["base_accuracy"]["images"]
    result = isplit("analyze", *tiny_args, "-o", tmp_path / "s", "--test-images", "all")
    assert 24 == read(tmp_path / "s", "study.json")["base_accuracy"]["images"]
    assert "of 24 test images" in result.err


def test_overwrite(isplit, study, tiny_model_file, tiny_data, without_report):
    """--overwrite replaces a study of another model."""
    result = isplit("analyze", f"{tiny_model_file}:build", tiny_data, "-o", study, "--overwrite")
    assert 0 == result.code
    assert read(study, "study.json")["model"]["weights"] is None


# --- choices ---


@pytest.fixture
def analyzed(isplit, tiny_args, tmp_path, without_report):
    """Analyze with further options; returns what was printed and a reader of the study's records."""

    def analyze(*options):
        result = isplit("analyze", *tiny_args, "-o", tmp_path / "s", *options)
        assert 0 == result.code, result.err
        return result, lambda name: read(tmp_path / "s", f"{name}.json")

    return analyze


def test_classes_once_restricts(analyzed):
    """One --classes makes the study about those classes, accuracy and chance level included."""
    result, record = analyzed("--classes", "bars,dots")
    subsets = record("curve")["subsets"]
    points = subsets[0]["points"] if subsets else record("curve")["points"]
    assert ["bars", "dots"] == sorted(points[0]["per_class"])
    assert ["bars", "dots"] == sorted(record("study")["groups"][0]["classes"])
    assert 16 == record("study")["base_accuracy"]["images"]
    assert 0.5 == record("study")["chance_accuracy"]
    assert "of 16 test images" in result.err


def test_classes_repeated_are_ranked_and_compared(analyzed):
    """Every repeated --classes has a ranking of its own, and it is said where they disagree."""
    result, record = analyzed("--classes", "bars,dots", "--classes", "dots,rows")
    ranking = record("candidates")
    assert [["bars", "dots"], ["dots", "rows"]] == [subset["classes"] for subset in ranking["subsets"]]
    assert all(subset["candidates"] for subset in ranking["subsets"])
    assert ranking["disagreement"]
    assert ranking["disagreement"] in result.out.replace("\n", " ") + result.out
    assert [["bars", "dots"], ["dots", "rows"]] == [subset["classes"] for subset in record("curve")["subsets"]]


def test_subset_curve_is_that_of_its_classes(analyzed, finished):
    """The correct class's gradient is the same in a subset, so its curve is the mean of its classes' curves."""
    _, record = analyzed("--classes", "bars,dots", "--classes", "dots,rows")
    whole = {point["cut"]: point["per_class"] for point in read(finished[0], "curve.json")["points"]}
    for point in record("curve")["subsets"][0]["points"]:
        classes = whole[point["cut"]]
        assert point["cui"] == pytest.approx((classes["bars"] + classes["dots"]) / 2, rel=1e-6)


def test_classes_from_a_file(analyzed, tmp_path):
    """A JSON file of named groups gives one ranking per group, by its name."""
    (tmp_path / "groups.json").write_text(json.dumps({"lines": ["bars", "rows"], "mixed": ["dots", "rows"]}))
    _, record = analyzed("--classes", str(tmp_path / "groups.json"))
    assert ["lines", "mixed"] == [subset["name"] for subset in record("candidates")["subsets"]]


def test_merged_classes(analyzed):
    """x=a+b counts two classes as one of that name."""
    _, record = analyzed("--classes", "dots,stripes=bars+rows")
    curve = record("curve")
    points = curve["subsets"][0]["points"] if curve["subsets"] else curve["points"]
    assert ["dots", "stripes"] == sorted(points[0]["per_class"])
    group = record("study")["groups"][0]
    assert {"dots": ["dots"], "stripes": ["bars", "rows"]} == dict(zip(group["classes"], group["members"], strict=True))


def test_images_are_balanced(analyzed):
    """--images N takes N images, as many of each class."""
    _, record = analyzed("--images", 12)
    assert {"bars": 4, "dots": 4, "rows": 4} == record("curve")["images_per_class"]
    assert 12 == record("curve")["images"]


def test_all_images(analyzed):
    """--images all takes the whole fit part."""
    _, record = analyzed("--images", "all")
    assert 33 == record("curve")["images"]


def test_fewer_images_than_classes(isplit, tiny_args, tmp_path):
    """With fewer images than classes the curve is drawn all the same, and a warning says which classes count."""
    result = isplit("analyze", *tiny_args, "-o", tmp_path / "s", "--images", 1)

    assert 0 == result.code
    assert "warning: the curve is taken from fewer images (1) than there are classes (3)" in result.err


def test_tolerance_stops_early(analyzed):
    """--tolerance may stop before all images are seen; what it did is in the record, in words."""
    _, record = analyzed("--tolerance", 0.9, "--batch-size", 3)
    assert record("curve")["images"] < 33
    assert "0.9" in record("curve")["stopped"]


@pytest.mark.parametrize("method", ["cui", "gradient-activation", "gradient-energy"])
def test_methods(analyzed, method):
    """Each method fills the curve and is named in both records."""
    _, record = analyzed("--method", method)
    assert (method, method) == (record("curve")["method"], record("candidates")["method"])
    assert all(point["cui"] is not None for point in record("curve")["points"])
    assert record("candidates")["candidates"]


def test_methods_differ(analyzed, finished):
    """Another method gives other values."""
    _, record = analyzed("--method", "gradient-energy")
    cui = [point["cui"] for point in read(finished[0], "curve.json")["points"]]
    assert not np.allclose(cui, [point["cui"] for point in record("curve")["points"]], rtol=0.01)


def test_target_predicted(analyzed, finished):
    """--target predicted is recorded; on images that are all predicted right the curve is the same."""
    _, record = analyzed("--target", "predicted")
    assert "predicted" == record("curve")["target"]
    assert "correct" == read(finished[0], "curve.json")["target"]
    before = [point["cui"] for point in read(finished[0], "curve.json")["points"]]
    assert before == pytest.approx([point["cui"] for point in record("curve")["points"]], rel=0.2)


def test_precision_bf16(analyzed, finished):
    """bf16 is recorded, gives nearly the same values and the same candidates."""
    _, record = analyzed("--precision", "bf16")
    assert "bf16" == record("curve")["precision"]
    exact = read(finished[0], "curve.json")["points"]
    assert [p["cui"] for p in exact] == pytest.approx([p["cui"] for p in record("curve")["points"]], rel=0.05)
    expected = [candidate["cut"] for candidate in read(finished[0], "candidates.json")["candidates"]]
    assert expected == [candidate["cut"] for candidate in record("candidates")["candidates"]]


def test_pre_activation(analyzed):
    """--pre-activation puts the convolutions' outputs before the activations on the curve too."""
    _, record = analyzed("--pre-activation")
    assert ["conv1", "relu1", "pool1"] == [point["cut"] for point in record("curve")["points"]][:3]


def test_all_cuts(analyzed):
    """--all-cuts lists every place in graph.json; the default cuts are among them in the same order."""
    _, record = analyzed("--all-cuts")
    cuts = [cut["name"] for cut in record("graph")["cuts"]]
    assert [name for name in MODULES if name in cuts] == [name for name in cuts if name in MODULES]
    assert {"conv1", "relu1", "conv2", "flatten"} <= set(cuts)


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
