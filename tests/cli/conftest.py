"""Run the command line in this process, on the small model and pictures."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


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


@pytest.fixture
def refuse(bad_input, tiny_args, tmp_path):
    """Analyze with other MODEL, DATA or options; it must be refused and leave nothing that looks like a result."""

    def check(*options, says, model=tiny_args[0], data=tiny_args[1], weights=tiny_args[3]):
        out = tmp_path / "refused"
        extra = () if weights is None else ("--weights", weights)
        result = bad_input("analyze", model, data, *extra, "-o", out, *options, says=says)
        assert not (out / "curve.json").exists()
        assert not (out / "candidates.json").exists()
        return result

    return check


@pytest.fixture
def folders(tmp_path):
    """Make an undivided ImageFolder; the function says how many pictures each class has."""

    def make(**counts):
        rng = np.random.default_rng(0)
        for name, count in counts.items():
            (tmp_path / "folder" / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
                picture.save(tmp_path / "folder" / name / f"{i}.png")
        return tmp_path / "folder"

    return make


@pytest.fixture
def printed(capsys, monkeypatch):
    """What a function prints at 80 columns, after a look that nothing is cut."""
    monkeypatch.setenv("COLUMNS", "80")

    def show(function, *args, **options):
        function(*args, **options)
        text = capsys.readouterr().out
        assert "…" not in text
        # A command to copy stays in one line, however long.
        tables = [line for line in text.splitlines() if not line.startswith(("Report", "Note", "On the device:  "))]
        assert [] == [line for line in tables if len(line) > 80]
        return text

    return show
