"""What may be written into a folder: a study's own files, and nothing of anybody else's."""

import pytest

from isplit.design.study_directory import make_directory
from isplit.errors import StudyError


@pytest.mark.parametrize("name", ["splits", "runs.json", "report.html", "notes.txt", ".profile", "scores"])
def test_files_without_a_study_are_left_alone(tmp_path, name):
    """Files that a study might have are a user's own where there is no study.json."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(StudyError, match=r"is not empty .* and holds no study"):
        make_directory(tmp_path)
    assert "mine" == (tmp_path / name).read_text()


@pytest.mark.parametrize("content", ["", "{}", '{"schema": "isplit.study/9"}', "null"])
def test_an_unreadable_study_is_left_alone(tmp_path, content):
    """A study.json that is damaged or of a later version is not taken for this study, nor deleted."""
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(
        StudyError, match=r"So nothing in .* is replaced: delete it, or choose another directory \(`out=DIR`\)"
    ):
        make_directory(tmp_path)
    assert content == (tmp_path / "study.json").read_text()


@pytest.mark.parametrize(
    "name", [".study.json.0123456789abcdef", ".lock", ".lock.json", "..lock.json.0123456789abcdef"]
)
def test_what_a_killed_run_left_is_no_obstacle(tmp_path, name):
    """The temporary file of an interrupted write, and the lock."""
    (tmp_path / name).touch()
    make_directory(tmp_path)


def test_new_and_empty_folders(tmp_path):
    """A folder is made with those above it, and an empty one is taken."""
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_in_the_way(tmp_path):
    """The reason is the system's own."""
    (tmp_path / "a").touch()
    with pytest.raises(StudyError, match=r"cannot use .* as a study: File exists"):
        make_directory(tmp_path / "a")
