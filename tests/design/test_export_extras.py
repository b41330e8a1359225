"""Int8 heads, the Triton repository, and transformers with a class token."""

import numpy as np
import onnx
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from torchvision.models import VisionTransformer
from tritonclient.grpc import model_config_pb2

from isplit.design.export import export
from isplit.design.export_settings import ExportSettings
from isplit.design.onnx import int8 as int8_module
from isplit.design.onnx.compare import load_pixels
from isplit.errors import ExportError
from isplit.runtime.bundle import Bundle
from tests.design.exporting import CUTS, make_study

# --- int8 ---


@pytest.fixture(scope="module")
def int8(tiny_study, tmp_path_factory):
    """A bundle whose head behind the second pool computes in eight bits."""
    out = tmp_path_factory.mktemp("bundles") / "int8"
    export(tiny_study, ["pool2"], out, settings=ExportSettings(images=3, int8=True, local=False, remote=False))
    return Bundle.open(out)


def test_int8_computes_in_eight_bits(int8):
    """The network's own products are of eight-bit numbers, the encoder's are not."""
    graph = onnx.load(int8.head_path("pool2")).graph
    dequantised = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    products = {node.name: set(node.input) <= dequantised for node in graph.node if node.op_type == "Conv"}
    assert {True: 2, False: 1} == {value: list(products.values()).count(value) for value in (True, False)}
    assert onnx.TensorProto.INT8 in {tensor.data_type for tensor in graph.initializer}


def test_int8_answers(int8, exported, run_onnx):
    """It takes any batch, and its latents are near those of float32."""
    latents = run_onnx(int8.head_path("pool2"), exported.pixels)
    expected = run_onnx(exported.bundle.head_path("pool2"), exported.pixels)
    assert (expected.shape, np.uint8) == (latents.shape, latents.dtype)
    step = np.abs(latents.astype(int) - expected)
    # Latents come in the order of their importance. The last ones hardly vary, and their steps are as fine.
    assert 0 < step[:, :8].mean() < 3
    assert step.mean() < 32
    np.testing.assert_array_equal(latents[:1], run_onnx(int8.head_path("pool2"), exported.pixels[:1]))


def test_int8_cost(int8, exported, tiny_study):
    """The manifest says what it costs, and accuracy and bytes are those of the int8 head."""
    cut = int8.record.cut("pool2")
    cost, measured = cut.int8_cost, exported.record.cut("pool2")
    assert cut.int8
    assert not measured.int8
    images = tiny_study.record.data.part_images["select"]
    assert (images, images) == (cost.accuracy.images, cost.float32_accuracy.images)
    assert cost.accuracy == cut.accuracy
    assert cost.payload_bytes_mean == cut.payload_bytes_mean
    assert measured.payload_bytes_mean == pytest.approx(cost.float32_payload_bytes_mean)
    assert 0 <= cost.agreement <= 1
    assert 0 < cost.latents_different_share < 1
    assert cost.against_float32.difference == pytest.approx(cost.accuracy.accuracy - cost.float32_accuracy.accuracy)
    assert cost.head_bytes < cost.float32_head_bytes
    assert 0 == cut.check.latent_lsb_max


def test_int8_fails(tiny_study, tmp_path, monkeypatch):
    """What onnxruntime cannot quantise is an error that says what to leave out."""

    def fail(*args, **kwargs):
        raise RuntimeError("no ranges")

    monkeypatch.setattr(int8_module, "quantize_static", fail)
    with pytest.raises(ExportError, match="no ranges; export without `int8=True`"):
        export(tiny_study, ["pool2"], tmp_path / "bundle", settings=ExportSettings(images=3, int8=True))
    assert [] == list(tmp_path.iterdir())


# --- Triton ---


@pytest.mark.parametrize("cut", CUTS)
def test_triton_config(exported, cut):
    """Each tail's configuration is one that Triton's own schema reads, with dynamic batching."""
    directory = exported.bundle.directory / "triton" / f"tiny-net.{cut}"
    config = text_format.Parse((directory / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert (directory.name, "onnxruntime_onnx") == (config.name, config.platform)
    assert config.HasField("dynamic_batching")
    assert config.max_batch_size > 1
    (source,), (target,) = config.input, config.output
    assert ("latent", model_config_pb2.TYPE_UINT8) == (source.name, source.data_type)
    assert exported.record.cut(cut).latent_shape == tuple(source.dims)
    assert ("logits", model_config_pb2.TYPE_FP32, [3]) == (target.name, target.data_type, list(target.dims))


@pytest.mark.parametrize("cut", CUTS)
def test_triton_model(exported, run_onnx, tmp_path, cut):
    """A model of the repository stands alone, and answers as the bundle's tail does."""
    path = exported.bundle.directory / "triton" / f"tiny-net.{cut}" / "1" / "model.onnx"
    alone = tmp_path / "model.onnx"
    alone.write_bytes(path.read_bytes())
    latents = run_onnx(exported.bundle.head_path(cut), exported.pixels[:5])
    np.testing.assert_array_equal(run_onnx(exported.bundle.tail_path(cut), latents), run_onnx(alone, latents))
    assert path.relative_to(exported.bundle.directory).as_posix() in exported.record.files


# --- tokens ---


@pytest.fixture(scope="module")
def tokens(tiny_data, tmp_path_factory):
    """A study of a small vision transformer whose weights give different answers (an untrained one's head is zero)."""
    torch.manual_seed(5)
    model = VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24, num_classes=3
    )
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in tiny_data.glob("train/*/*.png")])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.25)
        # Each class is as high as the others on average: then images decide.
        last = model.heads[0]
        last.bias -= model.eval()((pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25).mean(0)
    model.preprocessing = {"image_size": (16, 16), "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}
    directory = tmp_path_factory.mktemp("studies") / "tokens"
    return make_study(model, tiny_data, directory, cuts=["encoder.layers.encoder_layer_0"], remote_images=0)


def test_tokens_with_a_prefix(tokens, answer_in_torch, run_onnx, tmp_path):
    """The class token has a map of its own; head and tail with it answer as torch does."""
    cut = "encoder.layers.encoder_layer_0"
    record = export(tokens, [cut], tmp_path / "vit", settings=ExportSettings(images=3))
    bundle = Bundle.open(tmp_path / "vit")
    pixels = load_pixels(tokens.view(), "fit", limit=24)
    latents = run_onnx(bundle.head_path(cut), pixels)
    logits = run_onnx(bundle.tail_path(cut), latents)
    assert {0, 1, 2} == set(logits.argmax(1))
    for image, latent, answered in zip(pixels, latents, logits, strict=True):
        expected, wanted = answer_in_torch(tokens, image, cut)
        np.testing.assert_array_equal(expected, latent)
        np.testing.assert_allclose(wanted, answered, atol=record.cut(cut).logits_tolerance)
        assert wanted.argmax() == answered.argmax()
