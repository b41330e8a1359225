"""isplit auto: from a model and data to a bundle; resumed where it stopped, and bad input is refused at once."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from isplit.plan.costs import RUNTIME_BYTES
from isplit.records import BundleRecord, PlanRecord, SplitRecord
from isplit.records.split_files import split_records
from isplit.runtime.bundle import Bundle
from isplit.workflows import auto as workflow

WORK = "--bytes 64 --images 12 --predict-images 6 --statistics-images 12 --compressed-images 6 --epochs 1".split()
# Neither the whole model on the device nor the image on the server is allowed.
A_SPLIT = "--link wifi --server phone --hide-image --max-device-mac-share 0.95 --max-accuracy-loss 0.5".split()


PHASES = ("analyze", "predict", "fit", "export")


def spy_on_phases(patch):
    """Return a list to which every phase adds its name when it begins."""
    begun: list[str] = []

    def spy(name, function):
        def called(*args, **options):
            begun.append(name)
            return function(*args, **options)

        return called

    for name in PHASES:
        patch.setattr(workflow.api, name, spy(name, getattr(workflow.api, name)))
    return begun


@dataclass(frozen=True)
class Run:
    """The directory of a whole run, the command's result, and the phases in their order. Not to be changed."""

    directory: Path
    result: Any
    phases: tuple[str, ...]


@pytest.fixture(scope="module")
def finished_run(isplit, tiny_args, tmp_path_factory):
    """A run that trained and exported a split."""
    directory = tmp_path_factory.mktemp("run") / "auto"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow.api, "write_report", lambda study: ())
        phases = spy_on_phases(patch)
        result = isplit("auto", *tiny_args, "-o", directory, *WORK, *A_SPLIT)
    assert 0 == result.code, result.err
    return Run(directory, result, tuple(phases))


@pytest.fixture
def auto(isplit, tiny_args, tmp_path, without_report):
    """Run `isplit auto` on the small model into this test's directory."""

    def run(*options):
        return isplit("auto", *tiny_args, "-o", tmp_path / "auto", *WORK, *options)

    return run


@pytest.fixture
def predicted_run(finished_run, tmp_path):
    """This test's directory holds what a run has computed before it trains anything."""
    directory = Path(shutil.copytree(finished_run.directory, tmp_path / "auto"))
    shutil.rmtree(directory / "bundle")
    (directory / "study" / "plan.json").unlink()
    for path, record in split_records(directory / "study").items():
        if record.training is not None:
            shutil.rmtree(path)
    return directory


@pytest.fixture
def calls(monkeypatch):
    """The names of the phases that began, in their order."""
    return spy_on_phases(monkeypatch)


def trained(directory: Path) -> list[SplitRecord]:
    """The trained splits of a study."""
    records = [SplitRecord.load(path.parent) for path in directory.glob("splits/*/split.json")]
    return [record for record in records if record.training is not None]


def test_a_split_is_trained_exported_and_runs(finished_run, isplit, tiny_data):
    """The answer, then the two commands; the bundle holds the trained split that the plan chose, and answers."""
    directory, result = finished_run.directory, finished_run.result
    assert PHASES == finished_run.phases
    plan = PlanRecord.load(directory / "study")
    chosen = plan.placement(plan.answer.chosen)
    (split,) = trained(directory / "study")
    assert ("split", "trained") == (chosen.kind, chosen.accuracy.source)
    assert (chosen.cut, chosen.budget) == (split.cut, split.budget)
    bundle = Bundle.open(directory / "bundle").record
    assert [(split.cut, split.measurement.accuracy)] == [(cut.name, cut.accuracy) for cut in bundle.cuts]
    lines = result.out.rstrip().splitlines()
    assert f"On the server:  isplit serve {directory / 'bundle'}" == lines[-2]
    assert lines[-1].startswith(f"On the device:  isplit run {directory / 'bundle'} IMAGES --server HOST:8001")
    assert " ".join(plan.answer.text.split()) in " ".join(result.out.split())
    assert "Rough estimate of the time, which may be off by a factor of two: analyze" in result.err
    picture = next((tiny_data / "test" / "bars").iterdir())
    answered = isplit("run", directory / "bundle", picture, "--placement", "local", "--json")
    assert (0, "local") == (answered.code, json.loads(answered.out)["source"])


