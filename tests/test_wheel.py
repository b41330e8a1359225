"""The wheel: all that a device or another workstation gets from `pip install`."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


NAME = f"isplit-{PROJECT['version']}"


def build_wheel(directory, *, kind="wheel", **environment):
    """Build this checkout's wheel into a directory, and return its path and what the build said."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(directory)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=240, check=False
    )
    assert 0 == done.returncode, done.stderr
    (wheel,) = directory.glob("*.whl")
    return wheel, done.stdout + done.stderr


def unpack(wheel, directory):
    """Unpack a wheel as pip would install it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    return directory


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel of this checkout as it is without a C compiler, unpacked."""
    directory = tmp_path_factory.mktemp("wheel")
    wheel, said = build_wheel(directory, CC="false", ISPLIT_COMPILED="")
    assert "the entropy coder was not compiled, isplit will code in numpy" in said
    assert f"{NAME}-py3-none-any.whl" == wheel.name
    return unpack(wheel, directory / "site")


def files(root, *, without=(".pyc",)):
    """The files below a directory, but for those of some endings."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.suffix not in without}


def coder_of(site, tmp_path):
    """Return which coder the package in a directory uses, and the bytes that it makes."""
    code = (
        "import numpy as np; from isplit.codec.rans import Rans, RansTables, normalise, rans_coder\n"
        "coder = Rans(RansTables(frequencies=normalise(np.arange(1, 17)[None]), lanes=1))\n"
        "print(rans_coder(), coder.encode(np.arange(100, dtype=np.uint8) % 16).hex())"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def test_a_compiler_brings_the_compiled_coder(unpacked, tmp_path):
    """With a C compiler the wheel is this platform's and every Python's, and codes in C, with the same bytes."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler is installed")
    wheel, _ = build_wheel(tmp_path / "dist", ISPLIT_COMPILED="1")
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert f"{NAME}-cp311-abi3-{platform}.whl" == wheel.name
    site = unpack(wheel, tmp_path / "site")

    (extension,) = files(site / "isplit") - files(unpacked / "isplit")
    assert extension.startswith("codec/_rans.")
    assert "Root-Is-Purelib: false" in (site / f"{NAME}.dist-info" / "WHEEL").read_text("utf-8")
    assert ["compiled", "numpy"] == [coder_of(site, tmp_path)[0], coder_of(unpacked, tmp_path)[0]]
    assert coder_of(site, tmp_path)[1] == coder_of(unpacked, tmp_path)[1]


def test_nothing_is_compiled_unless_wanted(tmp_path):
    """ISPLIT_COMPILED=0 makes the pure wheel wherever it is built, and says nothing."""
    wheel, said = build_wheel(tmp_path, ISPLIT_COMPILED="0")
    assert f"{NAME}-py3-none-any.whl" == wheel.name
    assert "numpy" not in said


def test_a_release_does_not_go_without(tmp_path):
    """ISPLIT_COMPILED=1 fails where it cannot be compiled, so that no release lacks it unnoticed."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    environment = {**os.environ, "CC": "false", "ISPLIT_COMPILED": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=240, check=False)
    assert 0 != done.returncode
    assert [] == list(tmp_path.glob("*.whl"))


ZIG_OF_THIS_PLATFORM = """
import os, sys

assert ["cc", "-target"] == sys.argv[1:3] and sys.argv[3].startswith(os.uname().machine), sys.argv
os.execvp("cc", ["cc", *sys.argv[4:]])
"""


def test_a_wheel_for_another_platform(unpacked, tmp_path):
    """ISPLIT_PLATFORM names the platform, for which Zig compiles; here this machine's compiler stands for Zig."""
    if shutil.which("cc") is None or sys.platform != "linux" or os.uname().machine not in ("x86_64", "aarch64"):
        pytest.skip("this is no 64-bit Linux with a C compiler")
    (tmp_path / "zig" / "ziglang").mkdir(parents=True)
    (tmp_path / "zig" / "ziglang" / "__main__.py").write_text(ZIG_OF_THIS_PLATFORM, "utf-8")
    platform = f"manylinux_2_28_{os.uname().machine}"
    wheel, _ = build_wheel(tmp_path / "dist", ISPLIT_PLATFORM=platform, PYTHONPATH=str(tmp_path / "zig"))
    assert f"{NAME}-cp311-abi3-{platform}.whl" == wheel.name
    site = unpack(wheel, tmp_path / "site")
    assert {"codec/_rans.abi3.so"} == files(site / "isplit") - files(unpacked / "isplit")
    assert "compiled" == coder_of(site, tmp_path)[0]
    assert coder_of(unpacked, tmp_path)[1] == coder_of(site, tmp_path)[1]


@pytest.mark.parametrize(
    ("platform", "said"),
    [("raspberry", "ISPLIT_PLATFORM=raspberry: name one of manylinux_2_28_x86_64, "), ("musllinux_1_2_aarch64", "zig")],
)
def test_a_platform_that_cannot_be_compiled_for(platform, said, tmp_path):
    """A platform that nobody knows, and one for which Zig fails, end the build: no wheel of the wrong kind is made."""
    (tmp_path / "zig" / "ziglang").mkdir(parents=True)
    (tmp_path / "zig" / "ziglang" / "__main__.py").write_text("import sys; sys.exit('zig: no such target')", "utf-8")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    environment = {**os.environ, "ISPLIT_PLATFORM": platform, "PYTHONPATH": str(tmp_path / "zig")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert 0 != done.returncode
    assert said in done.stderr
    assert [] == list(tmp_path.glob("dist/*.whl"))


def test_the_makefile_builds_for_every_platform():
    """`make wheels` and the build know the same platforms."""
    (line,) = re.findall(r"^WHEELS := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    known = re.findall(
        r'^    "((?:many|musl)linux\w+)":', (ROOT / "packaging" / "build_rans.py").read_text(), re.MULTILINE
    )
    assert line.split() == known


def test_editable_without_a_compiler(tmp_path):
    """What `pip install --editable` builds is made without a compiler too."""
    wheel, said = build_wheel(tmp_path, kind="wheel:editable", CC="false", ISPLIT_COMPILED="")
    assert "isplit will code in numpy" in said
    assert f"{NAME}-py3-none-any.whl" == wheel.name


def test_every_file_is_there(unpacked):
    """Every file of the package is in the wheel: modules, templates, the calibration, units; and nothing else."""
    source = files(ROOT / "src" / "isplit", without=(".pyc", ".c", ".h", ".so", ".pyd"))

    assert source == files(unpacked / "isplit")
    assert {"py.typed", "design/measure/calibration.json"} <= files(unpacked / "isplit")
    assert ["isplit", f"{NAME}.dist-info"] == sorted(path.name for path in unpacked.iterdir())


def test_metadata(unpacked):
    """The metadata have name, version, Python, licence, description, every dependency and every extra."""
    directory = unpacked / f"{NAME}.dist-info"
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
        command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=240
    )

    expected = [str(unpacked / "isplit" / "__init__.py"), PROJECT["version"], PROJECT["version"]]
    assert expected == done.stdout.split()
