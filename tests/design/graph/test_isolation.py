"""What surrounds the runs of a model: its state comes back, and it computes as its graph will."""

import logging
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from isplit.design.graph import ModelGraph, split
from isplit.design.graph import capture as capture_module
from isplit.design.graph.isolation import plain_execution, preserved, quiet, without_hooks


class Counting(nn.Module):
    """Notes in every way that a module can what it has seen."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.shapes, self.names, self.kinds = [], {}, set()
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, x):
        self.calls += 1
        self.last = x
        self.shapes.append(x.shape)
        self.names["x"] = x
        self.kinds.add(x.dtype)
        self.seen += 1
        return x


@pytest.mark.parametrize("fails", [False, True])
def test_state_comes_back(fails):
    """Attributes, containers and buffers, also after a failure."""
    model = Counting()
    shapes, seen = model.shapes, model.seen

    def run():
        with preserved(model):
            model(torch.ones(1))
            if fails:
                raise KeyError

    if fails:
        with pytest.raises(KeyError):
            run()
    else:
        run()

    assert (0, [], {}, set()) == (model.calls, model.shapes, model.names, model.kinds)
    assert not hasattr(model, "last")
    assert shapes is model.shapes
    assert seen is model.seen
    assert [0.0, 0.0] == model.seen.tolist()


class Cast(nn.Module):
    """Two convolutions with a norm under autocast, and a linear layer outside."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)
        self.last = nn.Linear(8, 5)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = torch.relu(self.b(torch.relu(self.norm(self.a(x)))))
        return self.last(x.float().mean((2, 3)))


def test_autocast_is_noted_and_can_be_left_out():
    """Its dtype is reported; without it the model computes in the precision of its parameters."""
    model = Cast().eval()
    images = torch.randn(2, 3, 8, 8)
    features = []
    model.b.register_forward_hook(lambda module, inputs, output: features.append(output.dtype))

    with plain_execution() as dtypes:
        model(images)
    with plain_execution(with_autocast=False) as dtypes_left_out:
        model(images)
    model(images)

    assert (["bfloat16"], ["bfloat16"]) == (dtypes, dtypes_left_out)
    assert [torch.bfloat16, torch.float32, torch.bfloat16] == features


def test_autocast_is_captured():
    """The graph computes what the model does, bit for bit, and names what crosses in bfloat16."""
    torch.manual_seed(0)
    model = Cast().eval()
    graph = ModelGraph(model, (3, 8, 8))
    record = graph.record()
    images = torch.randn(5, 3, 8, 8)

    assert () == record.notices
    assert ["bfloat16", "bfloat16", "float32"] == [cut.crossing[0].dtype for cut in record.cuts]
    assert 36 * 8 * 27 + 16 * 8 * 72 + 8 * 5 == record.macs
    with torch.no_grad():
        for cut in record.cuts:
            assert torch.equal(model(images), split(graph, cut.name)(images)), cut.name
            decoded = split(graph, cut.name).head(images).float()
            assert torch.equal(model(images), split(graph, cut.name).tail(decoded)), cut.name


def test_autocast_that_no_graph_can_hold_is_left_out_and_said(monkeypatch):
    """Then what is analysed is the model in the precision of its parameters."""

    def fail(*arguments):
        raise RuntimeError

    ways = capture_module.WAYS
    monkeypatch.setattr(capture_module, "WAYS", {**ways, "torch.export, functional": ("torch.export", fail)})
    graph = ModelGraph(Cast().eval(), (3, 8, 8))

    assert ("the model's autocast to bfloat16 is left out",) == graph.record().notices
    assert {"float32"} == {cut.crossing[0].dtype for cut in graph.record().cuts}


def test_quiet_is_over_after_the_block():
    """Neither logs nor warnings pass inside, and both pass after it."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet():
            warnings.warn("unseen", stacklevel=1)
            assert not logging.getLogger("torch").isEnabledFor(logging.ERROR)
        warnings.warn("seen", stacklevel=1)

    assert ["seen"] == [str(warning.message) for warning in caught]
    assert disabled == logging.root.manager.disable


def test_buffers_with_a_history_come_back():
    """A buffer that a hook updated with gradients on cannot be resized, and is restored all the same."""
    model = nn.Linear(2, 2)
    model.register_buffer("seen", torch.zeros(2))
    model.register_forward_hook(lambda module, inputs, output: module.seen.add_(output.mean(0)))
    model(torch.ones(1, 2))
    expected = model.seen.detach().clone()
    with preserved(model), torch.no_grad():
        model(torch.ones(1, 2))
        assert not torch.equal(expected, model.seen)
    torch.testing.assert_close(model.seen.detach(), expected, rtol=0, atol=0)


def test_hooks_are_off_but_for_those_of_torch():
    """Hooks of users are off in the block only, also where it fails; pruning goes on to compute its weight."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    prune.random_unstructured(model[0], "weight", amount=1)
    calls = []
    model[1].register_forward_hook(lambda module, inputs, output: calls.append("hook"))
    model[1].register_forward_pre_hook(lambda module, inputs: calls.append("pre-hook"))

    def run():
        with without_hooks(model) as number:
            assert 2 == number
            assert 1 == len(model[0]._forward_pre_hooks)
            model(torch.ones(1, 2))
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert [] == calls
    model(torch.ones(1, 2))
    assert ["pre-hook", "hook"] == calls
