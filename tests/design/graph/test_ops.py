"""Names and kinds of operations, and which of them overwrite their input."""

import operator

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from isplit.design.graph.ops import is_in_place, kind_of


def last_operation(forward) -> tuple[fx.GraphModule, fx.Node]:
    """Trace a function and return its last operation."""
    module = fx.symbolic_trace(forward)
    return module, list(module.graph.nodes)[-2]


@pytest.mark.parametrize(
    ("expected", "forward"),
    [
        (True, lambda x: x.relu_()),
        (False, lambda x: x.relu()),
        (True, lambda x: torch.relu_(x)),
        (False, lambda x: torch.relu(x)),
        (False, lambda x: operator.add(x, x)),
        (True, lambda x: functional.leaky_relu(x, inplace=True)),
        (False, lambda x: functional.leaky_relu(x, inplace=False)),
        (True, nn.Sequential(nn.ReLU(inplace=True))),
        (False, nn.Sequential(nn.ReLU())),
    ],
)
def test_in_place(expected, forward):
    """Methods and functions that end in _, += and the like, and what is told so by `inplace`."""
    assert expected is is_in_place(*last_operation(forward))


def test_in_place_operators():
    """`x += y` is traced by torch.export as a function of its own, whose name does not end in _."""
    graph = fx.Graph()
    image = graph.placeholder("image")
    node = graph.call_function(operator.iadd, (image, image))
    graph.output(node)
    assert is_in_place(fx.GraphModule({}, graph), node)


def test_kinds():
    """What is not known is computation, so that it gets a cut of its own."""
    names = ("conv2d", "batch_norm", "max_pool2d", "relu", "add", "something_new")
    assert ["compute", "norm", "pool", "activation", "arithmetic", "compute"] == [kind_of(name) for name in names]
