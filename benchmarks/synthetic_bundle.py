"""A bundle without a real model: cuts of any number of bytes, and answers that can be checked to the bit.

    image u8 N×160×160×3 -> the first B bytes = latent of the cut "B" -> first 512 as floats × matrix -> 10 logits

The whole model does the same. Weights are small integers, so that every sum is exact.
"""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from isplit.codec.codec import Codec
from isplit.codec.quantise import Quantiser
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

SIZE = 160
CLASSES = tuple(f"class{number}" for number in range(10))
_FEATURES = 512


def write_bundle(directory: Path, *, payloads: tuple[int, ...]) -> BundleRecord:
    """Write a bundle named "bench" with a cut for each payload of so many bytes (512 or more), coded raw."""
    directory.mkdir(parents=True)
    unmeasured = Accuracy.from_counts(0, 0)
    cuts: list[CutPlacement] = []
    for size in payloads:
        name = str(size)
        files = {"head": f"{name}.head.onnx", "tail": f"{name}.tail.onnx", "codec": f"{name}.codec.npz"}
        onnx.save(_model("image", "latent", size), directory / files["head"])
        onnx.save(_model("latent", "logits", size), directory / files["tail"])
        codec = Codec(model="b" * 64, cut=name, shape=(size,), quantiser=Quantiser.common(1.0, levels=256))
        codec.save(directory / files["codec"])
        cuts.append(
            CutPlacement(
                name=name,
                head=files["head"],
                tail=files["tail"],
                codec=files["codec"],
                latent_shape=(size,),
                accuracy=None,
                payload_bytes_mean=size + 20,
                payload_bytes_p95=size + 20,
                logits_tolerance=0.0,
                head_mac_share=0.5,
            )
        )
    onnx.save(_model("image", "logits", _FEATURES), directory / "whole.onnx")
    setting = ImageSetting(format="jpeg", quality=90, accuracy=None, payload_bytes_mean=0, payload_bytes_p95=0)
    record = BundleRecord(
        name="bench",
        isplit_version="0",
        versions={"onnx": onnx.__version__},
        model_fingerprint="b" * 64,
        group=ClassGroup(name="all", classes=CLASSES, members=tuple((name,) for name in CLASSES)),
        preprocessing=Preprocessing(
            image_size=(SIZE, SIZE),
            resize_size=SIZE,
            interpolation="bilinear",
            channels=3,
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
        ),
        base_accuracy=unmeasured,
        local=LocalPlacement(file="whole.onnx", accuracy=None),
        remote=RemotePlacement(file="whole.onnx", accepted_formats=("jpeg",), recommended=setting),
        cuts=tuple(cuts),
        files={path.name: BundledFile.of(path) for path in sorted(directory.iterdir())},
    )
    record.save(directory)
    return record


def images(count: int) -> NDArray[np.uint8]:
    """Return noise of the model's size."""
    return np.random.default_rng(5).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def _model(source: str, target: str, size: int) -> onnx.ModelProto:
    """Return the part of the model from `source` to `target`."""
    rng = np.random.default_rng(1)
    constants = {
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "size": np.array([size], np.int64),
        "features": np.array([_FEATURES], np.int64),
        "matrix": rng.integers(-3, 4, (_FEATURES, len(CLASSES))).astype(np.float32),
    }
    nodes: list[onnx.NodeProto] = []
    if source == "image":
        last = "latent" if target == "latent" else "bytes"
        nodes += [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("Slice", ["flat", "zero", "size", "one"], [last]),
        ]
    if target == "logits":
        first = "latent" if source == "latent" else "bytes"
        nodes += [
            helper.make_node("Slice", [first, "zero", "features", "one"], ["few"]),
            helper.make_node("Cast", ["few"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["floats", "matrix"], ["logits"]),
        ]
    shapes = {"image": (SIZE, SIZE, 3), "latent": (size,), "logits": (len(CLASSES),)}
    kinds = {"image": TensorProto.UINT8, "latent": TensorProto.UINT8, "logits": TensorProto.FLOAT}
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info(source, kinds[source], ["batch", *shapes[source]])],
        [helper.make_tensor_value_info(target, kinds[target], ["batch", *shapes[target]])],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model
