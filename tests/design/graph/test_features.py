"""One pass that shows what crosses every cut, and leaves no trace."""

import copy

import pytest
import torch
from torch import nn

from isplit.design.demo import compact_resnet
from isplit.design.graph import ModelGraph, split
from isplit.design.graph.features import FeaturePass
from isplit.records import Cut
from tests.design.graph.nets import both_layouts


@pytest.fixture
def model() -> nn.Module:
    """The demo's network, with statistics that are not those of a new BatchNorm, and modes and gradients mixed."""
    model = compact_resnet().train()
    with torch.no_grad():
        model(torch.randn(8, 1, 32, 32))
    model.stage2.eval()
    model.stem.requires_grad_(False)
    return model


def state(model: nn.Module) -> list[object]:
    modes = [(module.training, len(module._forward_hooks), len(module._backward_hooks)) for module in model.modules()]
    return [modes, [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()]]


def test_every_cut_is_shown_as_its_head_computes_it(model: nn.Module) -> None:
    """Bit for bit, in the order of computation, in-place activations included; the logits are the model's."""
    graph = ModelGraph(copy.deepcopy(model).eval(), (1, 32, 32))
    cuts = [cut for cut in graph.record(pre_activation=True, all_cuts=True).cuts if len(cut.crossing) == 1]
    images = torch.randn(3, 1, 32, 32)
    shown: dict[str, torch.Tensor] = {}

    def visit(cut: Cut, tensor: torch.Tensor) -> None:
        assert cut.name not in shown
        shown[cut.name] = tensor.clone()

    logits = FeaturePass(graph, cuts)(images, visit)

    with torch.no_grad():
        assert torch.equal(graph.module(images), logits)
        for cut in cuts:
            assert torch.equal(split(graph, cut.name).head(images), shown[cut.name]), cut.name
    assert [cut.name for cut in cuts] == list(shown)


def test_nothing_behind_the_last_cut_is_computed(model: nn.Module) -> None:
    """A pass that only shows features shows the same ones, and does not run the modules behind the last cut."""
    graph = ModelGraph(copy.deepcopy(model).eval(), (1, 32, 32))
    cuts = graph.record().cuts
    images = torch.randn(3, 1, 32, 32)
    shown: dict[str, torch.Tensor] = {}
    classified: list[nn.Module] = []
    last = [module for module in graph.module.modules() if isinstance(module, nn.Linear)][-1]
    last.register_forward_hook(lambda module, inputs, output: classified.append(module))

    FeaturePass(graph, cuts[1:3]).show(images, lambda cut, tensor: shown.update({cut.name: tensor.clone()}))

    assert [cut.name for cut in cuts[1:3]] == list(shown)
    with torch.no_grad():
        for cut in cuts[1:3]:
            assert torch.equal(split(graph, cut.name).head(images), shown[cut.name]), cut.name
    assert not classified
    FeaturePass(graph, cuts[1:3])(images, lambda cut, tensor: None)
    assert [last] == classified


@pytest.mark.parametrize("fails", [False, True])
def test_no_trace(model: nn.Module, fails: bool) -> None:
    """Modes, requires_grad, gradients, hooks and BatchNorm's statistics are as before, also when the visitor fails."""
    graph = ModelGraph(model, (1, 32, 32))
    before, statistics = state(graph.module), copy.deepcopy(graph.module.state_dict())
    seen: list[torch.Tensor] = []

    def visit(cut: Cut, tensor: torch.Tensor) -> None:
        seen.append(tensor)
        if fails:
            msg = "stop"
            raise RuntimeError(msg)

    run = FeaturePass(graph, graph.record().cuts)
    if fails:
        with pytest.raises(RuntimeError, match="stop"):
            run(torch.randn(2, 1, 32, 32), visit)
    else:
        run(torch.randn(2, 1, 32, 32), visit)

    assert before == state(graph.module)
    assert all(torch.equal(statistics[name], value) for name, value in graph.module.state_dict().items())
    assert seen
    assert not any(tensor.requires_grad for tensor in seen)


def test_a_batch_that_is_the_second_dimension_is_shown_as_the_first() -> None:
    """A network that computes with the batch as second dimension shows the same tensors as with the batch first."""
    images, seen = torch.randn(3, 3, 16, 16), []
    for network in both_layouts():
        graph = ModelGraph(network, (3, 16, 16))
        tensors: dict[str, torch.Tensor] = {}
        FeaturePass(graph, graph.record().cuts)(
            images, lambda cut, tensor, kept=tensors: kept.update({cut.name: tensor})
        )
        seen.append(tensors)

    assert len(seen[0]) > 4
    assert seen[0].keys() == seen[1].keys()
    for name, tensor in seen[0].items():
        torch.testing.assert_close(seen[1][name], tensor)
