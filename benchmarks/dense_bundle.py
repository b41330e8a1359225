"""Bundles for benchmarks of the runtime: made up, of any size, in a second, without torch.

    image u8 N×H×W×3 -> conv s×s/s (s = 8), relu, 0..255 -> latent u8 N×C×h×w
    -> convolutions 3×3, if any -> flatten -> dense layers -> logits

The cuts `rans`, `zstd`, `rle` and `raw` share one head and one tail and differ in how their payload is coded. Weights
are random: what is measured depends on shapes alone.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
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

STRIDE = 8
CLASSES = 20
CODERS = ("rans", "zstd", "rle", "raw")
FINGERPRINT = "b" * 64


def write_bundle(
    directory: Path, *, channels: int, side: int, hidden: tuple[int, ...], convolutions: int = 0
) -> BundleRecord:
    """Write a bundle with a latent of channels × side × side; its tail has convolutions, and dense layers so wide."""
    directory.mkdir(parents=True)
    rng = np.random.default_rng(0)
    weights = _weights(rng, channels, side, hidden)
    for layer in range(convolutions):
        kernel = rng.standard_normal((channels, channels, 3, 3), np.float32)
        weights[f"kernel{layer}"] = kernel / np.float32(np.sqrt(9 * channels))
    pixels, latent = (side * STRIDE, side * STRIDE, 3), (channels, side, side)
    to_latent = helper.make_node("Cast", ["symbols"], ["latent"], to=TensorProto.UINT8)
    from_latent = helper.make_node("Cast", ["latent"], ["symbols"], to=TensorProto.FLOAT)
    _save(directory / "head.onnx", [*_head(), to_latent], weights, ("image", pixels), ("latent", latent))
    tail, logits = _tail(hidden, convolutions), ("logits", (CLASSES,))
    _save(directory / "tail.onnx", [from_latent, *tail], weights, ("latent", latent), logits)
    _save(directory / "whole.onnx", [*_head(), *tail], weights, ("image", pixels), logits)
    cuts = tuple(_cut(directory, coder, latent, rng) for coder in CODERS)
    accuracy = Accuracy.from_counts(0, 0)
    setting = ImageSetting(format="jpeg", quality=80, accuracy=None, payload_bytes_mean=0.0, payload_bytes_p95=0.0)
    record = BundleRecord(
        name="bench",
        isplit_version="0",
        versions={},
        model_fingerprint=FINGERPRINT,
        group=ClassGroup(
            name="all",
            classes=tuple(f"c{k}" for k in range(CLASSES)),
            members=tuple((f"c{k}",) for k in range(CLASSES)),
        ),
        preprocessing=Preprocessing(
            image_size=pixels[:2],
            resize_size=None,
            interpolation="bilinear",
            channels=3,
            mean=(0.5,) * 3,
            std=(1 / 255,) * 3,
        ),
        base_accuracy=accuracy,
        local=LocalPlacement(file="whole.onnx", accuracy=None),
        remote=RemotePlacement(
            file="whole.onnx",
            accepted_formats=("jpeg", "webp", "png"),
            recommended=setting,
            max_image_bytes=2**18,
            max_image_pixels=2**20,
        ),
        cuts=cuts,
        files={path.name: BundledFile.of(path) for path in sorted(directory.iterdir())},
    )
    record.save(directory)
    return record


def latents(record: BundleRecord, count: int) -> NDArray[np.uint8]:
    """Return symbols as a codec of this bundle expects them: noise around the middle level."""
    noise = np.random.default_rng(1).laplace(scale=4, size=(count, *record.cuts[0].latent_shape))
    return np.clip(np.rint(noise) + 128, 0, 255).astype(np.uint8)


def _weights(
    rng: np.random.Generator, channels: int, side: int, hidden: tuple[int, ...]
) -> dict[str, NDArray[np.float32]]:
    widths = (channels * side * side, *hidden, CLASSES)
    weights = {
        "middle": np.array(128, np.float32),
        "zero": np.array(0, np.float32),
        "top": np.array(255, np.float32),
        "kernel": rng.normal(scale=0.1, size=(channels, 3, STRIDE, STRIDE)).astype(np.float32),
    }
    for layer, (before, after) in enumerate(pairwise(widths)):
        matrix = rng.standard_normal((before, after), np.float32) / np.float32(np.sqrt(before))
        weights[f"matrix{layer}"] = matrix
    return weights


def _head() -> list[Any]:
    return [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "middle"], ["normal"]),
        helper.make_node("Transpose", ["normal"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["map"], strides=[STRIDE, STRIDE]),
        helper.make_node("Floor", ["map"], ["floor"]),
        helper.make_node("Clip", ["floor", "zero", "top"], ["symbols"]),
    ]


def _tail(hidden: tuple[int, ...], convolutions: int) -> list[Any]:
    nodes: list[Any] = []
    before = "symbols"
    for layer in range(convolutions):
        nodes += [
            helper.make_node("Conv", [before, f"kernel{layer}"], [f"map{layer}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"map{layer}"], [f"part{layer}"]),
        ]
        before = f"part{layer}"
    nodes.append(helper.make_node("Flatten", [before], ["wide0"]))
    for layer in range(len(hidden)):
        nodes += [
            helper.make_node("MatMul", [f"wide{layer}", f"matrix{layer}"], [f"dense{layer}"]),
            helper.make_node("Relu", [f"dense{layer}"], [f"wide{layer + 1}"]),
        ]
    last = len(hidden)
    return [*nodes, helper.make_node("MatMul", [f"wide{last}", f"matrix{last}"], ["logits"])]


def _save(
    path: Path,
    nodes: list[Any],
    weights: dict[str, NDArray[np.float32]],
    source: tuple[str, tuple[int, ...]],
    target: tuple[str, tuple[int, ...]],
) -> None:
    used = {name for node in nodes for name in node.input}
    target_type = TensorProto.UINT8 if target[0] == "latent" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info(source[0], TensorProto.UINT8, ["batch", *source[1]])],
        [helper.make_tensor_value_info(target[0], target_type, ["batch", *target[1]])],
        [numpy_helper.from_array(array, name) for name, array in weights.items() if name in used],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


def _cut(directory: Path, coder: str, shape: tuple[int, ...], rng: np.random.Generator) -> CutPlacement:
    codec = Codec(model=FINGERPRINT, cut=coder, shape=shape, quantiser=Quantiser.common(1.0), coder="raw")
    if coder == "rans":
        samples = [rng.laplace(scale=4, size=shape).astype(np.float32) for _ in range(20)]
        symbols = np.stack([codec.quantiser.quantise(sample) for sample in samples])
        counts = count_symbols(symbols, channel_axis=codec.channel_axis, levels=codec.quantiser.levels)
        codec = codec.with_rans(counts, images=len(samples))
    else:
        codec = Codec(model=codec.model, cut=coder, shape=shape, quantiser=codec.quantiser, coder=coder)  # type: ignore[arg-type]
    codec.save(directory / f"{coder}.npz")
    return CutPlacement(
        name=coder,
        head="head.onnx",
        tail="tail.onnx",
        codec=f"{coder}.npz",
        latent_shape=shape,
        accuracy=None,
        payload_bytes_mean=0.0,
        payload_bytes_p95=0.0,
        logits_tolerance=0.0,
        head_mac_share=0.5,
    )
