"""ONNX files as models."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import isplit
from isplit.design.inputs.onnx_models import build_from_onnx, check_against_onnxruntime
from isplit.errors import ModelError


class Net(nn.Module):
    """Two convolutions with a residual, and a classifier behind a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.stem(images)
        features = features + self.block(features)
        return self.head(features.mean((2, 3), keepdim=True).flatten(1))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """Return the network with values that answer differently to different images."""
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def file(net, tmp_path_factory) -> Path:
    """Return the network as a file of the exporter's newest opset, for any batch."""
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(
        net, (torch.rand(2, 3, 16, 16),), path, dynamo=True, dynamic_shapes=({0: batch},), external_data=False,
        verbose=False,
    )  # fmt: skip
    return path


def test_it_answers_like_the_network(net, file):
    """The module has the file's image size and the network's logits."""
    model = isplit.load_model(str(file))
    images = torch.rand(3, 3, 16, 16)

    assert (3, 16, 16) == model.input_shape
    assert 4 == model.source.num_outputs
    with torch.no_grad():
        torch.testing.assert_close(net(images), model.logits(images), rtol=1e-4, atol=1e-5)


def test_it_has_the_cuts_of_the_network(net, file):
    """As many cuts of the same shapes; those of the file are called like its nodes."""
    expected = isplit.list_cuts(isplit.load_model(net, image_size=16)).cuts
    cuts = isplit.list_cuts(str(file)).cuts
    assert [cut.shape for cut in expected] == [cut.shape for cut in cuts]


def test_it_gives_the_study_of_the_network(net, file, tmp_path):
    """The same weights give the same importance, candidates and base accuracy, whichever way they come."""
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    data = isplit.open_data((images, np.arange(40) % 4))
    settings = isplit.AnalyzeSettings(images=12, test_images=4)

    studies = []
    for name, model in {"net": net, "file": str(file)}.items():
        loaded = isplit.load_model(model, image_size=16, preprocessing={"mean": 0.5, "std": 0.2})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the network was never trained, so its accuracy is that of chance
            studies.append(isplit.analyze(loaded, data, out=tmp_path / name, settings=settings))

    of_net, of_file = (study.curve.points for study in studies)
    np.testing.assert_allclose([point.cui for point in of_net], [point.cui for point in of_file], rtol=1e-3)
    places = [{cut.name: place for place, cut in enumerate(study.graph.record().cuts)} for study in studies]
    first, second = ([of[each.cut] for each in study.candidates] for of, study in zip(places, studies, strict=True))
    assert first == second
    assert studies[0].record.base_accuracy == studies[1].record.base_accuracy


def test_the_user_s_images_decide(net, file):
    """Equal logits pass; other logits, and another number of them, are refused with the difference."""
    images = torch.rand(5, 3, 16, 16)
    with torch.no_grad():
        logits = net(images)
    check_against_onnxruntime(str(file), images, logits)
    with pytest.raises(ModelError, match=r"answers otherwise than onnxruntime: logits differ by up to 0\.5"):
        check_against_onnxruntime(str(file), images, logits + 0.5)
    with pytest.raises(ModelError, match="have another shape"):
        check_against_onnxruntime(str(file), images, logits[:, :3])


def test_a_file_that_does_not_run(net, tmp_path):
    """What onnxruntime refuses to run is an error with its reason, not a fault of isplit."""
    file = tmp_path / "net.onnx"
    file.write_bytes(graph_of(onnx.helper.make_node("Unheard", ["image"], ["logits"])).SerializeToString())
    with pytest.raises(ModelError, match="onnxruntime cannot run"):
        check_against_onnxruntime(str(file), torch.rand(2, 3, 8, 8), torch.rand(2, 4))


def graph_of(*nodes: onnx.NodeProto, shape: tuple[str | int, ...] = ("N", 3, 8, 8), kind: int = 1) -> onnx.ModelProto:
    """Return a model of some nodes from "image" to "logits"."""
    image = onnx.helper.make_tensor_value_info("image", kind, shape)
    logits = onnx.helper.make_tensor_value_info("logits", 1, ("N", "K"))
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(onnx.helper.make_graph(list(nodes), "net", [image], [logits]), opset_imports=opset)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (graph_of(onnx.helper.make_node("DequantizeLinear", ["image", "image"], ["logits"])), "is quantised"),
        (graph_of(onnx.helper.make_node("Identity", ["image"], ["logits"]), shape=("N", 10)), "one input, a batch"),
        (graph_of(onnx.helper.make_node("Identity", ["image"], ["logits"]), kind=2), "of type UINT8"),
        (graph_of(onnx.helper.make_node("Identity", ["image"], ["logits"]), shape=("N", 8, 8, 3)), "channels last"),
        (
            graph_of(onnx.helper.make_node("Unheard", ["image"], ["logits"])),
            "cannot be turned into .*Unheard",
        ),
        (
            graph_of(
                onnx.helper.make_node("Relu", ["later"], ["logits"], name="first"),
                onnx.helper.make_node("Relu", ["image"], ["later"], name="second"),
            ),
            "cannot be turned into .*: .*topological",
        ),
        (onnx.ModelProto(graph=graph_of(onnx.helper.make_node("Relu", ["image"], ["logits"])).graph), "opset_import"),
    ],
)
def test_refused(tmp_path, model, words):
    """A quantised file, inputs that are no images, unknown operations and faults are refused with the reason."""
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=words):
        build_from_onnx(str(path))


def test_nodes_that_are_called_like_parts_of_modules(tmp_path):
    """Any name is a node's, also those that Python and torch have taken; a path of such names stays as it is."""
    names = ("forward", "training.code", "model/type/class", "слой/1", "class", "")
    values = ["image", *(f"value{number}" for number in range(len(names) - 1)), "logits"]
    nodes = [
        onnx.helper.make_node("Relu", [source], [target], name=name)
        for name, source, target in zip(names, values[:-1], values[1:], strict=True)
    ]
    path = tmp_path / "net.onnx"
    path.write_bytes(graph_of(*nodes).SerializeToString())
    images = torch.randn(2, 3, 8, 8)

    module = build_from_onnx(str(path)).module

    expected = {"forward_", "training/code", "model/type/class", "слой/1", "class_"}
    assert expected <= {name for name, _ in module.named_modules()}
    assert torch.equal(images.relu(), module(images))


@pytest.mark.parametrize("opset", [8, 21])
def test_versions_that_are_converted(tmp_path, opset):
    """Older and newer operations than onnx2torch knows are brought to a version that it does."""
    model = graph_of(
        onnx.helper.make_node("Relu", ["image"], ["positive"]),
        onnx.helper.make_node("Flatten", ["positive"], ["logits"], axis=1),
    )
    model.opset_import[0].version = opset
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    images = torch.randn(2, 3, 8, 8)

    assert torch.equal(images.relu().flatten(1), build_from_onnx(str(path)).module(images))


def test_no_onnx(tmp_path):
    """A missing file, and one that holds something else."""
    with pytest.raises(ModelError, match=r"cannot read .*: No such file"):
        isplit.load_model(str(tmp_path / "net.onnx"))
    (tmp_path / "net.onnx").write_text("no model")
    with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
        isplit.load_model(str(tmp_path / "net.onnx"))


def test_weights_beside_it_are_refused(file):
    """The file holds its own weights."""
    with pytest.raises(ModelError, match="holds its own weights"):
        isplit.load_model(str(file), weights="other.safetensors")
