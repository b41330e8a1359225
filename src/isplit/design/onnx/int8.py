"""Quantise heads statically to eight bits with onnxruntime, and measure the cost."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from isplit.design.export_settings import ExportSettings
from isplit.design.onnx.compare import TorchSplit, load_pixels, run_file
from isplit.design.onnx.files import save_onnx, weight_bytes
from isplit.design.onnx.modules import ENCODER
from isplit.design.splits import ChosenSplit
from isplit.design.study import StudyView
from isplit.errors import ExportError
from isplit.records import Accuracy, Int8Cost, Paired, PayloadBytes

_OPERATORS = ["Conv", "Gemm", "MatMul"]
_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Int8Measured:
    """The cost of an int8 head: accuracy, equal answers and payload bytes."""

    cost: Int8Cost
    payload_bytes: PayloadBytes


def quantise_head(path: Path, calibration: NDArray[np.uint8]) -> onnx.ModelProto:
    """Quantise the products of a head: weights per channel, activations by their ranges on images.

    The encoder stays in float32: it is small, and its output is quantised with the codec's own steps. Weights get
    seven bits: with eight, the 16-bit sums of some x86 processors saturate, and machines would answer differently.

    Raises:
        ExportError: onnxruntime cannot quantise it.

    """
    with TemporaryDirectory(prefix="isplit-int8-") as scratch, _quiet():
        fused, quantised = Path(scratch) / "fused.onnx", Path(scratch) / "int8.onnx"
        try:
            # This folds batch normalisation into the convolutions, because quantising them separately would lose more.
            quant_pre_process(str(path), str(fused), skip_symbolic_shape=True)
            quantize_static(
                str(fused),
                str(quantised),
                _Reader(calibration),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_OPERATORS,
                nodes_to_exclude=[node.name for node in onnx.load(path).graph.node if node.doc_string == ENCODER],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except Exception as error:  # onnxruntime's errors share no other base class
            reason = " ".join(str(error).split())[:300]
            msg = f"onnxruntime cannot quantise {path.name}: {reason}; export without `int8=True`"
            raise ExportError(msg) from error
        return onnx.load(quantised)


def measure_int8(
    view: StudyView,
    chosen: ChosenSplit,
    head: onnx.ModelProto,
    float32_head: Path,
    *,
    settings: ExportSettings,
) -> Int8Measured:
    """Run both heads on images of the select part, through the same tail, and compare accuracy and bytes."""
    indices = view.images("select", limit=settings.int8_images)
    labels = view.labels(indices)
    pixels = load_pixels(view, "select", limit=settings.int8_images)
    int8_head = float32_head.with_suffix(".int8.onnx")
    save_onnx(head, int8_head)
    before, after = run_file(float32_head, pixels), run_file(int8_head, pixels)
    tail = TorchSplit(view, chosen)
    answers_before, answers_after = (tail.logits(latents).argmax(1) for latents in (before, after))
    codec = chosen.built.codec
    payload = PayloadBytes.from_lengths(codec.payload_bytes(after))
    cost = Int8Cost(
        calibration_images=settings.calibration_images,
        float32_accuracy=_accuracy(answers_before == labels),
        accuracy=_accuracy(answers_after == labels),
        against_float32=Paired.from_answers(answers_before == labels, answers_after == labels),
        agreement=float((answers_before == answers_after).mean()),
        latents_different_share=float((before != after).mean()),
        float32_payload_bytes_mean=float(codec.payload_bytes(before).mean()),
        payload_bytes_mean=payload.mean,
        float32_head_bytes=weight_bytes(onnx.load(float32_head)),
        head_bytes=weight_bytes(head),
    )
    return Int8Measured(cost=cost, payload_bytes=payload)


def _accuracy(right: NDArray[np.bool_]) -> Accuracy:
    return Accuracy.from_counts(int(right.sum()), len(right))


class _Reader(CalibrationDataReader):
    """Passes a few images at a time to the calibration."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._batches = iter([pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)])

    def get_next(self) -> dict[str, Any] | None:  # type: ignore[override] - its annotation leaves the end out
        """Return the next batch by the input's name, or None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


@contextmanager
def _quiet() -> Generator[None]:
    """Keep onnxruntime's advice for callers of its tools off the user's screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
