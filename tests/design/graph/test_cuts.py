"""The graph as a whole: its cuts by name, and axes of channels that are given."""

import pytest
import torch
from torch import nn

from isplit.design.graph import ModelGraph
from isplit.errors import ModelError
from tests.design.graph.nets import TwoLayers


def test_axis_of_channels():
    """Maps have their channels first, unless the caller says that they are last at that cut."""
    assert [1, 1] == [cut.channel_axis for cut in ModelGraph(TwoLayers(), (3, 8, 8)).record().cuts]
    told = ModelGraph(TwoLayers(), (3, 8, 8), channel_axes={"pool": -1})
    assert [1, -1] == [cut.channel_axis for cut in told.record().cuts]


@pytest.mark.parametrize("axes", [{"pool": 2}, {"pool": 0}, {"pol": 1}, {"pool": 1, "pol": -1}])
def test_axes_that_cannot_be(axes):
    """Another axis than 1 and -1, and a cut that is not there, are refused in words."""
    with pytest.raises(ModelError, match="name a cut, and give 1"):
        ModelGraph(TwoLayers(), (3, 8, 8), channel_axes=axes)


def test_points_by_name():
    """A cut is found by its name; another name is a KeyError."""
    graph = ModelGraph(TwoLayers(), (3, 8, 8))
    assert "pool" == graph.point("pool").name
    with pytest.raises(KeyError):
        graph.point("pol")


class JoinsNothing(nn.Module):
    """Joins an empty tensor to its features, as models with optional tokens do."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, images):
        features = self.first(images)
        nothing = features[:, :0]
        return self.last(torch.cat([nothing, self.second(features.relu())], 1).mean((2, 3)))


def test_empty_tensors_cross():
    """A tensor without elements is listed where it crosses a cut with others, and takes no bytes."""
    record = ModelGraph(JoinsNothing(), (3, 8, 8)).record(all_cuts=True)
    empty = [tensor for cut in record.cuts for tensor in cut.crossing if 0 in tensor.shape]
    assert empty
    assert {0} == {tensor.bytes for tensor in empty}
