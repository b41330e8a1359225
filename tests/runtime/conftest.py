"""A real bundle, small enough to check by hand: what every runtime test runs.

    image u8 N×8×8×3 -> -128 -> conv 2×2/2 -> relu, /128, floor, 0..15 -> "stage.1" u8 N×4×4×4
                             -> conv 2×2/2 -> relu, /32, floor, 0..255 -> "stage.2" u8 N×6×2×2 -> 5 logits

The whole model does the same steps in one file. All weights are small integers and every division is by a power of
two, so that float32 is exact: head, codec and tail give the whole model's logits bit for bit, whatever the batch.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from isplit.codec.codec import Codec
from isplit.codec.quantise import Quantiser
from isplit.codec.rans import count_symbols
from isplit.records import (
    Accuracy,
    BundledFile,
    BundleRecord,
    ClassGroup,
    CutPlacement,
    ImageSetting,
    LocalPlacement,
    Preprocessing,
    RemotePlacement,
)
from isplit.runtime.bundle import Bundle

CLASSES = ("ant", "bee", "cat", "dog", "eel")
SHAPES = {"stage.1": (4, 4, 4), "stage.2": (6, 2, 2)}
LEVELS = {"stage.1": 16, "stage.2": 256}
SHARED = "weights.bin"


def _weights():
    rng = np.random.default_rng(7)
    return {
        "kernel1": rng.integers(-3, 4, (4, 3, 2, 2)).astype(np.float32),
        "kernel2": rng.integers(-3, 4, (6, 4, 2, 2)).astype(np.float32),
        "matrix": rng.integers(-3, 4, (24, 5)).astype(np.float32),
        "bias": rng.integers(-9, 10, (5,)).astype(np.float32),
        "middle": np.array(128, np.float32),
        "divisor1": np.array(128, np.float32),
        "divisor2": np.array(2, np.float32),
        "zero": np.array(0, np.float32),
        "top1": np.array(LEVELS["stage.1"] - 1, np.float32),
        "top2": np.array(LEVELS["stage.2"] - 1, np.float32),
    }


def _pixels():
    return [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "middle"], ["normal"]),
        helper.make_node("Transpose", ["normal"], ["symbols0"], perm=[0, 3, 1, 2]),
    ]


def _stage(number, output):
    """One convolution and its quantisation: `symbols<number-1>` (float) to `output` (float integers)."""
    here = str(number)
    return [
        helper.make_node("Conv", [f"symbols{number - 1}", "kernel" + here], ["conv" + here], strides=[2, 2]),
        helper.make_node("Div", ["conv" + here, "divisor" + here], ["scaled" + here]),
        helper.make_node("Floor", ["scaled" + here], ["floor" + here]),
        helper.make_node("Clip", ["floor" + here, "zero", "top" + here], [output]),
    ]


def _classifier(symbols):
    return [
        helper.make_node("Flatten", [symbols], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits"]),
    ]


def _to_latent(symbols):
    return [helper.make_node("Cast", [symbols], ["latent"], to=TensorProto.UINT8)]


def _from_latent(symbols):
    return [helper.make_node("Cast", ["latent"], [symbols], to=TensorProto.FLOAT)]


def _model(nodes, source, source_shape, target, target_shape):
    uint8, names = TensorProto.UINT8, {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(source, uint8, ["batch", *source_shape])],
        [
            helper.make_tensor_value_info(
                target, uint8 if target == "latent" else TensorProto.FLOAT, ["batch", *target_shape]
            )
        ],
        [numpy_helper.from_array(array, name) for name, array in _weights().items() if name in names],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _share(models):
    """Move the first kernel of several models into one file; return its content."""
    content = _weights()["kernel1"].tobytes()
    for model in models:
        for tensor in model.graph.initializer:
            if tensor.name == "kernel1":
                onnx.external_data_helper.set_external_data(tensor, SHARED, offset=0, length=len(content))
                tensor.ClearField("raw_data")
    return content


def _models():
    image, logits = ("image", (8, 8, 3)), ("logits", (5,))
    first, second = (("latent", SHAPES[name]) for name in SHAPES)
    heads = {
        "stage.1": _model(_pixels() + _stage(1, "symbols1") + _to_latent("symbols1"), *image, *first),
        "stage.2": _model(
            _pixels() + _stage(1, "symbols1") + _stage(2, "symbols2") + _to_latent("symbols2"), *image, *second
        ),
    }
    tails = {
        "stage.1": _model(_from_latent("symbols1") + _stage(2, "symbols2") + _classifier("symbols2"), *first, *logits),
        "stage.2": _model(_from_latent("symbols2") + _classifier("symbols2"), *second, *logits),
    }
    whole = _model(_pixels() + _stage(1, "symbols1") + _stage(2, "symbols2") + _classifier("symbols2"), *image, *logits)
    return heads, tails, whole


def _codec(cut, coder, images, frame):
    shape, levels = SHAPES[cut], LEVELS[cut]
    quantiser = Quantiser.common(1.0, levels=levels)
    codec = Codec(model="f" * 64, cut=cut, shape=shape, quantiser=quantiser, coder="zstd", frame=frame)
    if coder != "rans":
        return codec
    # Counts of noise: every symbol can be coded.
    rng = np.random.default_rng(1)
    symbols = rng.integers(0, levels, (images, *shape)).astype(np.uint8)
    counts = count_symbols(symbols, channel_axis=codec.channel_axis, levels=levels)
    return codec.with_rans(counts, images=images)


def write_tiny_bundle(directory, *, name="tiny", frame=2):
    """Write the bundle into a directory that is not there yet, and return its manifest.

    `frame` is the version of the frames that its codecs write; bundles of older versions of isplit have the first.
    """
    directory.mkdir()
    heads, tails, whole = _models()
    (directory / SHARED).write_bytes(_share(heads.values()))
    cuts = []
    for cut, coder in zip(SHAPES, ("zstd", "rans"), strict=True):
        files = {"head": f"{cut}.head.onnx", "tail": f"{cut}.tail.onnx", "codec": f"{cut}.codec.npz"}
        onnx.save(heads[cut], directory / files["head"])
        onnx.save(tails[cut], directory / files["tail"])
        codec = _codec(cut, coder, images=50, frame=frame)
        codec.save(directory / files["codec"])
        cuts.append(
            CutPlacement(
                name=cut,
                **files,
                latent_shape=SHAPES[cut],
                accuracy=Accuracy.from_counts(70, 100),
                payload_bytes_mean=60.0,
                payload_bytes_p95=80.0,
                logits_tolerance=0.0,
                head_mac_share=0.5,
            )
        )
    onnx.save(whole, directory / "whole.onnx")
    accuracy = Accuracy.from_counts(80, 100)
    record = BundleRecord(
        name=name,
        isplit_version="0.1.0",
        versions={"onnx": onnx.__version__},
        model_fingerprint="f" * 64,
        group=ClassGroup(name="all", classes=CLASSES, members=tuple((name,) for name in CLASSES)),
        preprocessing=Preprocessing(
            image_size=(8, 8),
            resize_size=8,
            interpolation="bilinear",
            channels=3,
            mean=(128 / 255,) * 3,
            std=(1 / 255,) * 3,
        ),
        base_accuracy=accuracy,
        local=LocalPlacement(file="whole.onnx", accuracy=accuracy),
        remote=RemotePlacement(
            file="whole.onnx",
            accepted_formats=("jpeg", "webp", "png"),
            recommended=ImageSetting(
                format="webp", quality=80, accuracy=accuracy, payload_bytes_mean=90.0, payload_bytes_p95=120.0
            ),
            max_image_bytes=20_000,
            max_image_pixels=1_000_000,
        ),
        cuts=tuple(cuts),
        files={path.name: BundledFile.of(path) for path in sorted(directory.iterdir())},
    )
    record.save(directory)
    return record


@dataclass(frozen=True)
class Tiny:
    """The bundle, 24 images (uint8 24×8×8×3), what the whole model answers (24×5), and each cut's latents."""

    directory: Path
    bundle: Bundle
    images: np.ndarray
    logits: np.ndarray
    latents: dict[str, np.ndarray]


def run_onnx(path, array):
    """Run an ONNX file with one input and one output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {session.get_inputs()[0].name: array})
    return outputs


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The bundle with its images and answers; not to be changed."""
    directory = tmp_path_factory.mktemp("bundles") / "tiny"
    write_tiny_bundle(directory)
    bundle = Bundle.open(directory)
    images = np.random.default_rng(3).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    latents = {cut: run_onnx(bundle.head_path(cut), images) for cut in SHAPES}
    return Tiny(directory, bundle, images, run_onnx(directory / "whole.onnx", images), latents)


@pytest.fixture
def own_bundle(tiny, tmp_path):
    """A copy of the bundle for a test to change."""
    return Path(shutil.copytree(tiny.directory, tmp_path / "bundle"))
