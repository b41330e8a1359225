"""Cutting small networks whose every figure can be worked out by hand."""

import operator

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from isplit.design.graph import ModelGraph, split
from isplit.design.graph import capture as capture_module
from isplit.design.graph.capture import capture
from isplit.errors import ModelError


class TwoLayers(nn.Module):
    """3×8×8 -> conv 4 -> ReLU -> pool -> linear 5."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.linear = nn.Linear(4 * 4 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.flatten(self.pool(self.relu(self.conv(x))), 1))


def test_figures_by_hand() -> None:
    """Shapes, bytes, MACs, parameters and peak memory of two layers."""
    record = ModelGraph(TwoLayers(), (3, 8, 8)).record()
    relu, pool = record.cuts

    assert ("relu", "pool") == (relu.name, pool.name)
    assert (4, 8, 8) == relu.shape
    assert (4 * 64 * 4, 4 * 16 * 4) == (relu.bytes, pool.bytes)
    conv_macs, linear_macs = 4 * 64 * 27, 64 * 5
    assert conv_macs + linear_macs == record.macs
    assert (conv_macs, linear_macs) == (relu.head_macs, relu.tail_macs)
    assert (4 * 28, 65 * 5) == (relu.head_parameters, relu.tail_parameters)
    # The image and the convolution's result; the ReLU works in place.
    assert 3 * 64 * 4 + 4 * 64 * 4 == relu.head_peak_bytes
    # The map and its pooled quarter.
    assert 4 * 64 * 4 + 4 * 16 * 4 == relu.tail_peak_bytes
    assert 4 * 16 * 4 + 5 * 4 == pool.tail_peak_bytes
    assert 3 * 64 * 4 == record.input_bytes
    assert (5,) == record.output_shape


def test_pre_activation_adds_the_point_before_the_relu() -> None:
    """It is marked as such, and lies before its default cut."""
    record = ModelGraph(TwoLayers(), (3, 8, 8)).record(pre_activation=True)

    assert [("conv", "pre-activation"), ("relu", "default"), ("pool", "default")] == [
        (cut.name, cut.kind) for cut in record.cuts
    ]


def test_a_cut_before_an_in_place_operation_is_exact() -> None:
    """The tail overwrites what it was given, and nothing else."""
    model = TwoLayers().eval()
    images = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(model(images), split(ModelGraph(model, (3, 8, 8)), "conv")(images))


def test_sides_share_the_model_s_own_parameters_and_train() -> None:
    """BatchNorm and dropout stay modules: a tail in training mode updates the model's own statistics."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2)
    )
    sides = split(ModelGraph(model, (3, 2, 2)), "1")

    tail = sides.tail.train()
    tail(torch.randn(8, 4, 2, 2))

    assert int(model[3].num_batches_tracked) == 1
    assert {id(p) for p in model.parameters()} == {id(p) for s in (sides.head, sides.tail) for p in s.parameters()}


