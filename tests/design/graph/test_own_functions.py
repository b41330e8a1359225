"""A model's own autograd functions keep their own gradient, whichever way the model is captured."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from isplit.design.graph import ModelGraph, split
from isplit.design.graph.own_functions import intercepted

SLOPE = 3.0


class Step(torch.autograd.Function):
    """A step times a factor, whose gradient is `SLOPE` instead of zero."""

    @staticmethod
    def forward(ctx, x, factor):
        return (x > 0).to(x.dtype) * factor

    @staticmethod
    def backward(ctx, gradient):
        return gradient * SLOPE, None


class Halves(torch.autograd.Function):
    """The two halves of the channels; the gradient of the second is dropped."""

    @staticmethod
    def forward(ctx, x):
        first, second = x.chunk(2, 1)
        return first.clone(), second.clone()

    @staticmethod
    def backward(ctx, first, second):
        return torch.cat([first, torch.zeros_like(second)], 1)


class Net(nn.Module):
    def __init__(self, function, *, sizes_in_python):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
        self.function = function
        self.sizes_in_python = sizes_in_python

    def forward(self, x):
        features = self.conv(x)
        if self.sizes_in_python:  # torch.fx cannot follow `range` over a size
            features = features * sum(1 for _ in range(features.shape[2])) / features.shape[2]
        return self.last(self.function(features).mean((2, 3)))


def step(x):
    return Step.apply(x, 2.0)


def halves(x):
    first, second = Halves.apply(x)
    return torch.cat([second, first], 1)


@pytest.mark.parametrize(("sizes_in_python", "captured_by"), [(False, "torch.fx"), (True, "torch.export")])
@pytest.mark.parametrize("function", [step, halves])
def test_the_gradient_is_the_functions_own(function, sizes_in_python, captured_by):
    """In a tail that begins before the function, as in the model itself."""
    model = Net(function, sizes_in_python=sizes_in_python).eval()
    graph = ModelGraph(model, (3, 8, 8))
    cut = next(cut.name for cut in graph.record(all_cuts=True).cuts if cut.name.startswith("conv"))
    images = torch.randn(5, 3, 8, 8)
    sides = split(graph, cut)

    features = sides.head(images).detach().requires_grad_()
    sides.tail(features)[:, 0].sum().backward()
    own_features = model.conv(images).detach().requires_grad_()
    model.last(function(own_features).mean((2, 3)))[:, 0].sum().backward()

    assert captured_by == graph.record().captured_by
    assert torch.equal(model(images), sides(images))
    assert float(own_features.grad.abs().sum()) > 0
    torch.testing.assert_close(features.grad, own_features.grad)


def test_sizes_among_the_arguments_follow_the_batch():
    """A size that an exported function is given is that of the batch at hand."""

    class TimesBatch(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, count):
            return x * count

        @staticmethod
        def backward(ctx, gradient):
            return gradient, None

    def per_image(x):
        return TimesBatch.apply(x, x.shape[0]) / x.shape[0]

    model = Net(per_image, sizes_in_python=True).eval()
    images = torch.randn(5, 3, 8, 8)

    torch.testing.assert_close(ModelGraph(model, (3, 8, 8)).module(images), model(images))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpoints_are_opened(reentrant):
    """A checkpoint saves memory in training and computes nothing itself: there are cuts inside."""

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)

        def block(self, x):
            return torch.relu(self.second(torch.relu(self.first(x))))

        def forward(self, x):
            return self.last(checkpoint(self.block, x, use_reentrant=reentrant).mean((2, 3)))

    model = Checkpointed().eval()
    graph = ModelGraph(model, (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)

    assert len(graph.record().cuts) >= 3
    assert torch.equal(model(images), graph.module(images))


def test_nothing_is_left_behind():
    """Also after a failure, calls go their usual way again."""
    before = vars(torch.autograd.Function).get("apply")

    with pytest.raises(ZeroDivisionError), intercepted(lambda *_: 1 / 0):
        Step.apply(torch.ones(1), 2.0)

    assert [2.0] == Step.apply(torch.ones(1), 2.0).tolist()
    assert before is vars(torch.autograd.Function).get("apply")
