"""Multiply-accumulates by our own table."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.swin_transformer import ShiftedWindowAttention
from torchvision.ops import deform_conv2d

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


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_an_unknown_layer_is_reported_and_not_guessed() -> None:
    """TorchScript that refuses to be run for its count is named in `uncounted`, and an operation once."""

    class Particular(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(12, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if bool(x.abs().max() == 0):
                raise ValueError
            return self.inner(x)

    class Unknown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.compiled, self.weight = torch.jit.script(Particular()), nn.Parameter(torch.randn(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.compiled(x.flatten(1))
            return torch.tensordot(torch.tensordot(x, self.weight, dims=1), self.weight, dims=1)

    record = ModelGraph(Unknown().eval(), (3, 2, 2)).record()

    assert ("compiled (recursivescriptmodule)", "tensordot × 2") == record.uncounted


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_torchscript_inside_a_model_is_counted_and_cut_off() -> None:
    """What it multiplies is found by running it, so that the cut before it has a share of the whole."""
    compiled = torch.jit.script(nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)))
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), compiled)

    record = ModelGraph(model.eval(), (3, 2, 2)).record()

    assert () == record.uncounted
    assert 4 * 3 * 4 + 4 * 4 * 6 + 24 * 5 == record.macs
    assert ["1"] == [cut.name for cut in record.cuts]


@pytest.mark.parametrize(
    ("expected", "module"),
    [
        (4 * 4 * 2 + 4 * 2, lambda: nn.Bilinear(4, 4, 2)),
        (3 * 4 * 4 + 3 * 4 * 4, lambda: nn.GRUCell(4, 4)),
    ],
    ids=["bilinear", "recurrent cell"],
)
def test_modules_of_two_inputs(expected, module) -> None:
    """Multiplications of modules that take the features of a linear layer twice."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front, self.last = nn.Linear(12, 4), module()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.front(x.flatten(1))
            return self.last(x, x)

    record = ModelGraph(Twice().eval(), (3, 2, 2)).record()

    assert () == record.uncounted
    assert 12 * 4 + expected == record.macs


def test_distances_between_vectors() -> None:
    """Four positions of three channels against five entries of a codebook."""
    record = ModelGraph(Function(lambda x, book: torch.cdist(x.flatten(2).mT, book), (5, 3)).eval(), (3, 2, 2)).record()

    assert () == record.uncounted
    assert 4 * 5 * 3 == record.macs


class Function(nn.Module):
    """One function of an image batch N×3×2×2, whose own MACs are those of the whole, and its mean over positions."""

    def __init__(self, function, *weights: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(torch.randn(shape) for shape in weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *self.weights).flatten(1)


@pytest.mark.parametrize(
    ("expected", "function", "weights"),
    [
        # 12 numbers times a vector of 12
        (12, lambda x, weight: functional.linear(x.flatten(1), weight).unsqueeze(1), [(12,)]),
        (12 * 5, lambda x, weight: functional.linear(x.flatten(1), weight), [(5, 12)]),
        # every letter once: 3 * 2 * 2 * 1, the one output channel included
        (12, lambda x, weight: torch.einsum("nchw,cd->ndhw", x, weight), [(3, 1)]),
        (12 * 4, lambda x, weight: torch.ops.aten.einsum("nchw,cd->ndhw", [x, weight]), [(3, 4)]),
        # two gates' rows are three times two: 12 numbers and 2 of the state times 6 rows
        (
            12 * 6 + 2 * 6,
            lambda x, *weights: torch.gru_cell(x.flatten(1), x[:, 0, 0], *weights),
            [(6, 12), (6, 2), (6,), (6,)],
        ),
        # a kernel of one position at an offset: 4 positions, 5 channels of 3
        (4 * 5 * 3, lambda x, weight: deform_conv2d(x, x[:, :2], weight), [(5, 3, 1, 1)]),
    ],
    ids=["vector", "matrix", "one channel", "operands in a list", "recurrent cell", "deformable"],
)
def test_functions_of_odd_forms(expected, function, weights) -> None:
    """Weights that are vectors, an einsum over a dimension of one, operands in a list, and weights further behind."""
    record = ModelGraph(Function(function, *weights).eval(), (3, 2, 2)).record()

    assert () == record.uncounted
    assert expected == record.macs


def test_windows_are_padded_and_counted_whole() -> None:
    """Shifted windows of 2×4 on a map of 3×5: padded to 4×8, with projections and products of each window inside."""

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = ShiftedWindowAttention(dim=6, window_size=[2, 4], shift_size=[0, 0], num_heads=2)
            self.last = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.attention(x.permute(0, 2, 3, 1)).mean((1, 2)))

    record = ModelGraph(Windows().eval(), (6, 3, 5)).record()
    tokens, width, window = 4 * 8, 6, 2 * 4

    assert () == record.uncounted
    assert tokens * (3 * width * width + 2 * window * width + width * width) + 6 * 2 == record.macs
