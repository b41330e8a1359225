"""Compile the entropy coder while a wheel is built, if that is possible here.

hatchling calls this (see pyproject.toml). With a C compiler the wheel holds `isplit/codec/_rans`, is of one platform
and of every Python from 3.11 on (stable ABI). Without one, or where it fails, the wheel is pure Python: isplit then
codes in numpy, with the same bytes. ISPLIT_COMPILED=0 does not compile; ISPLIT_COMPILED=1 takes a failure for an error,
as the builds of releases do. ISPLIT_PLATFORM=manylinux_2_28_aarch64 makes the wheel of another platform than this one
(`PLATFORMS` has those of releases), with the C compiler that the package ziglang brings: no container and no emulator.

    python packaging/build_rans.py DIRECTORY     compiles into a directory, for tests
"""

import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parents[1]
CODEC = ROOT / "src" / "isplit" / "codec"
SOURCE, HEADER = CODEC / "_rans.c", CODEC / "_rans_core.h"
PLATFORMS = {
    "manylinux_2_28_x86_64": "x86_64-linux-gnu.2.28",
    "manylinux_2_28_aarch64": "aarch64-linux-gnu.2.28",
    "musllinux_1_2_x86_64": "x86_64-linux-musl",
    "musllinux_1_2_aarch64": "aarch64-linux-musl",
}
"""The platforms of releases, as wheels call them, and what Zig calls each."""
_FIRST_PYTHON = "cp311"


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds the compiled coder to a wheel, and puts it beside its source for an editable installation."""

    def dependencies(self) -> list[str]:
        """Return what a build for another platform needs besides."""
        return ["ziglang>=0.13"] if os.environ.get("ISPLIT_PLATFORM") else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and describe the wheel accordingly; `version` is "standard" or "editable"."""
        wish, name = os.environ.get("ISPLIT_COMPILED", ""), os.environ.get("ISPLIT_PLATFORM", "")
        if wish == "0":
            return
        if name and (name not in PLATFORMS or version == "editable"):
            msg = f"ISPLIT_PLATFORM={name}: name one of {', '.join(PLATFORMS)}, for a wheel that is not editable"
            raise ValueError(msg)
        # Where the platform's own file lies until the wheel is written.
        self._temporary = tempfile.TemporaryDirectory()
        try:
            directory = Path(self._temporary.name)
            extension = cross_compile(directory, PLATFORMS[name]) if name else compile_extension(directory)
        except Exception as error:  # whatever a compiler or its absence gives; the coder in numpy does not need it
            if wish == "1" or name:
                raise
            reason = " ".join(str(error).split())
            self.app.display_warning(f"the entropy coder was not compiled, isplit will code in numpy: {reason}")
            return
        if version == "editable":
            (CODEC / extension.name).write_bytes(extension.read_bytes())
            return
        build_data["pure_python"] = False
        tag = name or sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"{_FIRST_PYTHON}-abi3-{tag}"
        build_data["force_include"][str(extension)] = f"isplit/codec/{extension.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled for this wheel."""
        if hasattr(self, "_temporary"):
            self._temporary.cleanup()


def compile_extension(directory: Path) -> Path:
    """Compile the extension into a directory and return its file.

    setuptools knows the compilers of all platforms and heeds CC, CFLAGS and those of cross-compilation.

    Raises:
        RuntimeError: this Python has no stable ABI.
        Exception: of setuptools, where there is no compiler or it fails.

    """
    if platform.python_implementation() != "CPython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        msg = "this Python has no stable ABI"
        raise RuntimeError(msg)
    from setuptools import Distribution, Extension

    extension = Extension(
        "isplit.codec._rans", [str(SOURCE)], depends=[str(HEADER)], py_limited_api=True, extra_compile_args=_options()
    )
    distribution = Distribution({"name": "isplit", "ext_modules": [extension]})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(directory), str(directory / "objects")
    command.inplace, command.force, command.debug = False, True, False
    command.ensure_finalized()
    with redirect_stdout(sys.stderr):  # the frontend reads what is on standard output
        command.run()
    (built,) = (directory / "isplit" / "codec").glob("_rans*")
    return built


def cross_compile(directory: Path, target: str) -> Path:
    """Compile the extension for another platform of 64-bit Linux into a directory and return its file.

    The headers are those of this Python: under the stable ABI, they say the same on every such platform.

    Raises:
        RuntimeError: ziglang is not installed, or compiling failed.

    """
    extension = directory / "_rans.abi3.so"
    options = [*_options(), "-fPIC", "-shared", "-s", f"-I{sysconfig.get_path('include')}", "-o", str(extension)]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *options, str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        msg = f"compiling for {target} failed: {done.stderr}"
        raise RuntimeError(msg)
    return extension


def _options() -> list[str]:
    return [] if sys.platform == "win32" else ["-O3", "-std=c99"]


if __name__ == "__main__":
    print(compile_extension(Path(sys.argv[1])))
