"""From the bytes of a ModelInferRequest to the content of its one tensor, every count and size checked on the way.

Nothing is copied before its length is known to be right, and no message is built before it is known to be small:
protobuf turns two bytes of an empty submessage into hundreds in memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, cast

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2  # pyright: ignore[reportMissingTypeStubs]

from isplit.runtime.names import MODEL_SHA256
from isplit.runtime.protobuf import LENGTH_DELIMITED, MalformedError, fields
from isplit.runtime.server.refusal import RefusedError, invalid

# The generated module is made at run time, so that type checkers know nothing of it.
messages: Any = service_pb2

OUTPUT = "logits"
VERSION = "1"
"""Of every model: a changed model is another bundle."""

_FIELDS, _FIELDS_PER_ROW = 256, 4
"""The most that a request may have. A client's has some 20, and one for each payload that it does not send raw."""

# Where fields may hold fields: request -> inputs, outputs, parameters; input -> contents.
_PARAMETERS, _INPUTS, _OUTPUTS, _CONTENTS = 4, 5, 6, 5
_INNER: dict[int, Any] = {_INPUTS: {_PARAMETERS: {}, _CONTENTS: {}}, _OUTPUTS: {_PARAMETERS: {}}}

_PREFIX_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One way to feed a model: `shape` is of one image. An element of a BYTES tensor has at most `max_bytes`."""

    name: str
    datatype: Literal["BYTES", "UINT8"]
    shape: tuple[int, ...] = ()
    max_bytes: int = 0

    @property
    def row_bytes(self) -> int:
        """The most that one image takes on the wire."""
        return prod(self.shape) if self.datatype == "UINT8" else self.max_bytes + _PREFIX_BYTES


@dataclass(frozen=True, kw_only=True)
class Content:
    """A tensor that fits its specification: the elements of a BYTES tensor, or the values of a UINT8 one."""

    spec: TensorSpec
    rows: int
    elements: tuple[bytes, ...] = ()
    values: NDArray[np.uint8] | None = None


def parse(raw: bytes, *, max_rows: int) -> Any:
    """Return the ModelInferRequest in a message.

    Raises:
        RefusedError: it is none, or has more fields than any request needs.

    """
    try:
        _count(raw, 0, len(raw), _INNER, _FIELDS + _FIELDS_PER_ROW * max_rows)
        return messages.ModelInferRequest.FromString(raw)
    except (MalformedError, DecodeError) as error:
        msg = f"the message is not a ModelInferRequest: {error}"
        raise invalid(msg) from error


def _count(raw: bytes, start: int, end: int, inner: dict[int, Any], left: int) -> int:
    """Return how many of `left` fields remain after those of a message, submessages included."""
    for field in fields(raw, start, end):
        left -= 1
        if left < 0:
            msg = "it has more fields than any request needs"
            raise MalformedError(msg)
        if field.number in inner and field.wire_type == LENGTH_DELIMITED:
            left = _count(raw, field.start, field.end, inner[field.number], left)
    return left


def check_file(request: Any, sha256: str) -> None:
    """Refuse a request that is meant for another ONNX file than the one that its model runs.

    Raises:
        RefusedError: the request names a file, and it is not this one.

    """
    if MODEL_SHA256 in request.parameters:
        wanted = str(request.parameters[MODEL_SHA256].string_param)
        if wanted != sha256:
            msg = (
                f"the model {request.model_name!r} here runs the file with the SHA-256 {sha256[:16]}…, the request is "
                f"meant for {wanted[:16]!r}…: this server has another bundle"
            )
            raise invalid(msg)


def read_content(request: Any, specs: Mapping[str, TensorSpec], *, max_rows: int) -> Content:
    """Return the content of a request's only tensor.

    Raises:
        RefusedError: the tensor is not one of `specs`, or its content is not what its shape says.

    """
    if request.model_version not in ("", VERSION):
        msg = f"there is no version {request.model_version!r}: give {VERSION!r} or none"
        raise RefusedError("NOT_FOUND", msg)
    if unknown := [output.name for output in request.outputs if output.name != OUTPUT]:
        msg = f"there is no output {unknown[0]!r}: ask for {OUTPUT!r} or for none"
        raise invalid(msg)
    wanted = " or ".join(f"{spec.name!r} {spec.datatype}" for spec in specs.values())
    if len(request.inputs) != 1:
        msg = f"{len(request.inputs)} input tensors: give one, {wanted}"
        raise invalid(msg)
    tensor = request.inputs[0]
    spec = specs.get(tensor.name)
    if spec is None or tensor.datatype != spec.datatype:
        msg = f"the input is {tensor.name!r} {tensor.datatype!r}: give {wanted}"
        raise invalid(msg)
    rows = _rows(spec, tuple(cast("list[int]", tensor.shape)), max_rows=max_rows)
    raw = _raw(request, tensor)
    if spec.datatype == "UINT8":
        values = _values(spec, rows, raw, cast("list[int]", tensor.contents.uint_contents))
        return Content(spec=spec, rows=rows, values=values)
    elements = list(cast("list[bytes]", tensor.contents.bytes_contents)) if raw is None else _split(spec, rows, raw)
    if len(elements) != rows or any(len(element) > spec.max_bytes for element in elements):
        longest = max((len(element) for element in elements), default=0)
        msg = (
            f"{spec.name!r} has {len(elements)} elements of up to {longest} bytes, its shape says {rows} of at most "
            f"{spec.max_bytes}"
        )
        raise invalid(msg)
    return Content(spec=spec, rows=rows, elements=tuple(elements))


def _rows(spec: TensorSpec, shape: tuple[int, ...], *, max_rows: int) -> int:
    if len(shape) != 1 + len(spec.shape) or shape[1:] != spec.shape or not 1 <= shape[0] <= max_rows:
        wanted = ", ".join(str(extent) for extent in ("N", *spec.shape))
        msg = f"{spec.name!r} has the shape {list(shape)[:8]}: give [{wanted}] with N from 1 to {max_rows}"
        raise invalid(msg)
    return shape[0]


def _raw(request: Any, tensor: Any) -> bytes | None:
    """Return the raw content; None where there is none, so that it must be in the tensor's `contents`."""
    raw = cast("list[bytes]", request.raw_input_contents)
    if len(raw) > 1 or (raw and tensor.HasField("contents")):
        msg = "there is more content than one tensor's: give it once, in raw_input_contents or in contents"
        raise invalid(msg)
    return raw[0] if raw else None