def test_nothing_is_trained_where_the_device_is_better(auto, predicted_run, calls):
    """A fast device answers alone: no training, no server, and the sentence says so."""
    result = auto("--device", "jetson-orin-nano", "--link", "lte-m")
    assert 0 == result.code, result.err
    assert ["analyze", "predict", "export"] == calls
    plan = PlanRecord.load(predicted_run / "study")
    assert "local" == plan.answer.chosen
    assert "Splitting is not worth it here." in " ".join(result.out.split())
    assert "isplit serve" not in result.out
    assert result.out.rstrip().endswith("IMAGES --placement local")


def comparable_files(directory: Path) -> dict[str, Any]:
    """Return the content of every file of a run, without reports, the seconds that work took, and who held locks."""

    def without_seconds(value):
        if isinstance(value, dict):
            return {key: without_seconds(entry) for key, entry in value.items() if key != "seconds"}
        return [without_seconds(entry) for entry in value] if isinstance(value, list) else value

    files: dict[str, Any] = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        if path.name not in (".lock", ".lock.json") and path.suffix not in (".html", ".svg"):
            is_json = path.suffix == ".json"
            content = path.read_bytes()
            files[str(path.relative_to(directory))] = without_seconds(json.loads(content)) if is_json else content
    return files


def test_stopped_between_phases(auto, finished_run, tmp_path, calls, monkeypatch):
    """Ctrl-C exits 130 and says what is kept; the same command goes on there, and ends as if it was never stopped."""

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    def worked(*args, **kwargs):
        raise AssertionError("this was done before")

    for phase in ("predict", "fit", "export"):
        with monkeypatch.context() as patch:
            patch.setattr(workflow.api, phase, stop)
            stopped = auto(*A_SPLIT)
        assert 130 == stopped.code
        assert "kept" in stopped.err
        assert "again" in stopped.err
        assert not (tmp_path / "auto" / "bundle").exists()
        # The next run does not measure again what this one left.
        monkeypatch.setattr("isplit.design.analyze.measure_accuracy", worked)
        monkeypatch.setattr("isplit.design.analyze.draw_overlays", worked)
        if phase == "fit":
            monkeypatch.setattr("isplit.design.predict.closed_forms", worked)
        if phase == "export":
            monkeypatch.setattr("isplit.design.fit._trained", worked)
    first = auto(*A_SPLIT)
    assert 0 == first.code, first.err
    unbroken, resumed = comparable_files(finished_run.directory), comparable_files(tmp_path / "auto")
    assert [*unbroken] == [*resumed]
    assert [] == [name for name, content in unbroken.items() if content != resumed[name]]

    calls.clear()
    manifest = tmp_path / "auto" / "bundle" / BundleRecord.file_name
    before = manifest.stat().st_mtime_ns
    second = auto(*A_SPLIT)
    assert 0 == second.code, second.err
    assert ["analyze", "predict"] == calls
    assert before == manifest.stat().st_mtime_ns
    assert first.out.splitlines()[-2:] == second.out.splitlines()[-2:]


def test_other_limits_use_the_same_study(auto, finished_run, tmp_path, calls):
    """Another device replaces the plan and the bundle, and nothing is analysed or predicted again."""
    study = shutil.copytree(finished_run.directory, tmp_path / "auto") / "study"
    before = json.loads((study / "predictions.json").read_text())
    result = auto("--device", "jetson-orin-nano", "--link", "lte-m")
    assert 0 == result.code, result.err
    assert "local" == PlanRecord.load(study).answer.chosen
    assert before["predictions"] == json.loads((study / "predictions.json").read_text())["predictions"]
    assert Bundle.open(tmp_path / "auto" / "bundle")


def test_no_training_when_none_is_allowed(auto, predicted_run, calls):
    """--trainings 0 exports the closed form of the split that the plan chose."""
    result = auto(*A_SPLIT, "--trainings", "0")
    assert 0 == result.code, result.err
    assert ["analyze", "predict", "export"] == calls
    assert [] == trained(predicted_run / "study")
    assert Bundle.open(predicted_run / "bundle")


