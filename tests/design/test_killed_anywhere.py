"""Whichever write of a command is its last, studies and bundles are the old ones or the new ones, whole."""

import contextlib
import json
import shutil
from dataclasses import replace

import pytest

from isplit.design.analyze import analyze
from isplit.design.export import export
from isplit.design.export_settings import ExportSettings
from isplit.design.fit import fit
from isplit.design.predict import predict
from isplit.design.settings import AnalyzeSettings, PredictSettings
from isplit.design.splits import read_split
from isplit.design.study import open_study
from isplit.errors import InputError, StudyError
from isplit.records import (
    Budget,
    CandidatesRecord,
    CurveRecord,
    GraphRecord,
    Overlays,
    PredictionsRecord,
    SplitRecord,
    StudyRecord,
    directories,
)
from isplit.records.split_files import split_records
from isplit.runtime.bundle import Bundle
from tests.design.killing import disk_full_from, killed_before

BUDGET = Budget(payload_bytes=60)
FEW = ExportSettings(images=3, local=False, remote=False, overwrite=True)


@pytest.fixture
def own_study(tiny_study, tmp_path):
    """The study with a directory of its own."""
    return replace(tiny_study, directory=shutil.copytree(tiny_study.directory, tmp_path / "study"))


def check_study(directory, *, analysed=True):
    """Every file of a study that has a name of its own is whole, and every split belongs to its record."""
    for path in directory.rglob("*.json"):
        if not path.name.startswith("."):
            assert "schema" in json.loads(path.read_bytes()), path
    StudyRecord.load(directory)
    GraphRecord.load(directory)
    if analysed:
        for kind in (CurveRecord, CandidatesRecord, Overlays):
            kind.load(directory)
    return {path.name: read_split(path).record for path in split_records(directory)}


def kill_everywhere(work, check):
    """Run `work` once for each change that it makes to a file, ended before that change; return how often."""
    number = 1
    while killed_before(number, work):
        check()
        number += 1
    check()
    return number - 1


def test_fit_in_place(own_study, fast):
    """A split that is trained again is the old one or the new one: never an old record over new weights."""
    old = fit(own_study, "pool1", BUDGET, settings=fast(epochs=0, seed=1))
    settings = fast(epochs=1, seed=2, images=12)
    seen = set()

    def check():
        records = check_study(own_study.directory)
        (trained,) = [record for record in records.values() if record.training is not None]
        assert trained.seed in (1, 2)
        assert (trained.seed == 1) == (trained == old)
        seen.add(trained.seed)

    kills = kill_everywhere(lambda: fit(own_study, "pool1", BUDGET, settings=settings), check)
    assert kills > 20
    assert {1, 2} == seen
    assert [] == [path for path in own_study.directory.rglob(".*") if ".lock" not in path.name]


def test_predict_in_place(own_study):
    """Predictions and closed forms that are made again are the old ones or the new ones."""
    settings = PredictSettings(statistics_images=18, images=9, remote_images=0, precision="fp32")
    seen = set()

    def check():
        records = check_study(own_study.directory)
        seen.add(tuple(sorted({record.statistics_images for record in records.values()})))
        PredictionsRecord.load(own_study.directory)

    kills = kill_everywhere(lambda: predict(own_study, [BUDGET], cuts=["pool2"], settings=settings), check)
    assert kills > 15
    assert len(seen) == 2
    assert 18 in {record.statistics_images for record in check_study(own_study.directory).values()}
    assert [] == [path for path in own_study.directory.rglob(".*") if ".lock" not in path.name]


