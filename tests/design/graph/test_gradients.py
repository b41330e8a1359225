"""One forward and one backward pass for all cuts: numbers by hand, nothing left behind."""

import gc
import weakref

import pytest
import torch
from torch import nn

from isplit.design.graph import ModelGraph
from isplit.design.graph.gradients import GradientPass
from isplit.design.importance.methods import METHODS
from isplit.errors import ModelError
from isplit.records import Cut
from tests.design.graph.nets import both_layouts


class Chain(nn.Module):
    """Three convolutions with in-place activations, BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Conv2d(6, 4, 1),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.layers(x).mean((2, 3)))


def first_logits(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, 0].sum()


def test_activations_and_gradients_are_those_of_a_plain_backward() -> None:
    """At every cut, compared with autograd on the module's own forward, also before in-place activations."""
    torch.manual_seed(0)
    model = Chain().eval()
    images = torch.randn(2, 3, 6, 6)
    graph = ModelGraph(model, (3, 6, 6))
    cuts = [cut for cut in graph.record(pre_activation=True).cuts if cut.has_positions]
    assert ["layers.0", "layers.1", "layers.3", "layers.4", "layers.6", "layers.7"] == [cut.name for cut in cuts]

    logits, seen = GradientPass(graph, cuts)(images, first_logits, lambda a, g, cut: torch.stack([a, g]))

    for cut, (activation, gradient) in zip(cuts, seen, strict=True):
        position = int(cut.name.split(".")[1]) + 1
        with torch.no_grad():
            middle = model.layers[:position](images).clone()
        middle.requires_grad_()
        rest = model.classifier(model.layers[position:](middle.clone()).mean((2, 3)))
        (expected,) = torch.autograd.grad(first_logits(rest), middle)
        torch.testing.assert_close(activation, middle.detach())
        torch.testing.assert_close(gradient, expected)
        torch.testing.assert_close(logits, rest.detach())


