"""Export a network to ONNX only once: torch's exporter takes a second for the smallest one.

What was exported is kept in a directory that all workers of a run share.
"""

import hashlib
import importlib
import os
import sys
from pathlib import Path

import pytest

_USERS = ("isplit.design.export", "isplit.design.export_segments", "isplit.design.onnx.staged")
_EXPORTER = "isplit.design.onnx.files"
_patch = pytest.MonkeyPatch()
_directory: Path | None = None


def shared_directory(factory, name) -> Path:
    """Return the path of a directory that all workers of a run see; it may not be there yet."""
    base = factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name


@pytest.fixture(autouse=True, scope="session")
def exports_directory(tmp_path_factory):
    """Make the directory of exported networks; when the tests end, undo what `remember_exports` has changed."""
    global _directory
    _directory = shared_directory(tmp_path_factory, "shared-exports")
    _directory.mkdir(exist_ok=True)
    yield _directory
    _patch.undo()


def remember_exports(*, imports=False):
    """Let the modules that export, once they are imported, take a network that was exported before from its copy.

    With `imports` they are imported first.
    """
    for name in _USERS:
        user = importlib.import_module(name) if imports else sys.modules.get(name)
        # A test may have put something else there.
        if user is not None and user.to_onnx is sys.modules[_EXPORTER].to_onnx:
            _patch.setattr(user, "to_onnx", _remembered)


def _remembered(module, example, **names):
    """Return what `to_onnx` returns, from a copy where the same network was exported before."""
    import onnx

    from isplit.design.onnx.files import to_onnx

    key = repr((_identity(module), tuple(example.shape), example.dtype, sorted(names.items())))
    path = _directory / hashlib.sha256(key.encode()).hexdigest()
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(to_onnx(module, example, **names).SerializeToString())
        unfinished.replace(path)  # another worker sees all of it or nothing
    return onnx.load_from_string(path.read_bytes())


def _identity(module):
    """Return everything that tells exported networks apart: structure, code, values, quantisers and classes."""
    from isplit.design.inputs.weights import fingerprint

    parts = [*module.modules()]
    kinds = [f"{type(part).__module__}.{type(part).__qualname__}" for part in parts]
    code = [part.code for part in parts if hasattr(part, "code")]
    quantisers = [part._quantiser.quantiser for part in parts if hasattr(part, "_quantiser")]
    classes = [(part._group.group, part._same) for part in parts if hasattr(part, "_same")]
    return kinds, repr(module), fingerprint(module), code, quantisers, classes
