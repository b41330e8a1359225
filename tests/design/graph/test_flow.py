"""Data flow, names of cuts, and what stands against a cut."""

import torch

from isplit.design.graph import ModelGraph
from tests.design.graph.nets import Residual, TwoLayers


def test_names_without_a_module_of_their_own() -> None:
    """`<enclosing module>:<operation>_<count>`; the model itself has the empty name."""
    record = ModelGraph(Residual(), (3, 4, 4)).record()

    assert [":relu_1", ":relu_2", ":relu_3", ":mean_1"] == [cut.name for cut in record.cuts]


def test_a_number_from_pixels_stops_the_cuts_it_crosses() -> None:
    """A tail cannot know a number that was read from the image: the cut is listed as unavailable, with the reason."""

    class Scaled(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            finite = (x.abs().max() < torch.inf).item()
            x = self.relu(self.conv(x))
            return self.linear(torch.flatten(self.pool(x * finite), 1))

    record = ModelGraph(Scaled(), (3, 8, 8)).record()

    assert "relu" in {item.name for item in record.unavailable}
    assert "pixel values" in next(item.reason for item in record.unavailable if item.name == "relu")
    assert ["pool"] == [cut.name for cut in record.cuts]
