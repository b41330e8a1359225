"""Multiply-accumulates by our own table."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from isplit.design.graph import ModelGraph
from tests.design.graph.nets import Tokens, TwoLayers


def test_attention_by_hand() -> None:
    """Projections of queries, keys, values and result, scores and their sum: FlopCounterMode misses these on a CPU."""
    record = ModelGraph(Tokens(), (3, 8, 8)).record()
    tokens, width = 5, 8
    attention = 4 * tokens * width * width + 2 * tokens * tokens * width

    assert 4 * 8 * 48 + attention + 8 * 3 == record.macs


def test_functions_count_as_modules_do() -> None:
    """matmul, einsum, linear, addmm, scaled dot products and convolutions, against hand-computed values."""

    class Functions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 3, 1, 1))
            self.matrix = nn.Parameter(torch.randn(6, 6))
            self.bias = nn.Parameter(torch.randn(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = functional.conv2d(x, self.weight).flatten(2).transpose(1, 2)
            x = functional.scaled_dot_product_attention(x, x, x)
            x = torch.einsum("ntc,cd->ntd", x, self.matrix)
            x = (x @ self.matrix).mean(1)
            return torch.addmm(self.bias, x, self.matrix)

    record = ModelGraph(Functions(), (3, 2, 2)).record()

    assert 4 * 6 * 3 + 2 * (4 * 4 * 6) + 4 * 6 * 6 + 4 * 6 * 6 + 6 * 6 == record.macs


@pytest.mark.parametrize(
    "model",
    [
        TwoLayers(),
        nn.Sequential(
            nn.Conv2d(3, 8, 3, groups=1, stride=2), nn.Conv2d(8, 8, 3, groups=4), nn.Flatten(), nn.Linear(8, 3)
        ),
        nn.Sequential(
            nn.ConvTranspose2d(3, 6, 2, stride=2, groups=3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
        ),
    ],
    ids=["two layers", "groups and strides", "transposed"],
)
def test_macs_agree_with_torch_s_counter(model: nn.Module) -> None:
    """Where torch's FlopCounterMode counts right, half its FLOP are our MACs."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.randn(1, 3, 8, 8))

    assert counter.get_total_flops() // 2 == ModelGraph(model, (3, 8, 8)).record().macs


def test_an_unknown_layer_is_reported_and_not_guessed() -> None:
    """A module that multiplies in a way that the table does not know is named in `uncounted`."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Bilinear(4, 4, 2))

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front, self.bilinear = model[:3], model[3]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.front(x)
            return self.bilinear(x, x)

    assert ("bilinear (bilinear)",) == ModelGraph(Twice(), (3, 2, 2)).record().uncounted
