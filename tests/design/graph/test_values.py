"""What a graph's nodes compute, seen with batches of two and of three."""

import torch
from torch import fx, nn

from isplit.design.graph.values import ScalarValue, TensorValue, TupleValue, memory_bases, observe


def observed(function):
    """Trace a function of images 3×2×2, and return its nodes by name and what each computes."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 3, 2, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x, self.weight)

    module = fx.symbolic_trace(Model().eval())
    values, _ = observe(module, torch.randn(3, 3, 2, 2))
    return {node.name: node for node in module.graph.nodes}, {node.name: value for node, value in values.items()}


def test_shapes_sizes_and_batches():
    """Both shapes, the bytes of two images, and whether the first dimension is the batch."""
    nodes, values = observed(lambda x, weight: x.flatten(1).t().t() * x.size(0))

    image, flat, turned, size = (values[name] for name in ("x", "flatten", "t", "size"))
    assert (((2, 3, 2, 2), (3, 3, 2, 2)), 2 * 12 * 4, 0) == (image.shapes, image.bytes, image.batch_axis)
    assert (((2, 12), (3, 12)), nodes["x"], 0) == (flat.shapes, flat.alias_of, flat.batch_axis)
    assert (((12, 2), (12, 3)), nodes["flatten"], 1) == (turned.shapes, turned.alias_of, turned.batch_axis)
    assert ScalarValue((2, 3), pixel_dependent=False) == size
    assert values["mul"].alias_of is None


def test_a_tuple_shares_the_memory_of_its_first_tensor():
    """Of two tensors that are broadcast to each other, the pair is taken for a view of the first one's memory."""
    nodes, values = observed(lambda x, weight: torch.broadcast_tensors(x, weight)[1] + x)

    pair = values["broadcast_tensors"]
    assert isinstance(pair, TupleValue)
    assert nodes["x"] is pair.alias_of
    assert 2 * (2 * 12 * 4) == pair.bytes


def test_numbers_from_pixels_are_told_from_numbers_from_shapes():
    """The largest pixel is one of the image; its number of rows is none, and a parameter is no data."""
    _, values = observed(lambda x, weight: x * x.max().item() * x.shape[2] * weight)

    assert (True, False) == (values["item"].pixel_dependent, values["getitem"].pixel_dependent)
    assert isinstance(values["weight"], TensorValue)
    assert (True, False) == (values["x"].data, values["weight"].data)


def test_views_have_one_base():
    """Views of views lead back to the tensor whose memory they share; a result of its own begins anew."""
    nodes, values = observed(lambda x, weight: torch.relu(x.flatten(1).unsqueeze(2)))

    bases = memory_bases({nodes[name]: value for name, value in values.items()})
    assert [nodes["x"]] * 3 == [bases[nodes[name]] for name in ("x", "flatten", "unsqueeze")]
    assert nodes["relu"] is bases[nodes["relu"]]
