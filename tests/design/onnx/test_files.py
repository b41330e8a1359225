"""Modules as ONNX files: what cannot be exported is named."""

import pytest
import torch
from torch import nn

from isplit.design.onnx.files import to_onnx
from isplit.errors import ModelError


def test_a_refusal_names_the_operation():
    """The message is that of the error at the root, without the exporter's summary and its terminal codes."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.AdaptiveMaxPool2d(3))

    with pytest.raises(ModelError) as refusal:
        to_onnx(model, torch.randn(2, 1, 8, 8), source="image", target="logits")

    assert "aten.adaptive_max_pool2d" in str(refusal.value)
    assert "\x1b" not in str(refusal.value)


def test_the_table_of_operations_is_made_once(monkeypatch):
    """A second export makes no table of its own and gives the same model; torch's own exports are left as they were."""
    registration = pytest.importorskip("torch.onnx._internal.exporter._registration")
    torchs_own = vars(registration.ONNXRegistry)["from_torchlib"]
    module, example = nn.Conv2d(1, 2, 3), torch.zeros(2, 1, 5, 5)
    first = to_onnx(module, example, source="image", target="maps")

    def refuse():
        msg = "made again"
        raise AssertionError(msg)

    monkeypatch.setattr(registration.onnxscript_apis, "get_torchlib_ops", refuse)
    second = to_onnx(module, example, source="image", target="maps")

    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    assert torchs_own is vars(registration.ONNXRegistry)["from_torchlib"]