class Residual(nn.Module):
    """Reused modules and operations without a module: names have to be made."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.stem(x))
        x = self.relu(x + self.conv1(x))
        x = functional.relu(operator.iadd(self.conv2(x), x))
        return self.head(x.mean((2, 3)))


def test_names_without_a_module_of_their_own() -> None:
    """`<enclosing module>:<operation>_<count>`; the model itself has the empty name."""
    record = ModelGraph(Residual(), (3, 4, 4)).record()

    assert [":relu_1", ":relu_2", ":relu_3", ":mean_1"] == [cut.name for cut in record.cuts]


def test_several_tensors_cross_inside_a_block() -> None:
    """The shortcut crosses beside the branch, and the head hands out both."""
    model = Residual().eval()
    graph = ModelGraph(model, (3, 4, 4))
    cut = graph.record(all_cuts=True).cut("conv1")
    images = torch.randn(2, 3, 4, 4)

    assert 2 == len(cut.crossing)
    assert sum(tensor.bytes for tensor in cut.crossing) == cut.bytes
    with torch.no_grad():
        assert torch.equal(model(images), split(graph, "conv1")(images))


class Tokens(nn.Module):
    """Integers that follow the batch, parameters that cross no cut, and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.classifier = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, _, h, w = x.shape
        x = self.patch(x).reshape(n, 8, (h // 4) * (w // 4)).transpose(1, 2)
        x = torch.cat([self.token.expand(n, -1, -1), x], dim=1)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.classifier(x[:, 0].reshape(n, 8))


def test_the_tail_takes_the_batch_from_what_crosses() -> None:
    """A tail works for any batch, though the model read the batch from the image."""
    model = Tokens().eval()
    graph = ModelGraph(model, (3, 8, 8))
    for cut in graph.record(all_cuts=True).cuts:
        sides = split(graph, cut.name)
        for batch in (1, 5):
            images = torch.randn(batch, 3, 8, 8)
            with torch.no_grad():
                assert torch.equal(model(images), sides(images)), cut.name


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


def test_of_several_outputs_the_logits_are_kept() -> None:
    """Auxiliary outputs are left out, with what only they needed."""

    class Auxiliary(TwoLayers):
        def __init__(self) -> None:
            super().__init__()
            self.extra = nn.Linear(256, 7)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            features = self.relu(self.conv(x))
            return {"aux": self.extra(features.flatten(1)), "logits": self.linear(self.pool(features).flatten(1))}

    record = ModelGraph(Auxiliary(), (3, 8, 8)).record()

    assert (5,) == record.output_shape
    assert 4 * 28 + 65 * 5 == record.parameters


def test_export_follows_where_fx_cannot() -> None:
    """Control flow on shapes stops torch.fx; names, kinds and exactness are those of the modules all the same."""

    class Shapes(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.shape[-1] > 4 and x.dim() == 4:
                x = self.pool(self.relu(self.conv(x)))
            return self.linear(torch.flatten(x, 1))

    model = Shapes().eval()
    graph = ModelGraph(model, (3, 8, 8))
    record = graph.record(pre_activation=True)
    images = torch.randn(3, 3, 8, 8)

    assert "torch.export" == record.captured_by
    assert (3, 8, 8) == record.input_shape
    assert ["conv", "relu", "pool"] == [cut.name for cut in record.cuts]
    assert 4 * 64 * 27 + 64 * 5 == record.macs
    for cut in record.cuts:
        with torch.no_grad():
            assert torch.equal(model(images), split(graph, cut.name)(images))


def test_fx_and_export_name_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model has the same cuts, by the same names, whichever way it is captured."""
    model = Residual().eval()
    by_fx = ModelGraph(model, (3, 4, 4)).record()

    def refuse(model: nn.Module, example: torch.Tensor, position: int) -> None:
        raise RuntimeError(model)

    refuse.__name__ = "_trace_fx"
    monkeypatch.setattr(capture_module, "_trace_fx", refuse)
    by_export = ModelGraph(model, (3, 4, 4)).record()

    assert ("torch.fx", "torch.export") == (by_fx.captured_by, by_export.captured_by)
    assert [cut.name for cut in by_fx.cuts] == [cut.name for cut in by_export.cuts]
    assert by_fx.macs == by_export.macs


def test_what_cannot_be_traced_says_where() -> None:
    """The message names the file, the line and the operation."""

    class Pixels(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.sum() > 0:
                x = x + 1
            return super().forward(x)

    with pytest.raises(ModelError, match=r"test_graph\.py:\d+: if x\.sum\(\) > 0"):
        ModelGraph(Pixels(), (3, 8, 8))


def test_a_number_from_pixels_stops_the_cuts_it_crosses() -> None:
    """A tail cannot know a number that was read from the image: the cut is listed as unavailable, with the reason."""

    class Scaled(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            finite = (x.abs().max() < torch.inf).item()
            x = self.relu(self.conv(x))
            return self.linear(torch.flatten(self.pool(x * finite), 1))

    record = ModelGraph(Scaled(), (3, 8, 8)).record()

    assert "relu" in {item.name for item in record.unavailable}
    assert "pixel values" in next(item.reason for item in record.unavailable if item.name == "relu")
    assert ["pool"] == [cut.name for cut in record.cuts]


def test_unknown_cut_lists_the_cuts() -> None:
    """The message gives the names to choose from."""
    with pytest.raises(ModelError, match=r"no cut 'conv9'; its default cuts are: relu, pool"):
        split(ModelGraph(TwoLayers(), (3, 8, 8)), "conv9")


def test_a_wrong_image_size_names_the_operation() -> None:
    """An image that the model cannot take is an input error."""
    with pytest.raises(ModelError, match="linear"):
        ModelGraph(TwoLayers(), (3, 10, 10))


@pytest.mark.parametrize("fails", [False, True])
def test_capturing_leaves_modes_and_gradients_alone(fails: bool) -> None:
    """Training mode, requires_grad and hooks are as before, also after a failure."""

    class Pixels(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if not fails or x.sum() > 0 else x + 1)

    model = Pixels().train()
    model.pool.eval()
    model.conv.weight.requires_grad_(False)
    try:
        capture(model, (3, 8, 8))
    except ModelError:
        assert fails
    assert [True, True, True, False, True] == [module.training for module in model.modules()]
    assert [False, True, True, True] == [parameter.requires_grad for parameter in model.parameters()]
    assert all(not module._forward_hooks and not module._backward_hooks for module in model.modules())