def test_a_model_that_does_not_fit_is_exported_in_segments(auto, predicted_run, isplit, tiny_data, calls):
    """Without a server to send to, a limit on memory gives segments, which run; a second call writes nothing anew."""
    options = ["--max-device-memory", f"{RUNTIME_BYTES + 19_500}B", "--max-wire-bytes", "1"]
    result = auto(*options)
    assert 0 == result.code, result.err
    bundle = predicted_run / "bundle"
    assert f"isplit run {bundle} IMAGES --placement segmented" in " ".join(result.out.split())
    segmented = BundleRecord.load(bundle).segmented
    assert segmented is not None
    written = (bundle / "manifest.json").stat().st_mtime_ns
    picture = next((tiny_data / "test" / "bars").iterdir())
    answer = json.loads(isplit("run", bundle, picture, "--placement", "segmented", "--json").out)
    assert "segmented" == answer["placement"]
    assert 0 == auto(*options).code
    assert written == (bundle / "manifest.json").stat().st_mtime_ns


def test_impossible_limits(auto, predicted_run):
    """Where nothing keeps the limits, the answer says so, no bundle is written, and the exit code is 1."""
    result = auto("--max-latency-ms", "0.001")
    assert 1 == result.code, result.err
    assert "no placement keeps the limits" in " ".join(result.out.split())
    assert "No bundle was written" in result.out
    assert not (predicted_run / "bundle").exists()


def test_a_model_that_guesses(auto, predicted_run, monkeypatch):
    """Where the base accuracy is not surely above guessing, that stands below the answer, too."""
    words = "The model may only guess on these images"
    assert words not in auto("--device", "phone").out
    monkeypatch.setattr("isplit.records.study.Accuracy.may_be_guessing", lambda accuracy, chance: True)
    assert words in auto("--device", "phone").out


def test_json_is_the_plan(auto, predicted_run):
    """--json prints plan.json, and nothing else."""
    result = auto("--device", "phone", "--json")
    assert json.loads(result.out) == json.loads((predicted_run / "study" / "plan.json").read_text())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "pi9"], ["--device", "pi9", "jetson-nano"]),
        (["--link", "12"], ["--link"]),
        (["--server", "nowhere.json"], ["--server", "nowhere.json"]),
        (["--max-latency-ms", "-1"], ["--max-latency-ms is -1"]),
        (
            ["--min-accuracy", "0.9", "--max-accuracy-loss", "0.1"],
            ["--min-accuracy is 0.9 and --max-accuracy-loss is 0.1; give only one"],
        ),
        (["--objective", "speed"], ["speed", "latency"]),
        (["--objective", "energy", "--estimate", "gflops=4,gbps=3"], ["no power"]),
        (["--bytes", "0"], ["--bytes is 0: give a number above 0"]),
        (["--epochs", "-1"], ["--epochs"]),
        (["--trainings", "-1"], ["--trainings"]),
        (["--scale", "0"], ["--scale"]),
        (["--classes", "bars,cats"], ["cats"]),
        (["--predict-images", "0"], ["--predict-images is 0; give at least 1"]),
        (["--compressed-images", "-1"], ["--compressed-images is -1; give at least 0"]),
        (["--bytes", "-1"], ["--bytes is -1: "]),
        (["--ratio", "nan"], ["--ratio is nan: "]),
        (["--hide-answer"], ["--hide-answer needs the last layers on the device, which no bundle can run"]),
        (["--min-accuracy", "85"], ["--min-accuracy is 85; give a share from 0 to 1: 85 % is 0.85"]),
    ],
)
def test_bad_input_is_found_before_the_work(bad_input, tiny_args, tmp_path, calls, options, words):
    """A limit, device, link or budget that cannot be ends with exit code 2 before anything is computed or written."""
    bad_input("auto", *tiny_args, "-o", tmp_path / "auto", *options, says=words)
    assert [] == calls
    assert not (tmp_path / "auto").exists()


def test_profile_of_another_model(bad_input, tiny_args, tmp_path, calls):
    """A device's profile that was measured with another model is refused before the work."""
    from isplit.records import write_shared
    from tests.plan.conftest import rates_profile

    profile = rates_profile("board", 10.0).model_copy(update={"model": "other", "model_fingerprint": "0" * 64})
    path = write_shared(profile, tmp_path / "board.json")
    bad_input("auto", *tiny_args, "-o", tmp_path / "auto", "--device", path, says=["other"])
    assert [] == calls


def test_a_folder_that_holds_something_else(bad_input, tiny_args, tmp_path, calls):
    """The bundle's place is checked before the work, not after it."""
    (tmp_path / "auto" / "bundle").mkdir(parents=True)
    (tmp_path / "auto" / "bundle" / "mine.txt").write_text("mine")
    bad_input("auto", *tiny_args, "-o", tmp_path / "auto", says=["bundle", "no bundle"])
    assert [] == calls
