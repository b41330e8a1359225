"""What a device has to carry: which modules load, and that everything it installs exists for it as a wheel."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HEAVY = {"torch", "torchvision", "timm", "onnx", "scipy", "sklearn", "matplotlib", "plotly", "pandas", "ray", "cv2"}
# Needed to run, and loaded when a client connects or a model is first used: not by the import.
LATER = {"grpc", "onnxruntime", "tritonclient", "google.protobuf", "prometheus_client"}
NOT_FOR_DEVICES = ("isplit.design", "isplit.report", "isplit.runtime.server")
SHELL = {"typer", "rich", "click"}


def loaded(code, *arguments):
    """Return the modules that are loaded in a fresh interpreter after some code."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{code}\nimport sys\nprint(*sys.modules)", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert 0 == done.returncode, done.stderr
    return set(done.stdout.split())


def test_import_loads_little():
    """Importing the client loads no torch, no server, no command line; gRPC and onnxruntime only when they are used."""
    modules = loaded("import isplit; isplit.EdgeClient")
    assert set() == (HEAVY | LATER | SHELL) & modules
    assert not [
        name for name in modules if name.startswith(("isplit.design", "isplit.report", "isplit.runtime.server"))
    ]


def test_running_loads_no_more(tiny):
    """Answering images, with a connection, loads onnxruntime, no gRPC where the lean wire serves, and nothing heavy."""
    code = (
        "import numpy as np, sys, isplit\n"
        "with isplit.EdgeClient(sys.argv[1], '127.0.0.1:1', require_server=False) as client:\n"
        "    image = np.zeros((8, 8, 3), np.uint8)\n"
        "    assert client.classify(image).source == 'local-fallback'\n"
        "    assert client.classify(image, placement='remote').source == 'local-fallback'\n"
    )
    modules = loaded(code, tiny.directory)
    assert set() == (HEAVY | SHELL | {"prometheus_client", "grpc", "google.protobuf"}) & modules
    assert "onnxruntime" in modules
    assert not [
        name for name in modules if name.startswith(("isplit.design", "isplit.report", "isplit.runtime.server"))
    ]


@pytest.mark.network
@pytest.mark.parametrize("python", ["3.11", "3.13"])
def test_installs_on_a_raspberry_pi(python, tmp_path):
    """Every base dependency has a wheel for 64-bit ARM Linux: nothing is compiled on the device."""
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 24, 27, 28, 31, 34)]
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--only-binary=:all:", "--target", str(tmp_path)]
    where = [*platforms, "--platform=manylinux2014_aarch64", "--python-version", python, "--implementation", "cp"]
    try:
        done = subprocess.run(
            [*pip, "--no-input", "--disable-pip-version-check", *where, *requirements],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the package index does not answer")
    unreachable = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ProxyError", "SSLError")
    if done.returncode and any(name in done.stderr for name in unreachable):
        pytest.skip("the package index cannot be reached")
    assert 0 == done.returncode, done.stderr
    assert "Would install" in done.stdout