def test_analyze_again(own_study):
    """A study that is analysed again with more images keeps its old curve until the new one is there.

    Only while the files of the new one take their places, a curve may be missing; then the study says so, and the
    next run completes it from the scores that are kept.
    """
    before = {kind: kind.load(own_study.directory) for kind in (CurveRecord, CandidatesRecord)}
    settings = AnalyzeSettings(images=15, test_images=12, precision="fp32")
    missing = complete = 0

    def work():
        analyze(own_study.model, own_study.data, own_study.directory, settings=settings)

    def check():
        nonlocal missing, complete
        check_study(own_study.directory, analysed=False)
        try:
            curve, candidates = (kind.load(own_study.directory) for kind in before)
        except StudyError as error:
            assert "is not finished" in str(error)  # noqa: PT017
            missing += 1
            return
        assert (curve == before[CurveRecord]) == (candidates == before[CandidatesRecord])
        assert curve.images in (12, 15)
        complete += 1

    kills = kill_everywhere(work, check)
    assert kills > 20
    assert complete > missing
    assert 15 == CurveRecord.load(own_study.directory).images
    assert own_study.record.model == open_study(own_study.directory, allow_code=True).record.model


@pytest.mark.parametrize("way", ["exchange", "two steps"])
def test_export_overwrite(own_study, tmp_path, monkeypatch, way):
    """A bundle that is replaced is the old one or the new one at any moment, and the next export tidies up."""
    if way == "two steps":
        monkeypatch.setattr(directories, "_exchanged", lambda first, second: False)
    out = tmp_path / "bundles" / "bundle"
    export(own_study, ["pool1"], out, settings=FEW)
    export(own_study, ["pool2"], tmp_path / "warm", settings=FEW)  # the exporter remembers what it has exported
    seen = set()

    def check():
        (cut,) = [cut.name for cut in Bundle.open(out).record.cuts]
        seen.add(cut)

    kills = kill_everywhere(lambda: export(own_study, ["pool2"], out, settings=FEW), check)
    assert kills > 15
    assert {"pool1", "pool2"} == seen
    assert ["bundle"] == [path.name for path in out.parent.iterdir()]


COMMANDS = {
    "predict": (["--cut", "pool2", "--bytes", "70", "--images", "6", "--remote-images", "0"], 2),
    "fit": (["--cut", "pool2", "--bytes", "60", "--epochs", "1", "--images", "9"], 3),
    "analyze": (["--images", "15", "--test-images", "12"], 3),
}


@pytest.mark.parametrize("verb", COMMANDS)
def test_full_disk(own_study, isplit, verb):
    """Wherever the disk is full: exit 2, a message that says so, nothing torn, and no word of a fault."""
    options, stride = COMMANDS[verb]
    source = own_study.record.model
    target = [own_study.directory, "--allow-code"]
    if verb == "analyze":
        data = own_study.record.data.spec
        target = [source.spec, data, "--weights", source.weights, "-o", own_study.directory, "--classes", "bars,rows"]
        target += ["--classes", "bars,other=dots+rows"]

    def work():
        result = isplit(verb, *map(str, target), *options, "--quiet")
        if result.code != 0:
            assert result.code == 2, result.err
            assert "No space left on device" in result.err
            assert "fault" not in result.err
        assert "Traceback" not in result.err

    number = 1
    while disk_full_from(number, work):
        check_study(own_study.directory, analysed=verb != "analyze")
        number += stride
    check_study(own_study.directory)
    assert number > 10


def test_full_disk_of_an_export(own_study, tmp_path):
    """Wherever the disk is full while a bundle is written, the old one stays, and the error is one of bad input."""
    out = tmp_path / "bundles" / "bundle"
    export(own_study, ["pool1"], out, settings=FEW)
    export(own_study, ["pool2"], tmp_path / "warm", settings=FEW)

    def work():
        with contextlib.suppress(InputError):
            export(own_study, ["pool2"], out, settings=FEW)

    number = 1
    while disk_full_from(number, work):
        assert len(Bundle.open(out).record.cuts) == 1
        assert ["bundle"] == [path.name for path in out.parent.iterdir()]
        number += 3
    assert number > 10
    assert ["pool2"] == [cut.name for cut in Bundle.open(out).record.cuts]


def test_the_check_sees_what_it_should(own_study):
    """Weights that do not belong to their record are noticed."""
    (path, *_) = split_records(own_study.directory)
    record = SplitRecord.load(path)
    (path / record.weights.name).write_bytes((path / record.weights.name).read_bytes()[::-1])
    with pytest.raises(StudyError, match="is not what split"):
        check_study(own_study.directory)
