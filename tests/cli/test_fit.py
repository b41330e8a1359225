"""`isplit fit` through the command line."""

import json
import re
import shutil

import pytest

from isplit.cli import study_options
from isplit.records import Budget, SplitRecord, TrainedRemote
from isplit.runtime.bundle import Bundle

QUICK = ["--epochs", "1", "--batch-size", "16"]


def test_before_and_after(isplit, study):
    """Some lines for each cut: accuracy before and after with intervals, the whole model's, and the bytes."""
    result = isplit("fit", study, "--allow-code", "--cut", "pool1", "--cut", "pool2", "--bytes", "30", *QUICK)
    assert 0 == result.code, result.err
    assert result.err.startswith("Computing on ")
    lines = result.out.splitlines()
    assert lines[0].startswith("pool1 @30B linear, on 24 images of the test part:")
    (sent,) = [line for line in lines[:5] if "on the wire" in line]
    numbers = [int(number) for number in re.findall(r"\d+", sent)]
    payload, _, _, up, down = numbers
    assert (payload + 9, 18 + 3 * 3) == (up, down)
    assert lines[5].startswith("pool2 @30B linear, on 24 images of the test part:")
    for words in (" before training, ", " points against the whole model's ", " bytes of payload (p95 ", "33 images"):
        assert any(words in line for line in lines[:5])
    assert max(map(len, lines[:10])) <= 80
    assert 2 == len(list(study.glob("splits/*-linear-trained/split.json")))


def test_the_opponent_is_trained_and_named(isplit, study):
    """A split alone is told to have no fair opponent; --remote trains one, and the verdict is then about that."""
    options = ["--allow-code", "--cut", "pool2", "--bytes", "30", *QUICK]
    result = isplit("fit", study, *options)
    assert 0 == result.code, result.err
    assert "No network was trained on compressed images" in " ".join(result.out.split())
    result = isplit("fit", study, "--allow-code", "--remote", "webp:50@0.5", *QUICK)
    assert 0 == result.code, result.err
    assert result.out.startswith("remote webp:50@0.5, on 24 images of the test part:")
    assert "trained all layers on 33 images" in result.out
    result = isplit("fit", study, *options)
    assert "with a network trained on such images" in " ".join(result.out.split())
    assert "No network was trained" not in result.out


def test_exported_splits_are_judged_beside_the_opponent(isplit, study, tmp_path):
    """`export` shows the trained opponent, judges the trained splits by it, and describes it in the manifest."""
    split = ["--allow-code", "--cut", "pool2", "--bytes", "30"]
    for options in ([*split, *QUICK], ["--allow-code", "--remote", "webp:50@0.5", *QUICK]):
        assert 0 == isplit("fit", study, *options).code
    result = isplit("export", study, *split, "-o", tmp_path / "bundle", "--images", 3, "--no-local")
    assert 0 == result.code, result.err
    words = " ".join(result.out.split())
    assert "with a network trained on such images" in words
    assert "`--remote-network SETTING` exports one of them." in words
    (opponent,) = Bundle.open(tmp_path / "bundle").record.opponents
    assert ("webp", 50, 0.5) == (opponent.format, opponent.quality, opponent.scale)


def test_the_opponent_of_the_planned_split(isplit, study, monkeypatch, bad_input):
    """With `--cut planned`, the layers after the cut of the plan's split learn; without a plan it is refused."""
    remote = ["--allow-code", "--remote", "webp:50@0.5", "--cut", "planned"]
    bad_input("fit", study, *remote, says=["has no plan: run `isplit plan"])
    monkeypatch.setattr(study_options, "planned_split", lambda directory, **_: ("pool2", Budget(payload_bytes=30)))
    result = isplit("fit", study, *remote, *QUICK, "--json")
    assert 0 == result.code, result.err
    assert "pool2" == TrainedRemote.from_json(result.out).after


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["webp:50", "--bytes", "30"], "leave out --bytes"),
        (["webp:50", "--ratio", "4", "--design", "linear"], "leave out --ratio, --design"),
        (["webp:50", "--start", "random", "--freeze", "tail"], "leave out --start, --freeze"),
        (["webp:50", "--ray"], "leave out --ray"),
        (["webp:50", "--coder", "zstd"], "--coder zstd: such settings are about splits"),
        (["webp:50", "--train-head", "--statistics-images", "9"], "--train-head, --statistics-images 9: such settings"),
        (["webp:50", "--bottleneck-rate", "0.1"], "--bottleneck-rate 0.1: such settings"),
        (["webp-50"], "webp:50@0.5"),
        (["webp:50", "--remote", "webp-50"], "webp:50@0.5"),
        (["webp:50", "--cuts", "pool1,pool2"], "--remote takes one --cut"),
    ],
)
def test_remote_settings_that_are_refused(bad_input, study, arguments, says):
    """A setting that is none, more cuts than one, and options of splits are refused before anything is trained."""
    bad_input("fit", study, "--allow-code", "--remote", *arguments, says=[says])
    assert not list(study.glob("remotes/*"))


