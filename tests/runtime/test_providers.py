"""Which execution provider is chosen, and how onnxruntime is asked for it."""

import pytest

from isplit.errors import InputError
from isplit.runtime.providers import ProviderChoice, check_provider, choose_provider, execution_providers, is_active

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
NAMES = {
    "cpu": CPU,
    "cuda": CUDA,
    "tensorrt": TENSORRT,
    "openvino": "OpenVINOExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "qnn": "QNNExecutionProvider",
}


@pytest.mark.parametrize("name", ["auto", *NAMES])
def test_names(name):
    """Every name is one."""
    assert name == check_provider(name)


@pytest.mark.parametrize("name", ["", "CPU", "gpu", "CPUExecutionProvider"])
def test_no_name(name):
    """Anything else is refused, and the message lists the names."""
    with pytest.raises(InputError, match="auto, cpu, cuda, tensorrt, openvino, xnnpack, coreml, qnn"):
        check_provider(name)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_there_is_taken(name):
    """A provider that onnxruntime has is taken; it is one of onnxruntime's own names."""
    import onnxruntime

    assert ProviderChoice(name=name) == choose_provider(name, [NAMES[name], CPU])
    assert NAMES[name] in onnxruntime.get_all_providers()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cpu"])
def test_what_is_not_there_falls_back(name):
    """A provider that onnxruntime does not have becomes the CPU, and the reason is kept."""
    others = [other for other in NAMES.values() if other != NAMES[name]]
    fallback = f"{name}: the installed onnxruntime was built without it"
    assert ProviderChoice(name="cpu", fallback=fallback) == choose_provider(name, others)


@pytest.mark.parametrize(
    ("available", "name"),
    [([CPU], "cpu"), ([CUDA, CPU], "cuda"), ([TENSORRT, CUDA, CPU], "cuda"), ([NAMES["openvino"], CPU], "cpu")],
)
def test_auto(available, name):
    """Left to itself, it is CUDA where there is one, and the CPU elsewhere; neither is a fallback."""
    assert ProviderChoice(name=name) == choose_provider("auto", available)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cpu", [CPU]),
        ("cuda", [CUDA, CPU]),
        ("tensorrt", [TENSORRT, CUDA, CPU]),
        ("openvino", [(NAMES["openvino"], {"num_of_threads": "3"}), CPU]),
        ("xnnpack", [(NAMES["xnnpack"], {"intra_op_num_threads": "3"}), CPU]),
        ("coreml", [NAMES["coreml"], CPU]),
        ("qnn", [NAMES["qnn"], CPU]),
    ],
)
def test_order(name, expected):
    """The CPU comes last, for operators that the provider lacks, and threads are limited where there is a limit."""
    assert expected == execution_providers(name, threads=3)


def test_active():
    """A provider is active when onnxruntime says so."""
    assert is_active("cuda", [CUDA, CPU])
    assert not is_active("cuda", [CPU])
    assert not is_active("tensorrt", [CUDA, CPU])
