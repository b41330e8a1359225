"""Run the command line in this process, on the small model and pictures."""

import contextlib
import io
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from isplit.cli import main


@dataclass(frozen=True)
class Result:
    """How a command ended, what it printed on each stream, and both streams in order."""

    code: int
    out: str
    err: str
    both: str


class _Tee(io.StringIO):
    def __init__(self, other):
        super().__init__()
        self.other = other

    def write(self, text):
        self.other.write(text)
        return super().write(text)


def run(*args) -> Result:
    """Run `isplit ARGS` in this process; its streams are no terminals."""
    both = io.StringIO()
    out, err = _Tee(both), _Tee(both)
    code = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["isplit", *map(str, args)])
        try:
            main()
        except SystemExit as stop:
            code = 0 if stop.code is None else stop.code
    return Result(code, out.getvalue(), err.getvalue(), both.getvalue())


@pytest.fixture(scope="session")
def isplit():
    """The command line as a function of its arguments."""
    return run


@pytest.fixture(scope="session")
def bad_input():
    """Run a command that has to be refused: exit 2, the words in one message on standard error, no traceback."""

    def check(*args, says):
        result = run(*args)
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
def finished(tiny_args, tmp_path_factory):
    """A study as `isplit analyze` leaves it, and what the command printed. Not to be changed."""
    directory = tmp_path_factory.mktemp("finished") / "study"
    return directory, run("analyze", *tiny_args, "-o", directory)


@pytest.fixture
def study(finished, tmp_path) -> Path:
    """A finished study to change."""
    return Path(shutil.copytree(finished[0], tmp_path / "study"))


@pytest.fixture
def without_report(monkeypatch):
    """Leave out the drawing, half of the time of a run, where a test is about something else."""
    import isplit.api

    monkeypatch.setattr(isplit.api, "write_report", lambda directory: ())