def test_json(isplit, study):
    """--json prints the record and nothing else; of several cuts, a list of them."""
    arguments = ["--ratio", "16", "--design", "undercomplete", *QUICK, "--json"]
    alone = isplit("fit", study, "--allow-code", "--cut", "pool1", *arguments)
    record = SplitRecord.from_json(alone.out)
    assert ("undercomplete", "random") == (record.bottleneck.design, record.training.start)
    both = isplit("fit", study, "--allow-code", "--cuts", "pool1,pool2", *arguments)
    assert ["pool1", "pool2"] == [entry["cut"] for entry in json.loads(both.out)]
    assert record.to_json() == json.dumps(json.loads(both.out)[0], indent=1, ensure_ascii=False) + "\n"


def test_quiet(isplit, study):
    """--quiet prints nothing."""
    result = isplit("fit", study, "--allow-code", "--cut", "pool2", "--bytes", "30", "--epochs", "0", "--quiet")
    assert (0, "") == (result.code, result.both)


def test_candidates_and_open_head(isplit, study):
    """--cuts candidates trains what analyze ranked; --train-head is saved beside the default."""
    result = isplit("fit", study, "--allow-code", "--cuts", "candidates", "--bytes", "30", "--epochs", "0")
    assert 0 == result.code, result.err
    result = isplit(
        "fit", study, "--allow-code", "--cut", "pool1", "--bytes", "30", "--train-head", "--freeze", "encoder", *QUICK
    )
    assert 0 == result.code, result.err
    assert 1 == len(list(study.glob("splits/*pool1@30B-linear-head-trained/split.json")))
    assert 1 == len(list(study.glob("splits/*pool1@30B-linear-trained/split.json")))


def test_moved_weights(isplit, study, tiny_weights, tmp_path):
    """Weights that have moved are named again."""
    moved = shutil.copy(tiny_weights, tmp_path / "moved.safetensors")
    result = isplit(
        "fit", study, "--allow-code", "--cut", "pool2", "--bytes", "30", "--epochs", "0", "--weights", moved
    )
    assert 0 == result.code, result.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cut", "pool1"], "give one budget: --bytes N or --ratio R"),
        (["--cut", "pool1", "--bytes", "30", "--ratio", "4"], "give one of them"),
        (["--bytes", "30"], "name at least one cut: --cut NAME, or --cuts all"),
        (["--cut", "pool9", "--bytes", "30"], "has no cut 'pool9'"),
        (["--cut", "pool1", "--bytes", "0"], "--bytes is 0: give a number above 0"),
        (["--cut", "pool1", "--bytes", "3"], "below the smallest payload"),
        (["--cut", "pool1", "--bytes", "30", "--design", "magic"], "choose one of linear, undercomplete, identity"),
        (["--cut", "pool1", "--bytes", "30", "--freeze", "everything"], "choose encoder, decoder or tail"),
        (["--cut", "pool1", "--bytes", "30", "--epochs", "-1"], "--epochs is -1"),
        (["--cut", "pool1", "--bytes", "30", "--group", "pets"], "has no class subset 'pets'"),
        (["127.0.0.1:9", "--cut", "pool1", "--bytes", "30"], "needs --ray"),
    ],
)
def test_bad_input(bad_input, study, arguments, says):
    """What cannot be done is refused with exit code 2 and words that help."""
    bad_input("fit", study, "--allow-code", *arguments, says=[says])


def test_no_study(bad_input, tmp_path):
    """A directory that is no study is refused."""
    bad_input("fit", tmp_path / "nothing", "--allow-code", "--cut", "a", "--bytes", "30", says=["is not a study"])
