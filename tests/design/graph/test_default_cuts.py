"""Which cuts are default cuts."""

from isplit.design.graph import ModelGraph
from tests.design.graph.nets import TwoLayers


def test_pre_activation_adds_the_point_before_the_relu() -> None:
    """It is marked as such, and lies before its default cut."""
    record = ModelGraph(TwoLayers(), (3, 8, 8)).record(pre_activation=True)

    assert [("conv", "pre-activation"), ("relu", "default"), ("pool", "default")] == [
        (cut.name, cut.kind) for cut in record.cuts
    ]
