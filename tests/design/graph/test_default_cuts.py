"""Which cuts are default cuts."""

import pytest
import torch
from torch import nn

from isplit.design.graph import ModelGraph
from tests.design.graph.nets import TwoLayers


def test_pre_activation_adds_the_point_before_the_relu() -> None:
    """It is marked as such, and lies before its default cut."""
    record = ModelGraph(TwoLayers(), (3, 8, 8)).record(pre_activation=True)

    assert [("conv", "pre-activation"), ("relu", "default"), ("pool", "default")] == [
        (cut.name, cut.kind) for cut in record.cuts
    ]


class Call(nn.Module):
    """A function as a layer."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("expected", "finish"),
    [
        ("1", [nn.BatchNorm2d(4)]),
        ("2", [nn.BatchNorm2d(4), Call(lambda x: x * 2)]),
        ("3", [nn.BatchNorm2d(4), Call(lambda x: x * 2), Call(lambda x: x + 1)]),
        ("3", [nn.BatchNorm2d(4), Call(lambda x: x * 2), nn.ReLU()]),
        # what is computed from an activated map no longer belongs to the convolution's own result
        ("1", [nn.ReLU(), Call(lambda x: x * 2)]),
        ("1", [nn.ReLU(), nn.BatchNorm2d(4)]),
    ],
)
def test_a_run_ends_behind_what_finishes_it(expected, finish) -> None:
    """A convolution is cut behind its norm, its arithmetic and its activation, in that order, and no later."""
    layers = [nn.Conv2d(3, 4, 1), *finish, nn.Flatten(), nn.Linear(16, 2)]

    assert [expected] == [cut.name for cut in ModelGraph(nn.Sequential(*layers).eval(), (3, 2, 2)).record().cuts]
