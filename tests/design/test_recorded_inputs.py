"""isplit.design.recorded_inputs: what a study names is found from other places, and its code is not run unasked."""

import pytest

from isplit.design.recorded_inputs import recorded_spec
from isplit.errors import StudyError


@pytest.fixture
def study(tmp_path):
    """The directory of a study, two folders below the files that it names."""
    directory = tmp_path / "work" / "study"
    directory.mkdir(parents=True)
    (tmp_path / "net.py").write_text("raise AssertionError('it was run')")
    (tmp_path / "pictures").mkdir()
    return directory


@pytest.mark.parametrize("spec", ["torchvision:vgg16", "sklearn:digits", "/no/such/folder", "nowhere"])
def test_names_stay_as_they_are(study, spec):
    """Models and data of libraries, absolute paths and paths that lead nowhere are returned as they were recorded."""
    assert spec == recorded_spec(study, spec, "data", False)


def test_a_relative_path(study, tmp_path):
    """A path is found in one of the folders around the study."""
    assert str(tmp_path / "pictures") == recorded_spec(study, "pictures", "data", False)


def test_code_needs_permission(study, tmp_path):
    """The message names the code and how to allow it; allowed, it is located and still not run."""
    with pytest.raises(StudyError, match=r"names Python code as its model, net\.py:make.*allow_code=True"):
        recorded_spec(study, "net.py:make", "model", False)
    assert f"{tmp_path / 'net.py'}:make" == recorded_spec(study, "net.py:make", "model", True)


def test_a_file_of_the_study_itself(study):
    """Code inside the study is refused even when code is allowed, because whoever sends a study would choose it."""
    (study / "net.py").write_text("")
    with pytest.raises(StudyError, match="names a file of its own"):
        recorded_spec(study, f"{study / 'net.py'}:make", "model", True)


def test_a_module_in_memory(study):
    """What was only in memory cannot be found again."""
    with pytest.raises(StudyError, match="pass the module"):
        recorded_spec(study, "python:TinyNet", "model", True)
