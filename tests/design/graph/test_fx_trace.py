"""Graphs of torch.fx: modules stay modules, whatever they are called and however the model is called."""

import pytest
import torch
from torch import nn

from isplit.design.graph.fx_trace import trace_with_fx
from isplit.design.graph.outputs import ModelCall


class Net(nn.Module):
    """A convolution and a linear layer, the latter called as an attribute of graph modules is."""

    def __init__(self):
        super().__init__()
        self.conv, self.graph = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x, scale=1.0):
        return [self.graph(torch.relu(self.conv(x)).mean((2, 3))) * scale]


def test_modules_are_shared_and_named():
    """The graph's layers are the model's own, so that they can be trained through it."""
    model = Net().eval()

    module, names = trace_with_fx(model, torch.empty(0), ModelCall(path=(0,)))

    assert module.conv is model.conv
    assert {"conv", "graph"} == set(names.returned_by().values())
    assert {id(parameter) for parameter in model.parameters()} == {id(parameter) for parameter in module.parameters()}


@pytest.mark.parametrize("scale", [2.0, torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0]])])
def test_further_inputs_are_constants(scale):
    """A tensor for one image is repeated for every image of a batch."""
    model, images = Net().eval(), torch.randn(4, 3, 8, 8)

    module, _ = trace_with_fx(model, torch.empty(0), ModelCall(path=(0,), extra_inputs={"scale": scale}))

    assert torch.equal(model(images)[0] * scale, module(images))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_nodes_of_their_own(kind, layers):
    """Each layer is one call, and the last state is that of the whole."""

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.last = kind(8, 6, num_layers=layers, batch_first=True), nn.Linear(6, 5)

        def forward(self, x):
            sequence, states = self.rnn(x.flatten(1, 2))
            state = states[0] if kind is nn.LSTM else states
            return self.last(sequence.mean(1) + state[-1])

    model, images = Recurrent().eval(), torch.randn(4, 3, 8, 8)

    module, _ = trace_with_fx(model, torch.empty(0), ModelCall())

    assert layers == sum(isinstance(child, kind) for child in module.modules())
    torch.testing.assert_close(model(images), module(images))


def test_hooks_of_the_model_itself_count():
    """What a hook makes of the output is what the graph returns."""
    model, images = Net().eval(), torch.randn(4, 3, 8, 8)
    model.register_forward_hook(lambda module, inputs, output: [output[0] + 1])

    module, _ = trace_with_fx(model, torch.empty(0), ModelCall(path=(0,)))

    assert torch.equal(model(images)[0], module(images))
