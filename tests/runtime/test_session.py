"""A model in onnxruntime: on the provider that was asked for, or on the CPU, which is said."""

import threading
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from isplit.errors import BundleError, EngineError
from isplit.runtime import session as module
from isplit.runtime.providers import ProviderChoice
from isplit.runtime.session import Session

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Onnxruntime:
    """onnxruntime as it would be with CUDA: real on the CPU, and on CUDA as the test says.

    `start` is what happens when a session on CUDA is made, `run` when it runs: an exception is raised, "ignored" gives
    a session on the CPU, as onnxruntime does when a library is missing. `made` lists each session's first provider.
    """

    SessionOptions = onnxruntime.SessionOptions

    def __init__(self, *, start=None, run=None):
        self.start, self.run = start, run
        self.made, self.options, self.preloaded = [], [], 0

    def get_available_providers(self):
        return [CUDA, CPU]

    def preload_dlls(self):
        self.preloaded += 1
        print("a library is missing")  # noqa: T201 - as onnxruntime does

    def InferenceSession(self, path, options, *, providers, enable_fallback):
        assert 0 == enable_fallback
        self.made.append(providers[0])
        self.options.append(options)
        if providers[0] == CUDA and isinstance(self.start, Exception):
            raise self.start
        real = onnxruntime.InferenceSession(path, options, providers=[CPU])
        on_cuda = providers[0] == CUDA and self.start != "ignored"
        return SimpleNamespace(
            get_inputs=real.get_inputs,
            get_outputs=real.get_outputs,
            get_providers=lambda: [CUDA, CPU] if on_cuda else [CPU],
            run=self._fail if on_cuda and self.run else real.run,
        )

    def _fail(self, outputs, feeds):
        raise self.run


@pytest.fixture
def cuda(monkeypatch):
    """`cuda(start=..., run=...)` puts onnxruntime with CUDA in the place of the installed one."""

    def put(**behaviour):
        fake = Onnxruntime(**behaviour)
        monkeypatch.setattr(module, "_ort", fake)
        return fake

    return put


@pytest.fixture
def whole(tiny):
    """The whole model's file."""
    return tiny.bundle.local_path


def available():
    names = {"CPUExecutionProvider": "cpu", "OpenVINOExecutionProvider": "openvino", CUDA: "cuda"}
    return [names[name] for name in onnxruntime.get_available_providers() if name in names]


@pytest.mark.parametrize("provider", available())
def test_what_is_installed_computes_the_same(tiny, whole, provider):
    """Every provider that the installed onnxruntime has gives the model's logits (integers, so that none rounds)."""
    session = Session(whole, provider=provider)
    np.testing.assert_array_equal(tiny.logits, session.run(tiny.images))
    assert ProviderChoice(name=provider) == session.choice


def test_without_the_provider(tiny, whole, monkeypatch):
    """What the installed onnxruntime does not have falls back, with the reason, and computes the same."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    session = Session(whole, provider="coreml")
    assert "coreml: the installed onnxruntime was built without it" == session.choice.fallback
    np.testing.assert_array_equal(tiny.logits, session.run(tiny.images))


@pytest.mark.parametrize("provider", ["auto", "cuda"])
def test_cuda(tiny, whole, cuda, capsys, provider):
    """With CUDA there, it is used, its libraries are looked for first, and nothing is printed among the answers."""
    fake = cuda()
    session = Session(whole, threads=2, provider=provider)
    assert (ProviderChoice(name="cuda"), [CUDA], 1) == (session.choice, fake.made, fake.preloaded)
    np.testing.assert_array_equal(tiny.logits, session.run(tiny.images))
    assert ("", "") == capsys.readouterr()
    options = fake.options[0]
    assert (2, 1, 3) == (options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level)
    assert "0" == options.get_session_config_entry("session.intra_op.allow_spinning")


def test_the_cpu_needs_no_libraries(whole, cuda):
    """Asked for the CPU, it looks for nothing else, and has one thread."""
    fake = cuda()
    assert ProviderChoice(name="cpu") == Session(whole).choice
    assert ([CPU], 0, 1) == (fake.made, fake.preloaded, fake.options[0].intra_op_num_threads)


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (RuntimeError("CUDA failure 100:\nno device"), "cuda: CUDA failure 100: no device"),
        ("ignored", "cuda: onnxruntime has it, but could not start it here"),
    ],
)
def test_cuda_that_does_not_start(tiny, whole, cuda, start, reason):
    """Where CUDA cannot be started, the CPU computes, and the reason is kept."""
    fake = cuda(start=start)
    session = Session(whole, provider="cuda")
    assert (ProviderChoice(name="cpu", fallback=reason), [CUDA, CPU]) == (session.choice, fake.made)
    np.testing.assert_array_equal(tiny.logits, session.run(tiny.images))


def test_cuda_that_fails_later(tiny, whole, cuda):
    """Where CUDA fails while it runs, this image and all others are computed by the CPU, loaded once."""
    fake = cuda(run=RuntimeError("CUDA out of memory"))
    session = Session(whole, provider="cuda")
    assert ProviderChoice(name="cuda") == session.choice
    np.testing.assert_array_equal(tiny.logits, session.run(tiny.images))
    reason = "cuda: it failed while it ran: CUDA out of memory"
    assert ProviderChoice(name="cpu", fallback=reason) == session.choice
    np.testing.assert_array_equal(tiny.logits, session.run(tiny.images))
    assert [CUDA, CPU] == fake.made


def test_threads_that_see_cuda_fail(tiny, whole, cuda):
    """Of several threads that see CUDA fail, one loads the model again, and all have their answers."""
    fake = cuda()
    together = threading.Barrier(4)

    def fail(outputs, feeds):
        together.wait(30)
        raise RuntimeError("lost")

    fake._fail = fail
    fake.run = True
    session = Session(whole, provider="cuda")
    results = [None] * 4

    def work(number):
        results[number] = session.run(tiny.images)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_array_equal(tiny.logits, result)
    assert [CUDA, CPU] == fake.made


def test_an_input_that_no_provider_takes(tiny, whole, cuda):
    """What fails on the CPU too is no fault of the provider's: it stays, and its own error is given."""
    cuda(run=RuntimeError("bad shape,\nsays CUDA"))
    session = Session(whole, provider="cuda")
    with pytest.raises(EngineError, match=r"image of shape \(1, 2\): bad shape, says CUDA"):
        session.run(np.zeros((1, 2), np.uint8))
    assert ProviderChoice(name="cuda") == session.choice


def test_an_input_of_another_shape(whole):
    """On the CPU it is an error of the engine."""
    with pytest.raises(EngineError, match=r"image of shape \(1, 2\)"):
        Session(whole).run(np.zeros((1, 2), np.uint8))


@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_no_model(tmp_path, cuda, provider):
    """A file that is no model is an error of the bundle, whatever it was to run on."""
    cuda()
    path = tmp_path / "model.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"onnxruntime cannot load .*model\.onnx"):
        Session(path, provider=provider)


def test_two_outputs(tmp_path):
    """A model with other than one input and one output is refused."""
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y", "z")]
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"])]
    for inputs, outputs, words in (
        (info[:1], info[1:], "1 inputs and 2 outputs"),
        ([info[0], helper.make_tensor_value_info("w", TensorProto.FLOAT, [1])], info[1:2], "2 inputs and 1 outputs"),
    ):
        graph = helper.make_graph(nodes, "g", inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(BundleError, match=words):
            Session(path)
