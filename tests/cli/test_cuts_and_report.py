"""isplit cuts and isplit report, the help of every verb, and the version."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "timm", "safetensors", "sklearn"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from isplit.cli import main
main()
"""


def test_cuts_table(isplit, tiny_model_file, monkeypatch):
    """The table has every cut with its shape, in the order of computation."""
    monkeypatch.setenv("COLUMNS", "160")
    result = isplit("cuts", f"{tiny_model_file}:build")
    assert (0, "") == (result.code, result.err)
    shapes = {
        "relu1": "8×16×16",
        "pool1": "8×8×8",
        "relu2": "12×8×8",
        "pool2": "12×4×4",
        "relu3": "12×4×4",
        "avgpool": "12×1×1",
    }
    places = [re.search(rf"\b{cut}\b.*{shape}", result.out) for cut, shape in shapes.items()]
    assert all(places)
    starts = [place.start() for place in places]
    assert sorted(starts) == starts


def test_cuts_table_is_whole_in_a_pipe(isplit, monkeypatch):
    """Where the output is no terminal, no name and no number is cut short."""
    monkeypatch.delenv("COLUMNS", raising=False)
    result = isplit("cuts", "torchvision:squeezenet1_1", "--image-size", 64)
    assert 0 == result.code
    assert "features.3.squeeze_activation" in result.out
    assert "64×31×31" in result.out
    assert "…" not in result.out


def test_cuts_json(isplit, tiny_model_file, finished):
    """--json prints the graph record, the same that analyze writes, and nothing else."""
    result = isplit("cuts", f"{tiny_model_file}:build", "--json")
    assert (0, "") == (result.code, result.err)
    graph = json.loads(result.out)
    assert json.loads((finished[0] / "graph.json").read_text()) == graph
    for cut in graph["cuts"]:
        assert {"name", "bytes", "crossing", "head_macs", "tail_macs", "head_peak_bytes", "tail_peak_bytes"} <= set(cut)
        assert graph["macs"] == cut["head_macs"] + cut["tail_macs"]


def test_cuts_options(isplit, tiny_model_file):
    """--pre-activation and --all-cuts add cuts and take none away."""
    names = []
    for options in ([], ["--pre-activation"], ["--all-cuts"]):
        graph = json.loads(isplit("cuts", f"{tiny_model_file}:build", "--json", *options).out)
        names.append({cut["name"] for cut in graph["cuts"]})
    assert names[0] < names[1] < names[2]
    assert {"conv1", "conv2", "conv3"} <= names[1] - names[0]


def test_cuts_of_a_library_model(isplit):
    """A torchvision model is named by `torchvision:NAME`; its cuts need no weights."""
    result = isplit("cuts", "torchvision:squeezenet1_1", "--image-size", 64, "--json")
    assert 0 == result.code, result.err
    assert "features.1" == json.loads(result.out)["cuts"][0]["name"]


def test_report_draws_again(isplit, study):
    """`isplit report` writes deleted files again, and prints where they are."""
    before = (study / "curve.svg").read_bytes()
    (study / "report.html").unlink()
    (study / "curve.svg").unlink()
    result = isplit("report", study)
    assert (0, "") == (result.code, result.err)
    assert {str(study / "report.html"), str(study / "curve.svg")} == set(result.out.split())
    assert before == (study / "curve.svg").read_bytes()
    assert "<html" in (study / "report.html").read_text()


def test_report_json(isplit, study):
    """--json gives the written paths as a JSON list."""
    result = isplit("report", study, "--json")
    assert {str(study / "report.html"), str(study / "curve.svg")} == set(json.loads(result.out))


def test_report_needs_no_torch(study):
    """A report is drawn from the records on a machine that has no torch."""
    (study / "report.html").unlink()
    command = [sys.executable, "-W", "error", "-c", BLOCKER, "report", str(study)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert (0, "") == (done.returncode, done.stderr)
    assert (study / "report.html").exists()


def test_report_without_overlays(isplit, study):
    """Missing overlays leave out their section, not the report."""
    (study / "overlays.npz").unlink()
    (study / "report.html").unlink()
    assert 0 == isplit("report", study).code
    assert (study / "report.html").exists()


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("", ["analyze", "cuts", "report", "demo"]),
        ("analyze", ["MODEL", "DATA", "--classes", "--images", "--tolerance", "--precision", "--json", "--quiet"]),
        ("cuts", ["MODEL", "--all-cuts", "--pre-activation", "--json"]),
        ("report", ["STUDY"]),
        ("demo", ["--out"]),
    ],
)
def test_help(isplit, verb, words):
    """The help of every verb names its arguments and options."""
    result = isplit(*verb.split(), "--help")
    assert 0 == result.code
    for word in words:
        assert word in result.out


def test_version(isplit):
    """--version prints the version of pyproject.toml."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    result = isplit("--version")
    assert (0, project["version"]) == (result.code, result.out.strip())


def test_reader_that_goes_away():
    """`isplit analyze --help | head -c 0` ends without a traceback."""
    command = [Path(sys.executable).with_name("isplit"), "analyze", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        error = process.stderr.read()
        process.wait(60)
    assert "Traceback" not in error
    assert "Exception" not in error


def test_a_damaged_split_is_a_warning(isplit, study):
    """A report is drawn without a split that cannot be read, and one line says which folder to delete."""
    directory = study / "splits" / "broken"
    directory.mkdir(parents=True)
    (directory / "split.json").write_text("{")
    result = isplit("report", study)
    assert 0 == result.code, result.err
    assert result.err.startswith("warning: a split was left out: ")
    assert f"delete the folder {directory}" in result.err
    assert 1 == len(result.err.splitlines())
