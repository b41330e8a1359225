"""What a model computes in bfloat16 or float16 gives the same in onnxruntime, in a single file and in a bundle."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from isplit.design.export import export
from isplit.design.fit import fit
from isplit.design.onnx.compare import load_pixels
from isplit.design.onnx.files import to_onnx
from isplit.design.onnx.reduced_precision import compute_in_float32
from isplit.design.settings import FitSettings
from isplit.runtime.bundle import Bundle
from tests.design.exporting import BUDGET, make_study

NET = """
import torch
from torch import nn


class Middle(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)).to(dtype)
        self.third = nn.Conv2d(8, 8, 3, padding=1).to(dtype)
        self.linear = nn.Linear(8, 3)
        self.dtype = dtype

    def forward(self, x):
        x = self.second(self.first(x).relu().to(self.dtype)).relu()
        return self.linear(self.third(x).relu().to(torch.float32).mean((2, 3)))


def build():
    net = Middle(torch.DTYPE)
    net.preprocessing = {"image_size": 32}
    return net
"""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_file_rounds_as_torch(dtype, run_onnx, tmp_path):
    """Convolution, norm, GELU, sum, matrix product and softmax: most values are equal, the others almost."""
    torch.manual_seed(0)

    class Reduced(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.GELU()).to(dtype)
            self.linear = nn.Linear(6, 4).to(dtype)

        def forward(self, x):
            y = self.conv(x.to(dtype))
            y = self.linear((y + 0.5 * y).flatten(2).transpose(1, 2)).softmax(2)
            return y.to(torch.float32)

    model, images = Reduced().eval(), torch.randn(4, 3, 12, 12)
    onnx.save(to_onnx(model, images, source="image", target="answer"), tmp_path / "model.onnx")

    answers, expected = run_onnx(tmp_path / "model.onnx", images.numpy()), model(images).detach().numpy()

    np.testing.assert_allclose(answers, expected, rtol=2**-6 if dtype == torch.bfloat16 else 2**-9)
    assert 0.8 < (answers == expected).mean()


def test_a_model_in_float32_is_left_alone():
    """Nothing is changed where nothing is reduced."""
    model = to_onnx(nn.Linear(3, 2).eval(), torch.zeros(2, 3), source="image", target="answer")
    before = model.SerializeToString()
    assert not compute_in_float32(model)
    assert before == model.SerializeToString()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_cut_inside_the_reduced_part(tiny_data, tmp_path, run_onnx, dtype):
    """Such a cut is predicted, trained and exported; the tensor crosses in its own dtype, the bundle agrees."""
    (tmp_path / "net.py").write_text(NET.replace("DTYPE", dtype))
    study = make_study(f"{tmp_path / 'net.py'}:build", tiny_data, tmp_path / "study", cuts=[":relu_2"])
    (crossing,) = next(cut for cut in study.graph.record(all_cuts=True).cuts if cut.name == ":relu_2").crossing
    assert dtype == crossing.dtype

    trained = fit(study, ":relu_2", BUDGET, settings=FitSettings(epochs=1, batch_size=8))
    assert trained.training is not None
    record = export(study, [":relu_2"], tmp_path / "bundle")

    bundle, pixels = Bundle.open(tmp_path / "bundle"), load_pixels(study.view(), "fit", limit=6)
    codec = bundle.codec(":relu_2")
    latents = run_onnx(bundle.head_path(":relu_2"), pixels)
    arrived = np.stack([codec.decode_symbols(codec.encode_symbols(latent)) for latent in latents])
    answers = run_onnx(bundle.tail_path(":relu_2"), arrived)
    assert (6, 3) == answers.shape
    assert np.isfinite(answers).all()
    assert 0 == record.cut(":relu_2").check.top1_changed
