"""The compiled coder as its source is now, whatever is installed."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOOK = ROOT / "packaging" / "build_rans.py"


@pytest.fixture(scope="session")
def compiler():
    """A C compiler's path; without one the test is skipped."""
    return shutil.which("cc") or shutil.which("gcc") or pytest.skip("no C compiler is installed")


@pytest.fixture(scope="session")
def extension(compiler, tmp_path_factory):
    """The module `_rans`, compiled as a wheel's is."""
    directory = tmp_path_factory.mktemp("compiled")
    subprocess.run([sys.executable, str(HOOK), str(directory)], check=True, capture_output=True, timeout=240)
    (path,) = (directory / "isplit" / "codec").glob("_rans*")
    spec = importlib.util.spec_from_file_location("isplit.codec._rans", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def native(extension, monkeypatch):
    """The module `_rans`, in place of the one that is installed or missing."""
    monkeypatch.setattr("isplit.codec.compiled_rans.native", extension)
    return extension
