"""The wheel: all that a device or another workstation gets from `pip install`."""

import os
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel of this checkout, unpacked as pip would install it."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = directory.glob("*.whl")
    assert f"isplit-{PROJECT['version']}-py3-none-any.whl" == wheel.name
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory / "site")
    return directory / "site"


def test_every_file_is_there(unpacked):
    """Every file of the package is in the wheel: modules, templates, the calibration, units; and nothing else."""
    source = ROOT / "src" / "isplit"

    def files(root):
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"}

    assert files(source) == files(unpacked / "isplit")
    assert {"py.typed", "design/measure/calibration.json"} <= files(unpacked / "isplit")
    assert ["isplit", f"isplit-{PROJECT['version']}.dist-info"] == sorted(path.name for path in unpacked.iterdir())


def test_metadata(unpacked):
    """The metadata have name, version, Python, licence, description, every dependency and every extra."""
    directory = unpacked / f"isplit-{PROJECT['version']}.dist-info"
    metadata = Parser().parsestr((directory / "METADATA").read_text("utf-8"))

    assert ("isplit", PROJECT["version"]) == (metadata["Name"], metadata["Version"])
    assert (PROJECT["requires-python"], "Apache-2.0") == (metadata["Requires-Python"], metadata["License-Expression"])
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text("utf-8").strip()
    assert (ROOT / "LICENSE").read_bytes() == (directory / "licenses" / "LICENSE").read_bytes()
    assert set(PROJECT["optional-dependencies"]) == set(metadata.get_all("Provides-Extra"))
    required = {line.replace(" ", "") for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert len(PROJECT["dependencies"]) == len(required)
    assert "isplit = isplit.cli:main" in (directory / "entry_points.txt").read_text()


def test_runs_from_the_wheel(unpacked, tmp_path):
    """Installed without the checkout, the command line and the package agree about the version."""
    code = "import isplit, sys; print(isplit.__file__, isplit.__version__); from isplit.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-c", code, "--version"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=60
    )

    expected = [str(unpacked / "isplit" / "__init__.py"), PROJECT["version"], PROJECT["version"]]
    assert expected == done.stdout.split()
