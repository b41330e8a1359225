"""Write modules as ONNX files with torch's dynamo exporter, and their weights to a file that all models share."""

import functools
import hashlib
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import onnx
import torch
from onnx import numpy_helper
from torch import nn

from isplit.design.onnx.reduced_precision import compute_in_float32
from isplit.design.running import evaluating
from isplit.errors import ModelError

OPSET = 18
BATCH = "batch"
"""The name of the first dimension of every input and output."""

WEIGHTS = "weights.bin"
"""The file with the weights of all models of a bundle."""

# Smaller tensors stay in the model, among them the shapes that onnxruntime needs for planning.
_SMALLEST_SHARED_BYTES = 1024
# A file is mapped into memory in pages, so large tensors start at a page.
_PAGE_BYTES, _ALIGNED_BYTES = 4096, 64


def to_onnx(
    module: nn.Module,
    example: torch.Tensor,
    *,
    source: str,
    target: str,
    earlier_targets: Sequence[str] = (),
    any_batch: bool = True,
) -> onnx.ModelProto:
    """Export a module of one input, for any batch or for batches as large as the example.

    Args:
        module: It is exported in evaluation mode.
        example: An input. For any batch it has at least two images: with one, the exporter would take the batch for a
            constant.
        source: The input's name.
        target: The name of the output, or of the last one if the module returns a tuple.
        earlier_targets: The names of the outputs before the last one.
        any_batch: Whether the file takes batches of any size. A fixed size is exported in half of the time, because
            the exporter computes with numbers in place of symbols (MobileNetV2, torch 2.14: 10 s and 20 s).

    Raises:
        ModelError: the exporter has no ONNX for something that the module does.

    """
    assert len(example) > 1 or not any_batch
    try:
        with evaluating(module), torch.no_grad(), _one_table_of_operations():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[source],
                output_names=[*earlier_targets, target],
                dynamic_shapes=({0: torch.export.Dim(BATCH, min=1)},) if any_batch else None,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter and its callees raise errors of every kind
        msg = f"torch.onnx cannot export the part of the model that gives {target!r}: {_reason(error)}"
        raise ModelError(msg) from error
    assert program is not None
    model = program.model_proto
    # If a module turns the batch size into a number of its own, the exporter silently takes it for a constant.
    if any_batch and any(
        value.type.tensor_type.shape.dim[0].dim_param != BATCH for value in (*model.graph.input, model.graph.output[-1])
    ):
        msg = f"the part of the model that gives {target!r} can only be exported for {len(example)} images at a time"
        raise ModelError(msg)
    compute_in_float32(model)
    _forget_origin(model)
    return model


@contextmanager
def _one_table_of_operations() -> Generator[None]:
    """Let torch.onnx use one table of operations for all exports of a process.

    torch makes this table anew for each export, which takes more than half of the time for a small module, and only
    reads it afterwards. Where a release of torch keeps it elsewhere, an export is slower and otherwise the same.
    """
    try:
        registry, cached = _cached_table()
    except (ImportError, AttributeError):
        yield
        return
    original = vars(registry)["from_torchlib"]
    registry.from_torchlib = staticmethod(cached)
    try:
        yield
    finally:
        registry.from_torchlib = original


@functools.cache
def _cached_table() -> tuple[Any, Callable[..., Any]]:
    from torch.onnx._internal.exporter import _registration

    registry: Any = _registration.ONNXRegistry
    return registry, functools.cache(registry.from_torchlib)


def _reason(error: BaseException) -> str:
    """Return the first line of the error that the exporter's own summary was raised from.

    The summary names the step of the exporter; the first error of the chain names the operation.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return _TERMINAL_CODE.sub("", line)


_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;]*m")


def _forget_origin(model: onnx.ModelProto) -> None:
    """Remove stack traces and names of source files, so that a bundle says nothing about the machine that made it.

    A node's `doc_string` still names the part of the exported module that it belongs to (head, encoder, ...).
    """
    model.producer_name, model.doc_string = "isplit", ""
    del model.metadata_props[:]
    for graph in _graphs(model.graph):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
            value.doc_string = ""
            del value.metadata_props[:]
        for node in graph.node:
            node.doc_string = _part(node)
            del node.metadata_props[:]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)


class WeightsFile:
    """Stores the weights of all models in one file, where equal bytes are stored once.

    Use it as a context manager; `add` while it is open.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / WEIGHTS
        self._file: BinaryIO | None = None
        self._places: dict[bytes, int] = {}
        self.shared_bytes = 0

    def __enter__(self) -> Self:
        self._file = self._path.open("xb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()

    def add(self, model: onnx.ModelProto) -> None:
        """Move a model's large tensors into the file. This changes the model, which is then small."""
        for graph in _graphs(model.graph):
            for tensor in graph.initializer:
                content = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
                if len(content) < _SMALLEST_SHARED_BYTES:
                    continue
                offset = self._place(content)
                for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                    tensor.ClearField(name)
                tensor.data_location = onnx.TensorProto.EXTERNAL
                for key, value in (("location", WEIGHTS), ("offset", offset), ("length", len(content))):
                    tensor.external_data.add(key=key, value=str(value))

    def _place(self, content: bytes) -> int:
        assert self._file is not None
        digest = hashlib.sha256(content).digest()
        if digest in self._places:
            self.shared_bytes += len(content)
            return self._places[digest]
        step = _PAGE_BYTES if len(content) >= _PAGE_BYTES else _ALIGNED_BYTES
        end = self._file.tell()
        self._file.write(bytes(-end % step))
        self._places[digest] = self._file.tell()
        self._file.write(content)
        return self._places[digest]


def weight_bytes(model: onnx.ModelProto) -> int:
    """Return the number of bytes of a model's tensors; none of them may be in another file."""
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)


def export_versions() -> dict[str, str]:
    """Return the versions of the software that made the files, and the ONNX opset."""
    names = ("onnx", "onnxscript", "onnxruntime")
    return {name: metadata.version(name) for name in names} | {"opset": str(OPSET)}


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Write a model with its weights inside, at most 2 GiB."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def _part(node: onnx.NodeProto) -> str:
    """Return the name of the exported module's child of a node, as the exporter recorded it; "" for none."""
    notes = {entry.key: entry.value for entry in node.metadata_props}
    # ": package.HeadModel/encoder: package.Encode/view: aten.view.default"
    scopes = notes.get("namespace", "").split("/")
    return scopes[1].partition(":")[0].partition(".")[0] if len(scopes) > 2 else ""
