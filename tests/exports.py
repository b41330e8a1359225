"""Export a network to ONNX only once in a test process: torch's exporter takes a second or two for the smallest one."""

import sys

import pytest

_USERS = ("isplit.design.export", "isplit.design.export_segments")
_REGISTRY = "torch.onnx._internal.exporter._registration"
_models: dict[tuple, bytes] = {}


@pytest.fixture(autouse=True, scope="session")
def _imports_once():
    """Undo what `remember_exports` changes when the tests end."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(autouse=True)
def remember_exports(_imports_once):
    """Let the modules that export, once they are imported, take a network that was exported before from memory."""
    for name in _USERS:
        user = sys.modules.get(name)
        if user is not None and user.to_onnx is not _remembered:
            _imports_once.setattr(user, "to_onnx", _remembered)
    if _REGISTRY in sys.modules:
        _keep_registry(_imports_once, sys.modules[_REGISTRY].ONNXRegistry)


def _remembered(module, example, *, source, target):
    """Return what `to_onnx` returns, from memory where the same network was exported before."""
    import onnx

    from isplit.design.onnx.files import to_onnx

    key = (_identity(module), tuple(example.shape), example.dtype, source, target)
    if key not in _models:
        _models[key] = to_onnx(module, example, source=source, target=target).SerializeToString()
    return onnx.load_from_string(_models[key])


def _identity(module):
    """Return everything that tells exported networks apart: structure, code, values, quantisers and classes."""
    from isplit.design.inputs.weights import fingerprint

    parts = [*module.modules()]
    code = tuple(part.code for part in parts if hasattr(part, "code"))
    quantisers = tuple(part._quantiser.quantiser for part in parts if hasattr(part, "_quantiser"))
    classes = tuple((part._group.group, part._same) for part in parts if hasattr(part, "_same"))
    return type(module), repr(module), fingerprint(module), code, quantisers, classes


def _keep_registry(patch, registry):
    """Make torch's table of operators once for each opset: it never changes, and takes half of an export's time."""
    make = getattr(registry, "from_torchlib", None)
    if make is None or hasattr(make, "is_kept"):
        return
    tables = {}

    def from_torchlib(opset_version=18):
        if opset_version not in tables:
            tables[opset_version] = make(opset_version)
        return tables[opset_version]

    from_torchlib.is_kept = True
    patch.setattr(registry, "from_torchlib", staticmethod(from_torchlib))
