"""isplit predict on the small model: the table, the record, what it keeps, and what it refuses."""

import json
import re
import shutil
from pathlib import Path

import pytest

from isplit.design.measure.calibration import packaged_calibration

QUICK = ("--statistics-images", 16, "--images", "all", "--remote-images", 8, "--precision", "fp32")


@pytest.fixture(scope="module")
def predicted(isplit, tiny_args, tmp_path_factory):
    """A study with a subset, predicted at two cuts and two budgets, and what the command printed."""
    directory = tmp_path_factory.mktemp("predicted") / "study"
    assert 0 == isplit("analyze", *tiny_args, "--classes", "bars,dots", "--classes", "bars,rows", "-o", directory).code
    return directory, isplit(
        "predict", directory, "--allow-code", "--bytes", 40, "--ratio", 16, "--cuts", "relu1,pool2", *QUICK
    )


def record(directory):
    return json.loads((directory / "predictions.json").read_text())


def test_table(predicted):
    """A row for each cut and budget with bytes, accuracy, loss and ranks; then the whole model and images."""
    _, result = predicted
    assert 0 == result.code, result.err
    assert result.err.startswith(f"Computing on {record(predicted[0])['device']}.")
    lines = result.out.splitlines()
    for cut in ("relu1", "pool2"):
        rows = [line.split() for line in lines if re.match(rf"{cut} +(40|1in16) +\d", line)]
        assert ["40", "1in16"] == [row[1] for row in rows]
        assert all(row[4].endswith("%") for row in rows)
        # Three classes: an answer has 9 bytes for them instead of 15.
        assert all(int(row[3]) == int(row[2]) + 9 for row in rows)
    assert "and 27 come back" in result.out
    assert any(line.startswith("The whole model on these images: ") for line in lines)
    assert any(line.startswith("WebP quality ") or line.startswith("JPEG quality ") for line in lines)
    assert "…" not in result.out


def test_says_whether_splitting_is_worth_it(predicted):
    """The answer, what accuracies after training are from, and where the report is, come after the table."""
    directory, result = predicted
    assert "Within 1 point of the whole model" in result.out
    assert "Within 3 points" in result.out
    assert "After training: estimated from" in result.out
    words = " ".join(result.out.split())
    assert re.search(r"\d+ of 21 JPEG/WebP settings (is|are) Pareto-optimal \(3 images of the select part\)", words)
    report, following = result.out.splitlines()[-2:]
    assert f"Report: {directory / 'report.html'}" == report
    assert f"Next, find out where it should run: isplit plan {directory} --device pi4 --link 4g" == following
    assert 'id="figure-bytes"' in (directory / "report.html").read_text("utf-8")


def test_record(predicted):
    """predictions.json has every split and image setting, measured on the select part; splits have files."""
    directory, _ = predicted
    predictions = record(directory)
    assert ["relu1", "relu1", "pool2", "pool2"] == [row["cut"] for row in predictions["predictions"]]
    assert [40, 40] == [
        row["budget"]["payload_bytes"] for row in predictions["predictions"] if row["budget"]["payload_bytes"]
    ]
    assert packaged_calibration().name == predictions["calibration"]
    assert 21 == len(predictions["remote"]) + len(predictions["remote_skipped"])
    for row in predictions["predictions"]:
        measured = row["measurement"]
        assert "select" == measured["part"]
        assert predictions["images"] == measured["accuracy"]["images"] == measured["payload_bytes"]["images"]
        assert 6 < measured["payload_bytes"]["mean"] <= measured["payload_bytes"]["max"]
        assert 0 < measured["head_mac_share"] <= 1.2
    splits = sorted(path.name for path in (directory / "splits").iterdir())
    assert 4 == len(splits)
    for name in splits:
        files = sorted(path.name for path in (directory / "splits" / name).iterdir())
        assert ["codec", "split", "weights"] == [name.partition("-")[0].partition(".")[0] for name in files]


def test_json_and_what_was_there_before(isplit, predicted, tmp_path):
    """--json prints the record and nothing else; rows of other budgets stay, those of the same are replaced."""
    directory = Path(shutil.copytree(predicted[0], tmp_path / "study"))
    before = record(directory)
    result = isplit(
        "predict", directory, "--allow-code", "--bytes", 40, "--cut", "pool2", "--group", "bars,rows", *QUICK, "--json"
    )
    assert (0, "") == (result.code, result.err)
    assert record(directory) == json.loads(result.out)
    after = json.loads(result.out)["predictions"]
    assert before["predictions"] == [row for row in after if row["group"] == "all classes"]
    (subset,) = [row for row in after if row["group"] == "bars,rows"]
    assert {"bars", "rows"} == set(subset["measurement"]["per_class"])
    assert {"all classes", "bars,rows"} == {row["group"] for row in json.loads(result.out)["remote"]}


