"""How a model is captured, and why it is not."""

import pytest
import torch
from torch import nn

from isplit.design.graph import ModelGraph, split
from isplit.design.graph import capture as capture_module
from isplit.design.graph.capture import WAYS, capture
from isplit.errors import ModelError
from tests.design.graph.nets import Residual, Stateful, TwoLayers


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

    monkeypatch.setattr(capture_module, "WAYS", {"torch.export": WAYS["torch.export"]})
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

    with pytest.raises(ModelError, match=r"test_capture\.py:\d+: if x\.sum\(\) > 0"):
        ModelGraph(Pixels(), (3, 8, 8))


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


def test_a_detached_tensor_leaves_no_operation():
    """Gradients are taken through `detach`, which is then no operation of the graph; a notice says so."""

    class Detached(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(torch.flatten(self.pool(self.relu(self.conv(x))).detach(), 1))

    graph = ModelGraph(Detached(), (3, 8, 8))
    assert "detach" not in graph.flow.ops.values()
    assert ["detaches a tensor" in notice for notice in graph.notices] == [True]


def test_regions_without_autocast_are_opened() -> None:
    """Also those that name the kind of device of their input, which torch.fx cannot follow, and nested ones."""

    class Regions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
            self.linear = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x).relu()
            with torch.autocast(x.device.type, enabled=False):
                x = self.second(x.float()).relu()
                with torch.autocast(x.device.type, enabled=False), torch.enable_grad():
                    x = self.third(x).relu()
            return self.linear(x.mean((2, 3)))

    model = Regions().eval()
    graph = ModelGraph(model, (3, 6, 6))
    images = torch.randn(2, 3, 6, 6)

    assert "torch.export" == graph.flow.capture.captured_by
    assert [":relu_1", ":relu_2", ":relu_3", ":mean_1"] == [point.name for point in graph.default_points]
    assert () == graph.record().uncounted
    for point in graph.default_points:
        assert torch.equal(model(images), split(graph, point.name)(images))


def test_submodules_called_like_words_of_python() -> None:
    """The graph's code cannot name them so; its cuts do."""

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("class", nn.Conv2d(3, 4, 3))
            self.add_module("lambda", nn.ModuleDict({"a/b": nn.ReLU(), "in": nn.Conv2d(4, 4, 1)}))
            self.add_module("schöne linie", nn.Linear(4, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first, inner, last = self._modules.values()
            assert isinstance(inner, nn.ModuleDict)
            return last(inner["in"](inner["a/b"](first(x))).mean((2, 3)))

    record = ModelGraph(Words(), (3, 8, 8)).record(pre_activation=True)

    assert ["class", "lambda.a/b", "lambda.in", ":mean_1"] == [cut.name for cut in record.cuts]


def test_answers_that_are_not_numbers() -> None:
    """A model whose answers overflow is captured; where they do is said by the importance."""
    record = ModelGraph(Stateful(lambda model, x: model.answer(x) / 0 * 0), (3, 8, 8)).record()

    assert [":relu_1", ":mean_1"] == [cut.name for cut in record.cuts]
