"""The graph as a whole: its cuts by name, and axes of channels that are given."""

import pytest

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
