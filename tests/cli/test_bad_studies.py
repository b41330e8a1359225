"""Studies that are damaged, of something else or cannot be written: a sentence, or they are made again."""

import os
import shutil
from pathlib import Path

import pytest


def test_unwritable_study(bad_input, tiny_args, tmp_path):
    """A directory that cannot be made is named, with the reason."""
    (tmp_path / "file").write_text("")
    bad_input("analyze", *tiny_args, "-o", tmp_path / "file" / "study", says=["file/study", "Not a directory"])


def test_study_is_a_file(bad_input, tiny_args, tmp_path):
    """A file where the study should go is left alone."""
    (tmp_path / "file").write_text("mine")
    bad_input("analyze", *tiny_args, "-o", tmp_path / "file", says=["file"])
    assert "mine" == (tmp_path / "file").read_text()


def test_directory_with_other_things(bad_input, tiny_args, tmp_path):
    """A directory that is not empty and holds no study is left alone."""
    (tmp_path / "letter.txt").write_text("mine")
    bad_input("analyze", *tiny_args, "-o", tmp_path, says=["not empty", "-o"])
    assert ["letter.txt"] == [path.name for path in tmp_path.iterdir()]


def test_study_of_another_model(bad_input, study, tiny_model_file, tiny_data):
    """A study of other weights is refused and stays as it is."""

    def contents():
        files = [path for path in study.iterdir() if path.is_file() and not path.name.startswith(".lock")]
        return {path.name: path.read_bytes() for path in files}

    before = contents()
    bad_input("analyze", f"{tiny_model_file}:build", tiny_data, "-o", study, says=["another", "weights", "--overwrite"])
    assert before == contents()


def test_study_of_other_data(bad_input, study, tiny_args, folders):
    """A study of other data is refused."""
    data = folders(bars=10, dots=10, rows=10)
    bad_input("analyze", tiny_args[0], data, *tiny_args[2:], "-o", study, says=["data", "--overwrite"])


def test_report_of_truncated_curve(bad_input, study):
    """A half-written curve.json is never read as whole."""
    content = (study / "curve.json").read_bytes()
    (study / "curve.json").write_bytes(content[: len(content) // 2])
    bad_input("report", study, says=["curve.json", "isplit analyze"])


def test_report_of_unfinished_study(bad_input, study):
    """Without candidates.json the study is not finished, and the message says how to finish it."""
    (study / "candidates.json").unlink()
    bad_input("report", study, says=["candidates.json", "isplit analyze"])


def test_report_of_nothing(bad_input, tmp_path):
    """A directory that is not there is no study."""
    bad_input("report", tmp_path / "none", says=["none", "isplit analyze"])


def test_report_of_mixed_studies(bad_input, study):
    """A curve that speaks of cuts which the graph does not have belongs to another study."""
    text = (study / "curve.json").read_text()
    (study / "curve.json").write_text(text.replace('"pool1"', '"layer7"'))
    bad_input("report", study, says=["graph.json", "layer7", "isplit analyze"])


def test_report_to_unwritable_study(bad_input, study):
    """A report that cannot be written says so."""
    (study / "report.html").unlink()
    (study / "report.html").mkdir()
    bad_input("report", study, says=["report.html"])


@pytest.mark.parametrize("name", ["curve.json", "candidates.json", "graph.json"])
def test_truncated_record_is_written_again(isplit, study, tiny_args, name, without_report, finished):
    """Running analyze again repairs a half-written record of a later step."""
    content = (study / name).read_bytes()
    (study / name).write_bytes(content[: len(content) // 2])
    assert 0 == isplit("analyze", *tiny_args, "-o", study, "--quiet").code
    assert (finished[0] / name).read_bytes() == (study / name).read_bytes()


def test_truncated_study_record(isplit, bad_input, study, tiny_args, without_report):
    """A half-written study.json is refused, and what the message advises works."""
    content = (study / "study.json").read_bytes()
    (study / "study.json").write_bytes(content[: len(content) // 2])
    bad_input("analyze", *tiny_args, "-o", study, says=["study.json", f"nothing in {study} is replaced: delete it"])
    bad_input("analyze", *tiny_args, "-o", study, "--overwrite", says=["study.json"])
    shutil.rmtree(study)
    again = isplit("analyze", *tiny_args, "-o", study)
    assert 0 == again.code, again.err


def test_damaged_scores_are_not_trusted(isplit, study, tiny_args, without_report, finished):
    """Scores that cannot be read are computed again, or named so that deleting them helps."""
    (scores,) = (study / "scores").iterdir()
    scores.write_bytes(scores.read_bytes()[:100])
    result = isplit("analyze", *tiny_args, "-o", study, "--quiet")
    if result.code:
        assert 2 == result.code
        assert scores.name in result.err
        assert "delete" in result.err
        scores.unlink()
        assert 0 == isplit("analyze", *tiny_args, "-o", study, "--quiet").code
    assert (finished[0] / "curve.json").read_bytes() == (study / "curve.json").read_bytes()


def test_left_over_temporary_file(isplit, tiny_args, tmp_path, without_report):
    """What a killed run left of its very first record does not keep the next from working."""
    out = tmp_path / "s"
    out.mkdir()
    (out / ".study.json.k1ll3d").write_text('{"schema": "isplit.st')
    result = isplit("analyze", *tiny_args, "-o", out)
    assert 0 == result.code, result.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_study(bad_input, tiny_args, tmp_path):
    """A directory without write permission is named."""
    (tmp_path / "s").mkdir(mode=0o500)
    bad_input("analyze", *tiny_args, "-o", tmp_path / "s", says=["Permission denied"])


def test_full_disk(bad_input, tiny_args):
    """A place that takes no files is refused."""
    if not Path("/proc/self").is_dir():
        pytest.skip("there is no /proc")
    bad_input("analyze", *tiny_args, "-o", "/proc/self/study", says=["/proc/self/study"])
