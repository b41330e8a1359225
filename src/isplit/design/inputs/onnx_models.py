"""Turn ONNX files into modules with onnx2torch, and compare these with onnxruntime."""

import keyword
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from isplit.design.graph.diagnosis import first_line
from isplit.design.inputs.built import Built
from isplit.errors import ModelError, needs_extra
from isplit.records.files import LARGEST_MODEL_BYTES, FileTooLargeError, check_size

_OPSETS = range(9, 18)  # of onnx2torch
_TOLERANCE = 1e-3  # of the largest logit


def is_onnx_file(spec: str) -> bool:
    """Return whether a model's name is that of an ONNX file."""
    return spec.lower().endswith(".onnx")


def build_from_onnx(spec: str) -> Built:
    """Turn an ONNX file into a module.

    The module's layers are called like the file's nodes. The file does not say how its images are prepared, beyond
    their size where that is fixed.

    Raises:
        ModelError: the file cannot be read, does not take one batch of images, or has an operation that onnx2torch
            does not know.
        MissingExtraError: onnx2torch is not installed.

    """
    with needs_extra("onnx"):
        import onnx
        from onnx2torch import convert
    model, shape = _load(spec)
    quantised = sorted({node.op_type for node in model.graph.node if node.op_type in _QUANTISED})
    if quantised:
        msg = f"{spec} is quantised ({', '.join(quantised)}): isplit needs the floating-point model it was made from"
        raise ModelError(msg)
    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not opsets:
        msg = f"{spec} does not say of which version its operations are (opset_import): export it again"
        raise ModelError(msg)
    try:
        if max(opsets) not in _OPSETS:
            model = onnx.version_converter.convert_version(_plain_reshapes(model), _OPSETS[-1])
        module = convert(_with_names_for_modules(model))
    except Exception as error:  # both libraries raise errors of many kinds
        msg = f"{spec} cannot be turned into a module by onnx2torch: {_fault(model, error)}"
        raise ModelError(msg) from error
    hints: dict[str, Any] = {"channels": shape[0]}
    if shape[1] and shape[2]:
        hints["image_size"] = (shape[1], shape[2])
    return Built(module=module.eval(), hints={name: value for name, value in hints.items() if value})


def check_against_onnxruntime(spec: str, images: torch.Tensor, logits: torch.Tensor) -> None:
    """Compare the logits of a module with those of the file that it was made from, on the user's images.

    Args:
        spec: The file.
        images: Normalised images, N×C×H×W.
        logits: The module's logits for them, N×K.

    Raises:
        ModelError: none of the file's outputs is within a thousandth of the largest logit, or onnxruntime cannot run
            the file.

    """
    # onnxruntime takes a while to import, and models of other kinds do not need it.
    from isplit.design.onnx.sessions import run_outputs

    try:
        expected = run_outputs(Path(spec).expanduser(), images.numpy())
    except Exception as error:  # onnxruntime's exceptions share no other base class
        reason = first_line(RuntimeError(" ".join(str(error).split())))  # of sizes that differ, later lines say which
        msg = f"onnxruntime cannot run {spec}, so that nothing tells whether the module is right: {reason}"
        raise ModelError(msg) from error
    limit = _TOLERANCE * max(1.0, float(logits.abs().max()))
    differences = [
        float(np.abs(output.reshape(logits.shape) - logits.numpy()).max())
        for output in expected
        if output.size == logits.numel()
    ]
    if not differences or not min(differences) <= limit:
        described = f"differ by up to {min(differences):.3g}" if differences else "have another shape"
        msg = f"{spec}: the module that onnx2torch made of it answers otherwise than onnxruntime: logits {described}"
        raise ModelError(msg)


_QUANTISED = frozenset(
    ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
     "MatMulInteger", "MatMulNBits")
)  # fmt: skip


def _load(spec: str) -> tuple[Any, tuple[int, int, int]]:
    """Read the file; return it with the C, H, W of its images, 0 where they are open."""
    import onnx

    path = Path(spec).expanduser()
    try:
        check_size(path, limit_bytes=LARGEST_MODEL_BYTES, kind="an ONNX model")
    except FileTooLargeError as error:
        raise ModelError(str(error)) from error
    except (OSError, ValueError) as error:  # ValueError: the name has a NUL byte
        reason = getattr(error, "strerror", None) or error
        msg = f"cannot read {spec}: {reason}; give the path of an ONNX model"
        raise ModelError(msg) from error
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf, onnx, and a missing file of weights
        msg = f"{spec} cannot be read as an ONNX model: {first_line(error)}"
        raise ModelError(msg) from error
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    sizes = [[dimension.dim_value for dimension in value.type.tensor_type.shape.dim] for value in inputs]
    if len(inputs) != 1 or len(sizes[0]) != 4:
        names = ", ".join(f"{value.name} {size}" for value, size in zip(inputs, sizes, strict=True))
        msg = f"{spec} takes {names or 'nothing'}: isplit needs one input, a batch of images N×C×H×W"
        raise ModelError(msg)
    if sizes[0][3] in _USUAL_CHANNELS and sizes[0][1] not in _USUAL_CHANNELS:
        msg = (
            f"{spec} takes {inputs[0].name} {sizes[0]}, so its images have their channels last (N×H×W×C): export it "
            "for N×C×H×W"
        )
        raise ModelError(msg)
    kind = inputs[0].type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        msg = f"{spec} takes images of type {onnx.TensorProto.DataType.Name(kind)}: isplit gives it float32"
        raise ModelError(msg)
    return model, (sizes[0][1], sizes[0][2], sizes[0][3])


_USUAL_CHANNELS = (1, 3)


def _with_names_for_modules(model: Any) -> Any:
    """Rename nodes that are called like something that a module of torch.fx has ("forward"), or like a keyword.

    A name of several parts ("model/type/Relu") is never one of these, because onnx2torch makes no modules of the parts.
    """
    taken = frozenset((*dir(fx.GraphModule(nn.Module(), fx.Graph())), *keyword.kwlist))
    for node in model.graph.node:
        if node.name in taken:
            node.name += "_"
    return model


def _fault(model: Any, error: Exception) -> str:
    """Return in a line why onnx2torch cannot turn a model into a module.

    Of values that nothing in the model computes onnx2torch says the name only; the checker of onnx says what is wrong.
    """
    import onnx

    if isinstance(error, KeyError):
        try:
            onnx.checker.check_model(model)
        except Exception as fault:  # noqa: BLE001 - the checker's own error, and those of damaged fields
            return first_line(fault)
    return first_line(error)


def _plain_reshapes(model: Any) -> Any:
    """Let a 0 in a Reshape's shape mean what it meant in older opsets, where the shape is known to hold none."""
    import onnx

    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        shape = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is not None and 0 not in shape:
            kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return model
