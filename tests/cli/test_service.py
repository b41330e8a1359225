"""Units for systemd: they call the command as it is, and are written only where nothing else is lost."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("unit", ["serve", "run"])
def test_print(isplit, unit):
    """A unit calls this installation's command, with options that it has."""
    result = isplit("service", "print", unit)
    assert (0, "") == (result.code, result.err)
    command = re.search(r"^ExecStart=((?:.*\\\n)*.*)$", result.out, re.MULTILINE)[1].replace("\\\n", " ").split()
    assert [str(Path(sys.executable).with_name("isplit")), unit] == command[:2]
    known = isplit(unit, "--help").out
    for option in (word for word in command if word.startswith("--")):
        assert re.search(rf"{option}\b", known), option
    assert "@" not in result.out


@pytest.mark.parametrize("unit", ["serve", "run"])
def test_install(isplit, tmp_path, unit):
    """Installing writes what `print` prints, and says what is left to do; to do it twice does no harm."""
    for _ in range(2):
        result = isplit("service", "install", unit, "--directory", tmp_path)
        assert 0 == result.code, result.err
    assert isplit("service", "print", unit).out == (tmp_path / f"isplit-{unit}.service").read_text()
    assert f"systemctl enable --now isplit-{unit}" in result.out


def test_another_is_there(isplit, tmp_path):
    """A unit that was changed stays, unless it is said to be replaced."""
    path = tmp_path / "isplit-serve.service"
    path.write_text("mine")
    result = isplit("service", "install", "serve", "--directory", tmp_path)
    assert 2 == result.code
    assert "--overwrite" in result.err
    assert "mine" == path.read_text()
    assert 0 == isplit("service", "install", "serve", "--directory", tmp_path, "--overwrite").code
    assert "mine" != path.read_text()


@pytest.mark.parametrize("option", [(), ("--overwrite",)])
@pytest.mark.parametrize("kind", ["link", "empty"])
def test_masked(isplit, tmp_path, kind, option):
    """A masked unit stays masked, and the message says how to unmask it."""
    path = tmp_path / "isplit-run.service"
    path.symlink_to("/dev/null") if kind == "link" else path.touch()
    result = isplit("service", "install", "run", "--directory", tmp_path, *option)
    assert 2 == result.code
    assert "systemctl unmask isplit-run" in " ".join(result.err.split())
    assert path.is_symlink() if kind == "link" else b"" == path.read_bytes()


def test_nowhere(isplit, tmp_path):
    """A directory that is not there is named."""
    result = isplit("service", "install", "run", "--directory", tmp_path / "none")
    assert 2 == result.code
    assert "cannot write" in result.err


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("unit", ["serve", "run"])
def test_systemd_takes_it(isplit, tmp_path, unit):
    """Systemd finds no fault in the unit that is installed."""
    assert 0 == isplit("service", "install", unit, "--directory", tmp_path).code
    path = tmp_path / f"isplit-{unit}.service"
    checked = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert (0, "") == (checked.returncode, checked.stderr)
