"""What may be written into a folder: a study's own files, and nothing of anybody else's."""

import pytest

from isplit.design.study_directory import make_directory, refuse_mixed_records
from isplit.errors import StudyError
from isplit.records import PlanRecord, SplitRecord


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


class FakeRecord:
    """A record that knows which model it is of."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    ("splits", "plan", "message"),
    [
        (["this"], "this", None),
        (["other", "this"], "this", None),
        ([None, "this"], None, None),
        ([None], None, None),
        ([], None, None),
        (["other", "other"], "this", "holds splits of another model than study.json names"),
        (["other", None], None, "holds splits of another model than study.json names"),
        (["this"], "other", "is a plan of another model"),
    ],
    ids=[
        "one study",
        "one strange",
        "one damaged",
        "all damaged",
        "nothing",
        "strange",
        "readable ones strange",
        "plan",
    ],
)
def test_a_study_json_of_another_study(tmp_path, monkeypatch, splits, plan, message):
    """A study.json that was replaced is refused before anything is computed; single strange splits block nothing."""

    def load_split(directory):
        if directory.name == "None":
            raise StudyError
        return FakeRecord(model=directory.name.partition("-")[0])

    def load_plan(directory):
        return FakeRecord(model_fingerprint=plan)

    for number, model in enumerate(splits):
        directory = tmp_path / "splits" / (f"{model}-{number}" if model else "None")
        directory.mkdir(parents=True)
        (directory / "split.json").touch()
    if plan:
        (tmp_path / "plan.json").touch()
    monkeypatch.setattr(SplitRecord, "load", load_split)
    monkeypatch.setattr(PlanRecord, "load", load_plan)
    if message is None:
        refuse_mixed_records(tmp_path, "this")
        return
    with pytest.raises(StudyError, match=message):
        refuse_mixed_records(tmp_path, "this")