def test_quiet(isplit, predicted, tmp_path):
    """--quiet prints nothing; --design pca is marked as such; remote images can be left out."""
    directory = Path(shutil.copytree(predicted[0], tmp_path / "study"))
    (directory / "predictions.json").unlink()
    options = ["--bytes", 40, "--cut", "pool2", "--design", "pca", "--statistics-images", 16, "--remote-images", 0]
    result = isplit("predict", directory, "--allow-code", *options, "--quiet")
    assert (0, "", "") == (result.code, result.out, result.err)
    (prediction,) = record(directory)["predictions"]
    assert "pca" == prediction["design"]
    assert [] == record(directory)["remote"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--bytes", 0], ["--bytes is 0: give a number above 0"]),
        (["--ratio", -1], ["--ratio is -1: give a number above 0"]),
        (["--bytes", 6], ["--bytes is 6: a budget of 6 bytes is below the smallest payload"]),
        (["--ratio", 0.5], ["an element ratio of 0.5 sends more than everything"]),
        (["--cuts", "relu1,nonsense"], ["no cut 'nonsense'", "relu1"]),
        (["--group", "cats"], ["no class subset 'cats'", "all classes"]),
        (["--images", "some"], ["--images is 'some'; give a number or 'all'"]),
        (["--images", 0], ["--images is 0; give at least 1"]),
        (["--design", "deep"], ["--design is 'deep'; choose linear or pca"]),
        (["--precision", "fp8"], ["--precision is 'fp8'"]),
        (["--weights", "nothing.safetensors"], ["nothing.safetensors"]),
    ],
)
def test_bad_input(bad_input, finished, options, says):
    """What cannot be used is refused before anything is computed."""
    bad_input("predict", finished[0], "--allow-code", *options, says=says)
    assert not (finished[0] / "predictions.json").exists()


def test_no_study(bad_input, tmp_path):
    """A directory that is no study says which command makes one."""
    bad_input("predict", tmp_path, says=["study.json is missing", "isplit analyze"])


def test_analyzing_another_model_removes_the_splits(isplit, predicted, tiny_model_file, tiny_data, tmp_path):
    """Splits of the model that was there before do not survive --overwrite; those of the same model do."""
    directory = Path(shutil.copytree(predicted[0], tmp_path / "study"))
    study = json.loads((directory / "study.json").read_text())
    command = ["analyze", f"{tiny_model_file}:build", tiny_data, "-o", directory, "--overwrite", "--quiet"]
    assert 0 == isplit(*command, "--weights", study["model"]["weights"]).code
    assert (directory / "predictions.json").exists()
    assert 0 == isplit(*command).code
    assert not (directory / "predictions.json").exists()
    assert not (directory / "splits").exists()


def test_interrupted(isplit, predicted, tmp_path, monkeypatch):
    """Ctrl-C leaves what was predicted before, and says so."""
    directory = Path(shutil.copytree(predicted[0], tmp_path / "study"))
    before = (directory / "predictions.json").read_bytes()

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("isplit.design.closed_form.passes.iter_batches", stop)
    result = isplit("predict", directory, "--allow-code", "--bytes", "60")
    assert 130 == result.code
    assert "isplit: stopped; what was predicted before is kept" in result.err
    assert "Traceback" not in result.err
    assert before == (directory / "predictions.json").read_bytes()


def test_api(predicted, tmp_path):
    """`isplit.predict` takes a study and bytes as numbers, and draws the report."""
    import isplit as package

    directory = Path(shutil.copytree(predicted[0], tmp_path / "study"))
    (directory / "report.html").unlink()
    settings = package.PredictSettings(statistics_images=16, remote_images=0, precision="fp32")
    study = package.open_study(directory, allow_code=True)
    predictions = package.predict(study, [30, package.Budget(element_ratio=8)], cuts=["pool1"], settings=settings)
    rows = [row for row in predictions.predictions if row.cut == "pool1"]
    assert {"30B", "1in8"} == {row.budget.tag for row in rows}
    assert (directory / "report.html").exists()
