"""Data flow, names of cuts, and what stands against a cut."""

import pytest
import torch

from isplit.design.graph import ModelGraph
from isplit.design.graph.flow import follows_batch
from isplit.design.graph.values import ScalarValue
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


def test_integers_that_cross_alone_stop_a_cut() -> None:
    """A bottleneck cannot approximate a map of integers; the place is listed with its type."""

    class Counted(TwoLayers):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.relu(self.conv(x)).round().to(torch.int32)
            return self.linear(torch.flatten(self.pool(x.float()), 1))

    record = ModelGraph(Counted(), (3, 8, 8)).record()

    assert ["int32 values, which a bottleneck cannot approximate" in item.reason for item in record.unavailable] == [
        True
    ]
    assert not {item.name for item in record.unavailable} & {cut.name for cut in record.cuts}


@pytest.mark.parametrize(
    ("expected", "values"),
    [
        (True, (2, 3)),
        (True, (8, 12)),
        (True, (5, 5)),
        (False, (4, 5)),
        (False, (3, 2)),
        (True, ((2, 7), (3, 7))),
        (False, ((2, 7), (3, 8))),
        (False, ((2, 7), (3,))),
        (True, (True, True)),
        (False, (True, False)),
        (True, (0.5, 0.5)),
        (False, (1.0, 1.5)),
    ],
)
def test_numbers_that_follow_the_batch(expected, values) -> None:
    """Seen with two images and with three: whole multiples of the batch and constants, also in tuples."""
    assert expected is follows_batch(ScalarValue(values, pixel_dependent=False))
