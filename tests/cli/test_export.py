"""isplit export: from a study to a bundle, in one command each, and what it refuses."""

import json

import pytest

from isplit.runtime.bundle import Bundle


@pytest.fixture(scope="module")
def split_study(isplit, finished, tmp_path_factory):
    """A study with two closed-form splits behind the second pool, as the command line makes them."""
    import shutil

    directory = tmp_path_factory.mktemp("split") / "study"
    shutil.copytree(finished[0], directory)
    options = ["--cut", "pool2", "--statistics-images", 24, "--remote-images", 3, "--quiet"]
    assert 0 == isplit("predict", directory, "--allow-code", "--bytes", 60, "--bytes", 90, *options).code
    return directory


@pytest.fixture(scope="module")
def written(isplit, split_study, tmp_path_factory):
    """A bundle, and what the command printed."""
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    return out, isplit("export", split_study, "--allow-code", "--cut", "pool2", "--bytes", 60, "-o", out, "--images", 3)


def test_writes_a_bundle(written):
    """The bundle opens, and the table shows the split beside local and remote."""
    out, result = written
    assert 0 == result.code, result.err
    assert ["pool2"] == [cut.name for cut in Bundle.open(out).record.cuts]
    for words in ("pool2", "local", "remote", f"Bundle: {out}", "Accuracy on "):
        assert words in result.out


def test_json(isplit, split_study, tmp_path):
    """--json prints the manifest and nothing else."""
    options = ["--cut", "pool2", "--bytes", 60, "--images", 3, "--no-local", "--no-remote", "--json"]
    result = isplit("export", split_study, "--allow-code", *options, "--name", "x", "-o", tmp_path / "bundle")
    assert 0 == result.code, result.err
    manifest = json.loads(result.out)
    assert ("isplit.bundle/1", "x", None) == (manifest["schema"], manifest["name"], manifest["local"])
    assert json.loads((tmp_path / "bundle" / "manifest.json").read_text()) == manifest


def test_place_is_taken(written, split_study, bad_input):
    """A bundle is not replaced unless told."""
    out, _ = written
    bad_input(
        "export",
        split_study,
        "--allow-code",
        "--cut",
        "pool2",
        "--bytes",
        60,
        "-o",
        out,
        says=["holds a bundle", "--overwrite"],
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--cut", "pool2"], ["several splits", "60 bytes", "90 bytes"]),
        (["--cut", "pool2", "--bytes", "61"], ["a budget of 61 bytes", "it has: 60 bytes, linear"]),
        (["--cut", "pool1"], ["isplit predict", "--cut pool1"]),
        (["--cut", "nowhere"], ["no cut 'nowhere'", "pool2"]),
        (["--cut", "pool2", "--bytes", "60", "--ratio", "4"], ["give one of them"]),
        (["--cut", "pool2", "--bytes", "60", "--design", "magic"], ["'magic'", "linear"]),
        (["--cut", "pool2", "--bytes", "60", "--group", "ants"], ["no class subset 'ants'"]),
        (["--cut", "pool2", "--bytes", "60", "--images", "0"], ["--images is 0"]),
        (["--cut", "pool2", "--bytes", "60", "--tolerance", "2"], ["--tolerance is 2"]),
        (["--cut", "pool2", "--bytes", "60", "--name", "a/b"], ["letters, digits"]),
    ],
)
def test_bad_input(bad_input, split_study, tmp_path, options, says):
    """What cannot be exported is refused in one message, with the way out, and nothing is written."""
    bad_input("export", split_study, "--allow-code", *options, "-o", tmp_path / "bundle", says=says)
    assert [] == list(tmp_path.iterdir())


def test_no_study(bad_input, tmp_path):
    """A directory that is no study is called so."""
    bad_input(
        "export", tmp_path / "none", "--allow-code", "--cut", "a", "-o", tmp_path / "bundle", says=["is not a study"]
    )


def test_refusal_is_a_failure(isplit, split_study, tmp_path):
    """Files that are too far from torch are no bad input: exit 1."""
    options = ["--cut", "pool2", "--bytes", 60, "--images", 3, "--no-local", "--no-remote", "--tolerance", 1e-12]
    result = isplit("export", split_study, "--allow-code", *options, "-o", tmp_path / "bundle")
    assert 1 == result.code
    assert "answers otherwise than torch" in result.err
    assert [] == list(tmp_path.iterdir())
