"""Layers in blocks of output channels: which can be divided, and that the blocks give what the layer gives."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from isplit.design.graph.cuts import ModelGraph
from isplit.design.graph.large_layers import layer_blocks
from isplit.records import DivisibleLayer


class Functional(nn.Module):
    """Computes its layers with functions of its own parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(6, 4, 3, 3))
        self.matrix = nn.Parameter(torch.randn(5, 6))
        self.offset = nn.Parameter(torch.randn(5))
        self.first = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = functional.conv2d(self.first(images).relu(), self.kernel, None, stride=2, padding=1)
        return functional.linear(maps.mean((2, 3)), self.matrix, self.offset)


class Beside(nn.Module):
    """Has a shortcut around its second convolution, and a grouped third one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.third, self.fc = nn.Conv2d(4, 8, 3, groups=2), nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.first(images).relu()
        return self.fc(self.third(maps + self.second(maps)).mean((2, 3)))


def modules() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 7, 3, stride=2, dilation=2, bias=False), nn.ReLU(), nn.Flatten(),
        nn.Linear(7 * 3 * 3, 16), nn.GELU(), nn.Linear(16, 5),
    )  # fmt: skip


def divisible(graph: ModelGraph) -> dict[str, DivisibleLayer]:
    return {layer.name: layer for layer in graph.record().divisible}


@pytest.mark.parametrize("build", [modules, Functional])
def test_blocks_give_what_the_layer_gives(build):
    """The outputs of all blocks side by side equal the layer's output, for every layer and every number of blocks."""
    torch.manual_seed(0)
    graph = ModelGraph(build().eval(), (3, 12, 12))
    layers = divisible(graph)
    assert len(layers) == (3 if build is modules else 2)
    images = torch.randn(2, 3, 12, 12)
    values: dict[str, torch.Tensor] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            result = super().run_node(n)
            values[n.name] = result
            return result

    with torch.no_grad():
        Recorder(graph.module).run(images)
        for layer in layers.values():
            node = graph.flow.data_nodes[layer.depth]
            (source,) = graph.flow.sources(node)
            for count in (2, 3, layer.channels):
                blocks = layer_blocks(graph.flow, layer, blocks=count)
                outputs = [block(values[source.name]) for block in blocks]
                assert len(blocks) <= count
                together = torch.cat(outputs, dim=layer.channel_axis)
                torch.testing.assert_close(together, values[node.name], rtol=1e-5, atol=1e-5)


def test_figures_of_a_layer():
    """Parameters, channels and bytes are those of the layer, and its neighbours are named."""
    layer = divisible(ModelGraph(modules().eval(), (3, 12, 12)))["5"]
    assert (7 * 3 * 3 + 1) * 16 == layer.parameters
    assert (16, -1, 4 * 63, 4 * 16) == (layer.channels, layer.channel_axis, layer.input_bytes, layer.output_bytes)
    assert ("4", "5") == (layer.before, layer.after)


def test_the_last_layer_ends_with_the_logits():
    """No cut follows the layer that gives the logits."""
    assert divisible(ModelGraph(modules().eval(), (3, 12, 12)))["7"].after is None


def test_what_cannot_be_divided():
    """The first layer, one with a shortcut beside it, and grouped convolutions are left out."""
    assert ["fc"] == list(divisible(ModelGraph(Beside().eval(), (3, 12, 12))))