def test_a_value_by_hand() -> None:
    """Y = 2·ReLU(x) + 3 on one pixel: the gradient is 2, so CUI is 2·ReLU(x)."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        for layer, weight, bias in ((model[0], 1.0, 0.0), (model[3], 2.0, 3.0)):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    graph = ModelGraph(model.eval(), (1, 2, 2))
    images = torch.tensor([[[[1.0, -5.0], [3.0, 0.0]]]])

    logits, (scores,) = GradientPass(graph, graph.record().cuts)(images, first_logits, METHODS["cui"].reduce)

    assert [[2 * (1 + 3) + 3] * 2] == logits.tolist()
    assert [2 * (1 + 3) / 4] == scores.tolist()


@pytest.mark.parametrize("failure", ["none", "objective", "reduce", "shape"])
def test_nothing_survives_success_or_failure(failure: str) -> None:
    """No hook, no gradient, no changed mode and no changed requires_grad."""
    model = Chain().train()
    model.layers[3].eval()
    model.classifier.bias.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    learns = [parameter.requires_grad for parameter in model.parameters()]
    statistics = model.layers[3].running_mean.clone()
    graph = ModelGraph(model, (3, 6, 6))
    cuts = [cut for cut in graph.record().cuts if cut.has_positions]

    def objective(logits: torch.Tensor) -> torch.Tensor:
        return first_logits(logits) if failure != "objective" else logits[:, 7].sum()

    def reduce(activation: torch.Tensor, gradient: torch.Tensor, cut: Cut) -> torch.Tensor:
        if failure == "reduce":
            raise ZeroDivisionError
        return gradient.mean((1, 2, 3))

    images = torch.randn(2, 3 if failure != "shape" else 5, 6, 6)
    if failure == "none":
        GradientPass(graph, cuts)(images, objective, reduce)
    else:
        with pytest.raises((IndexError, ZeroDivisionError, ModelError)):
            GradientPass(graph, cuts)(images, objective, reduce)

    assert modes == [module.training for module in model.modules()]
    assert learns == [parameter.requires_grad for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(statistics, model.layers[3].running_mean)
    for module in [*model.modules(), *graph.module.modules()]:
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks


def test_a_cut_without_gradient_is_named() -> None:
    """A decision that does not depend on a cut gives an error, not a zero."""
    model = Chain().eval()
    graph = ModelGraph(model, (3, 6, 6))
    cuts = [cut for cut in graph.record().cuts if cut.has_positions]

    with pytest.raises(ModelError, match=r"layers\.1"):
        GradientPass(graph, cuts)(
            torch.randn(1, 3, 6, 6),
            lambda logits: (logits.detach().sum() * torch.ones(1, requires_grad=True)).sum(),
            METHODS["cui"].reduce,
        )


class Named(nn.Module):
    """An in-place activation that takes its input by name or by position."""

    def __init__(self, *, by_name: bool) -> None:
        super().__init__()
        self.convolution, self.activation, self.classifier = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Linear(4, 3)
        self.by_name = by_name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(self.convolution(x))
        z = self.activation(input=y) if self.by_name else self.activation(y)
        return self.classifier(z.mean((2, 3)))


def test_an_operation_in_place_may_take_its_input_by_name() -> None:
    """What it overwrites is copied first, as where it stands by position."""
    seen = []
    for by_name in (True, False):
        torch.manual_seed(0)
        graph = ModelGraph(Named(by_name=by_name).eval(), (3, 6, 6))
        cuts = [cut for cut in graph.record(pre_activation=True).cuts if cut.has_positions]
        assert 2 == len(cuts)
        seen.append(GradientPass(graph, cuts)(torch.ones(2, 3, 6, 6), first_logits, lambda a, g, cut: a * g)[1])

    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))


def test_a_pass_keeps_nothing_of_a_batch() -> None:
    """Neither what reduces nor what it gave is held when the batch is done."""

    class Mean:
        def __call__(self, activation: torch.Tensor, gradient: torch.Tensor, cut: Cut) -> torch.Tensor:
            return gradient.mean((1, 2, 3))

    graph = ModelGraph(Chain().eval(), (3, 6, 6))
    run, reduce = GradientPass(graph, [cut for cut in graph.record().cuts if cut.has_positions]), Mean()
    run(torch.ones(2, 3, 6, 6), first_logits, reduce)
    held = weakref.ref(reduce)
    del reduce
    gc.collect()

    assert held() is None


def test_bf16_is_close_to_fp32() -> None:
    """Autocast rounds; it does not change the picture."""
    torch.manual_seed(0)
    graph = ModelGraph(Chain().eval(), (3, 16, 16))
    cuts = [cut for cut in graph.record().cuts if cut.has_positions]
    images = torch.randn(8, 3, 16, 16)
    run = GradientPass(graph, cuts)

    _, exact = run(images, first_logits, METHODS["cui"].reduce)
    _, rounded = run(images, first_logits, METHODS["cui"].reduce, precision="bf16")

    for score, close in zip(exact, rounded, strict=True):
        assert torch.float32 == close.dtype
        torch.testing.assert_close(close.mean(), score.mean(), rtol=0.05, atol=1e-5)


def test_activations_are_let_go_as_the_gradient_passes() -> None:
    """When a cut is reduced, what was kept for the cuts behind it is gone: memory is that of a plain backward."""
    graph = ModelGraph(Chain().eval(), (3, 6, 6))
    cuts = [cut for cut in graph.record().cuts if cut.has_positions]
    kept: list[weakref.ref[torch.Tensor]] = []

    def reduce(activation: torch.Tensor, gradient: torch.Tensor, cut: Cut) -> torch.Tensor:
        assert all(reference() is None for reference in kept)
        kept.append(weakref.ref(activation))
        return gradient.mean((1, 2, 3))

    GradientPass(graph, cuts)(torch.randn(2, 3, 6, 6), first_logits, reduce)

    assert len(cuts) == len(kept)


def test_a_batch_that_is_the_second_dimension_comes_first_in_activations_and_gradients() -> None:
    """A network that computes with the batch as second dimension gives the same as with the batch first."""
    images, reduced = torch.randn(3, 3, 16, 16), []
    for network in both_layouts():
        graph = ModelGraph(network, (3, 16, 16))
        run = GradientPass(graph, graph.record().cuts)
        reduced.append(run(images, first_logits, lambda a, g, cut: torch.stack([a, g]))[1])

    assert len(reduced[0]) > 4
    for expected, result in zip(*reduced, strict=True):
        torch.testing.assert_close(result, expected)


def test_an_answer_without_gradient_is_refused() -> None:
    """A chosen class as one-hot vector has no gradient to give, which is said."""

    class Chosen(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.one_hot(super().forward(x).argmax(1), 3).float()

    graph = ModelGraph(Chosen().eval(), (3, 6, 6))

    with pytest.raises(ModelError, match="no gradient reaches the model's answer"):
        GradientPass(graph, graph.record().cuts)(torch.randn(2, 3, 6, 6), first_logits, lambda a, g, cut: a)