def _values(spec: TensorSpec, rows: int, raw: bytes | None, contents: list[int]) -> NDArray[np.uint8]:
    wanted, got = rows * prod(spec.shape), len(contents) if raw is None else len(raw)
    if got != wanted:
        msg = f"{spec.name!r} has {got} values, its shape says {wanted}"
        raise invalid(msg)
    if raw is None:
        numbers = np.fromiter(contents, np.uint32, count=got)
        if numbers.max() > 255:
            msg = f"{spec.name!r} holds {numbers.max()}: UINT8 ends at 255"
            raise invalid(msg)
        return numbers.astype(np.uint8).reshape(rows, *spec.shape)
    return np.frombuffer(raw, np.uint8).reshape(rows, *spec.shape)


def _split(spec: TensorSpec, rows: int, raw: bytes) -> list[bytes]:
    """Cut raw content into its elements, each after its length: four bytes, little endian."""
    elements: list[bytes] = []
    at = 0
    while at < len(raw):
        start = at + _PREFIX_BYTES
        at = start + int.from_bytes(raw[at:start], "little")
        if start > len(raw) or at > len(raw) or len(elements) == rows or at - start > spec.max_bytes:
            msg = (
                f"{spec.name!r} is not {rows} elements of at most {spec.max_bytes} bytes, each after its length "
                f"(4 bytes, little endian): element {len(elements)} ends at byte {at} of {len(raw)}"
            )
            raise invalid(msg)
        elements.append(raw[start:at])
    return elements
