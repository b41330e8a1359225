"""What is noted of every node: shapes at two batches, numbers that follow the batch, and whose memory it shares."""

import pytest
import torch
from torch import fx, nn

from isplit.design.graph.values import ScalarValue, TensorValue, TupleValue, memory_bases, observe
from isplit.errors import ModelError

IMAGES = torch.arange(3 * 2 * 2 * 2.0).reshape(3, 2, 2, 2)


class Values(nn.Module):
    """One node of every kind of value."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x):
        rows = x.size(0)
        flat = x.view(rows, -1)
        first, second = flat.chunk(2, 1)
        largest = flat.max().item()
        return (first + second) * self.weight.sum() + rows + largest


def observed(model):
    module = fx.symbolic_trace(model)
    values, result = observe(module, IMAGES)
    return {node.name: value for node, value in values.items()}, result, values


def test_kinds_of_values():
    """Tensors of data and of parameters, tuples, sizes, and numbers read from pixels."""
    values, result, _ = observed(Values())

    assert TensorValue(((2, 8), (3, 8)), torch.float32, 64, None, True) == TensorValue(
        values["view"].shapes, values["view"].dtype, values["view"].bytes, None, values["view"].data
    )
    assert ScalarValue((2, 3), False) == values["size"]
    assert ScalarValue((15.0, 23.0), True) == values["item"]
    assert isinstance(values["chunk"], TupleValue)
    assert (True, False) == (values["chunk"].data, values["weight"].data)
    assert values["view"].batch_first
    assert not values["weight"].batch_first
    torch.testing.assert_close(result, Values()(IMAGES))


def test_views_share_the_memory_of_their_source():
    """The base of a view of a view is the image; a sum has memory of its own."""
    _, _, values = observed(Values())

    base = {node.name: memory.name for node, memory in memory_bases(values).items()}

    assert ("x", "x", "add") == (base["view"], base["chunk"], base["add"])


def test_a_failing_node_is_named():
    """The message says which operation of the graph failed."""

    class Failing(nn.Module):
        def forward(self, x):
            return x.flatten(1) @ torch.ones(3, 3)

    with pytest.raises(ModelError, match=r"the model fails at .*matmul"):
        observed(Failing())
