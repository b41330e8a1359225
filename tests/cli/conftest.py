"""Run the command line in this process, on the small model and pictures."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def bad_input(isplit):
    """Run a command that has to be refused: exit 2, the words in one message on standard error, no traceback."""

    def check(*args, says):
        result = isplit(*args)
        assert 2 == result.code, result.both
        assert "" == result.out
        assert "Traceback" not in result.err
        for words in says:
            assert words in result.err
        return result

    return check


@pytest.fixture(scope="session")
def tiny_args(tiny_model_file, tiny_data, tiny_weights):
    """MODEL, DATA and the weights as arguments."""
    return [f"{tiny_model_file}:build", tiny_data, "--weights", tiny_weights]


@pytest.fixture(scope="session")
def finished(isplit, tiny_args, tmp_path_factory):
    """A study as `isplit analyze` leaves it, and what the command printed. Not to be changed."""
    directory = tmp_path_factory.mktemp("finished") / "study"
    return directory, isplit("analyze", *tiny_args, "-o", directory)


@pytest.fixture
def study(finished, tmp_path) -> Path:
    """A finished study to change."""
    return Path(shutil.copytree(finished[0], tmp_path / "study"))


@pytest.fixture
def without_report(monkeypatch):
    """Leave out the drawing, half of the time of a run, where a test is about something else."""
    import isplit.report

    monkeypatch.setattr(isplit.report, "write_report", lambda directory: ())
