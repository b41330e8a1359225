"""The memory layout of a model's weights and of what crosses."""

import torch
from torch import nn

from isplit.design.graph import ModelGraph
from isplit.design.graph.layout import lay_out, use_channels_last
from isplit.design.graph.outputs import ModelCall
from tests.design.graph.nets import TwoLayers


class Viewing(TwoLayers):
    """Fails on maps whose channels are last in memory: their rows cannot be viewed as one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu(self.conv(x)))
        return self.linear(x.view(x.size(0), -1))


def is_channels_last(model: nn.Module) -> bool:
    return model.get_parameter("conv.weight").is_contiguous(memory_format=torch.channels_last)


def test_a_model_that_computes_the_same_so():
    """Its weights are laid out channels last, and nothing needs to be said."""
    model = TwoLayers()
    assert (True, []) == use_channels_last(model, (3, 8, 8), ModelCall())
    assert is_channels_last(model)


def test_a_model_that_depends_on_the_layout():
    """It keeps its layout, and the notice gives torch's reason."""
    model = Viewing()
    laid_out, (notice,) = use_channels_last(model, (3, 8, 8), ModelCall())
    assert not laid_out
    assert "view" in notice
    assert not is_channels_last(model)


def test_layout_of_what_crosses():
    """Maps of a model that is channels last are laid out so; of others, and other shapes, they stay as they are."""
    cut = ModelGraph(TwoLayers(), (3, 8, 8)).record().cuts[0]
    maps = torch.randn(2, 4, 8, 8)
    laid_out = lay_out(maps, cut, channels_last=True)
    assert laid_out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(maps, laid_out)
    assert lay_out(maps, cut, channels_last=False) is maps
    tokens = torch.randn(2, 4, 8)
    assert lay_out(tokens, cut, channels_last=True) is tokens
    assert lay_out(maps, cut.model_copy(update={"channel_axis": -1}), channels_last=True) is maps
