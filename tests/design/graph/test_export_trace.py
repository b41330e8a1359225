"""Graphs of torch.export: one tensor in and one out, for any batch, with the names of the model's modules."""

import pytest
import torch
from torch import nn

from isplit.design.graph.export_trace import trace_functional, trace_with_export
from isplit.design.graph.ops import is_in_place
from isplit.design.graph.outputs import ModelCall


class Net(nn.Module):
    """A norm, an activation in place, and two outputs."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.last = nn.Linear(4, 5)

    def forward(self, x, scale=1.0):
        x = self.relu(self.norm(self.conv(x)))
        return {"logits": self.last(x.mean((2, 3))) * scale, "features": x}


@pytest.mark.parametrize("trace", [trace_with_export, trace_functional])
def test_the_graph_is_the_model(trace):
    """For another batch than that of the trace, with a further input as a constant."""
    model, images = Net().eval(), torch.randn(5, 3, 8, 8)
    call = ModelCall(path=("logits",), extra_inputs={"scale": 2.0})

    with torch.no_grad():
        module, names = trace(model, torch.randn(2, 3, 8, 8), call)
        result = module(images)

    assert torch.equal(2 * model(images)["logits"], result)
    returned = set(names.returned_by().values())
    assert {"conv", "norm", "relu", "last"} <= returned
    assert {""} == set(names.enclosing.values())


def test_functional_graphs_write_into_nothing():
    """In-place operations are rewritten, and a norm stays one operation that returns a tensor."""
    with torch.no_grad():
        module, _ = trace_functional(Net().eval(), torch.randn(2, 3, 8, 8), ModelCall(path=("logits",)))

    assert not any(is_in_place(module, node) for node in module.graph.nodes)
    targets = {node.target for node in module.graph.nodes}
    assert torch.ops.aten.batch_norm.default in targets
    assert torch.ops.aten._native_batch_norm_legit_no_training.default not in targets
