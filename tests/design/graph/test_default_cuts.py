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


def test_padding_and_identity_are_no_cuts_and_a_synchronised_norm_is_a_norm() -> None:
    """Each belongs to the run of operations that it stands in."""
    model = nn.Sequential()
    for name, module in {
        "pad1": nn.ZeroPad2d(1),
        "conv1": nn.Conv2d(3, 4, 3),
        "norm1": nn.SyncBatchNorm(4),
        "same1": nn.Identity(),
        "relu1": nn.ReLU(),
        "pad2": nn.ReflectionPad2d(1),
        "conv2": nn.Conv2d(4, 4, 3),
        "norm2": nn.SyncBatchNorm(4),
        "same2": nn.Identity(),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "linear": nn.Linear(4, 3),
    }.items():
        model.add_module(name, module)

    points = ModelGraph(model.eval(), (3, 8, 8)).default_points

    assert ["relu1", "norm2", "pool"] == [point.name for point in points]
