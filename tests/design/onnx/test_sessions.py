"""isplit.design.onnx.sessions: all outputs of a file, for any number of images and for files with a fixed batch."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from isplit.design.onnx.sessions import run_outputs


@pytest.fixture
def write(tmp_path):
    """Write a model with two outputs, x + x and x * x, for a batch of any or a fixed size."""

    def write_model(batch):
        nodes = [helper.make_node("Add", ["x", "x"], ["sum"]), helper.make_node("Mul", ["x", "x"], ["product"])]
        values = {
            name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 2]) for name in ("x", "sum", "product")
        }
        graph = helper.make_graph(nodes, "two", [values["x"]], [values["sum"], values["product"]])
        path = tmp_path / "two.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
        return path

    return write_model


@pytest.mark.parametrize(("batch", "count"), [("batch", 1), ("batch", 9), ("batch", 17), (3, 6), (3, 5)])
def test_all_outputs_of_all_images(write, batch, count):
    """Batches are joined in order, the last one shorter where the batch is free, and filled up where it is fixed."""
    x = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    total, product = run_outputs(write(batch), x)
    np.testing.assert_array_equal(2 * x, total, strict=True)
    np.testing.assert_array_equal(x * x, product, strict=True)
