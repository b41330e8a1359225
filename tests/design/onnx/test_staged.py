"""A model with all cuts as outputs: heads taken out of it, and the segments of what onnxruntime makes of it."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

import isplit
from isplit.design.graph.split import split
from isplit.design.onnx.staged import StagedModel, export_stages
from isplit.design.running import evaluating
from isplit.errors import ModelError
from isplit.records import Preprocessing

PREPROCESSING = Preprocessing(
    image_size=(16, 16), resize_size=16, interpolation="bilinear", channels=3, mean=(0.5,) * 3, std=(0.25,) * 3
)


@pytest.fixture(scope="module")
def graph(tiny_model_file, tiny_weights):
    """The captured tiny network."""
    return isplit.load_model(f"{tiny_model_file}:build", weights=str(tiny_weights)).graph()


@pytest.fixture(scope="module")
def staged(graph):
    """The tiny network with two cuts as outputs."""
    return export_stages(graph, ["pool1", "pool2"], PREPROCESSING)


def test_heads_compute_what_the_model_computes(graph, staged, tmp_path):
    """The head of a cut gives the cut's tensor as torch does, and the whole model its logits."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    expected = {"pool1": split(graph, "pool1").head, None: graph.module}
    for cut, module in expected.items():
        staged.save_head(cut, tmp_path / "head.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / "head.onnx"), providers=["CPUExecutionProvider"])
        with evaluating(module), torch.no_grad():
            tensor = module(images).numpy()
        np.testing.assert_allclose(tensor, session.run(None, {"image": pixels})[0], atol=1e-5)


def test_operators_of_the_optimised_model_have_segments(staged, tmp_path):
    """Every operator that onnxruntime runs belongs to the segment of the layer that it came from."""
    staged.save_head(None, tmp_path / "whole.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(tmp_path / "whole.onnx"), options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(tmp_path / "optimised.onnx")

    segments = staged.segments_of_operators(optimised)

    kinds = [(segments[node.name], node.op_type) for node in optimised.graph.node]
    assert {node.name for node in optimised.graph.node} == set(segments)
    assert [0, 1, 2] == [segment for segment, kind in kinds if kind in ("Conv", "FusedConv")]
    assert [0, 1] == [segment for segment, kind in kinds if kind == "MaxPool"]
    assert [2] == [segment for segment, kind in kinds if kind in ("Gemm", "MatMul", "FusedGemm")]


def test_fused_and_added_operators():
    """An operator named after a tensor belongs to that tensor's segment, and a conversion to the one that reads it."""
    nodes = [
        helper.make_node("Conv", ["image"], ["a"], name="conv"),
        helper.make_node("Relu", ["a"], ["cut"], name="relu"),
        helper.make_node("Conv", ["cut"], ["b"], name="conv2"),
        helper.make_node("Gemm", ["b"], ["logits"], name="gemm"),
    ]
    float32 = onnx.TensorProto.FLOAT
    ends = {name: helper.make_tensor_value_info(name, float32, None) for name in ("image", "cut", "logits")}
    model = helper.make_model(helper.make_graph(nodes, "m", [ends["image"]], [ends["cut"], ends["logits"]]))
    staged = StagedModel(cuts=("c",), tensors=("image", "cut", "logits"), model=model)
    optimised = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("ReorderInput", ["image"], ["r0"], name="reorder"),
                helper.make_node("Conv", ["r0"], ["r1"], name="cut_nchwc"),
                helper.make_node("Conv", ["r1"], ["r2"], name="b_nchwc"),
                helper.make_node("ReorderOutput", ["r2"], ["r3"], name="reorder2"),
                helper.make_node("Gemm", ["r3"], ["logits"], name="fused"),
            ],
            "m",
            [ends["image"]],
            [ends["logits"]],
        )
    )

    segments = staged.segments_of_operators(optimised)

    assert {"reorder": 0, "cut_nchwc": 0, "b_nchwc": 1, "reorder2": 1, "fused": 1} == segments


def test_a_file_that_lacks_a_cut(staged, tmp_path):
    """A head that the file does not hold is an error of ours, with the cut's name."""
    broken = StagedModel(cuts=("pool1",), tensors=("image", "not there", "logits"), model=staged.model)
    with pytest.raises(ModelError, match="up to pool1"):
        broken.save_head("pool1", tmp_path / "head.onnx")
