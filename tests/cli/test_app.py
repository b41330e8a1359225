"""What becomes of errors that are not the user's: one line that says so, and no traceback unless asked for."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def fault(study, monkeypatch):
    """Arguments of a command that fails by a fault of ours."""

    def fail(directory):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("isplit.cli.report.write_report", fail)
    monkeypatch.delenv("ISPLIT_TRACEBACK", raising=False)
    return "report", study


def test_fault(isplit, fault):
    """A fault of ours is one line on standard error that asks to report it, and exit code 1."""
    result = isplit(*fault)

    expected = (
        "isplit: this is a fault of isplit, please report it: ZeroDivisionError: division by zero "
        "(ISPLIT_TRACEBACK=1 shows where)\n"
    )
    assert (1, "", expected) == (result.code, result.out, result.err)


def test_fault_with_traceback(isplit, fault, monkeypatch):
    """With ISPLIT_TRACEBACK=1 the traceback comes before that line."""
    monkeypatch.setenv("ISPLIT_TRACEBACK", "1")

    result = isplit(*fault)

    assert 1 == result.code
    assert result.err.startswith("Traceback")
    assert "in fail" in result.err
    assert "please report it" in result.err.splitlines()[-1]


def test_usage_error_is_no_fault(isplit):
    """A usage error stays click's, with exit code 2."""
    result = isplit("report")

    assert 2 == result.code
    assert "STUDY" in result.err
    assert "fault" not in result.err


def test_ctrl_c_in_other_verbs(isplit, study, monkeypatch):
    """Ctrl-C where nothing is kept says no more than that it stopped."""

    def stop(directory):
        raise KeyboardInterrupt

    monkeypatch.setattr("isplit.cli.report.write_report", stop)

    result = isplit("report", study)

    assert (130, "", "isplit: stopped\n") == (result.code, result.out, result.err)


@pytest.fixture
def opened(monkeypatch):
    """What was opened or loaded, in order; nothing really is."""
    import isplit.api
    from isplit.errors import DataError, ModelError

    calls = []

    def open_data(*args, **kwargs):
        calls.append("data")
        raise DataError("no such data")

    def load_model(*args, **kwargs):
        calls.append("model")
        raise ModelError("no such model")

    monkeypatch.setattr(isplit.api, "open_data", open_data)
    monkeypatch.setattr(isplit.api, "load_model", load_model)
    return calls


@pytest.mark.parametrize(
    "options", ["--images many", "--test-images many", "--precision fp8", "--mean red", "--std red", "--method none"]
)
def test_options_are_read_first(bad_input, opened, options):
    """A bad option is refused before any data is opened or model loaded, either of which may be a download."""
    bad_input("analyze", "torchvision:vgg16", "torchvision:Food101", *options.split(), says=[options.split()[1]])

    assert [] == opened


def test_data_before_model(bad_input, opened):
    """Bad data is refused before the model is loaded."""
    bad_input("analyze", "torchvision:vgg16", "torchvision:Food101", says=["no such data"])

    assert ["data"] == opened


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_output_on_a_full_disk(arguments):
    """Standard output that cannot be written is said in one line, with exit 2, and not once more at the end."""
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "isplit", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert 2 == result.returncode
    assert ["isplit: cannot read or write: No space left on device"] == result.stderr.splitlines()
