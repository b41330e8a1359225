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
