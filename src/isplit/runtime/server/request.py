"""Parse the bytes of a ModelInferRequest to the content of its one tensor, checking every count and size on the way.

Nothing is copied before its length is checked, and no message is built before it is known to be small: protobuf turns
two bytes of an empty submessage into hundreds in memory. The contents of tensors, nearly all of a long request, stay
where they arrived; protobuf would copy them twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, cast

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2  # pyright: ignore[reportMissingTypeStubs]

from isplit.runtime.names import MODEL_SHA256
from isplit.runtime.protobuf import LENGTH_DELIMITED, Field, MalformedError, fields
from isplit.runtime.server.refusal import RefusedError, invalid

# Type checkers know nothing of the generated module, because it is made at run time.
messages: Any = service_pb2

OUTPUT = "logits"
VERSION = "1"
"""The version of every model. A changed model is another bundle."""

_FIELDS, _FIELDS_PER_ROW = 256, 4
"""The most fields that a request may have. A client sends about 20, and one for each payload that it does not send
raw.
"""

_MAX_REST_BYTES = 2**16
"""Most bytes of a message without the contents of its tensors: names, shapes and parameters."""

_MAX_TYPED_BYTES = 2**22
"""Most bytes of numbers in `contents`, which take several times their size while they are read. Raw content is not
limited.
"""

# Numbers of protobuf fields: of a request, of an input, and of its contents.
_INPUTS, _OUTPUTS, _RAW = 5, 6, 7
_CONTENTS = 5
_UINT_CONTENTS, _BYTES_CONTENTS = 4, 8

_PREFIX_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input that a model accepts: the `shape` of one image, and the most bytes of an element of a BYTES tensor."""

    name: str
    datatype: Literal["BYTES", "UINT8"]
    shape: tuple[int, ...] = ()
    max_bytes: int = 0

    @property
    def row_bytes(self) -> int:
        """The most bytes that one image takes on the wire."""
        return prod(self.shape) if self.datatype == "UINT8" else self.max_bytes + _PREFIX_BYTES


@dataclass(frozen=True, kw_only=True)
class Content:
    """A tensor that fits its specification: the elements of a BYTES tensor, or the values of a UINT8 tensor.

    Both are views of the message, whose memory they keep alive.
    """

    spec: TensorSpec
    rows: int
    elements: tuple[memoryview, ...] = ()
    values: NDArray[np.uint8] | None = None


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """A ModelInferRequest whose tensor contents were left in place: `message` has everything else.

    `raw` are views of raw_input_contents. `typed_numbers` and `typed_bytes` are views of the uint_contents and the
    bytes_contents of the inputs' `contents`, and `has_contents` says whether there were any `contents`.
    """

    message: Any
    raw: tuple[memoryview, ...]
    has_contents: bool
    typed_numbers: tuple[memoryview, ...]
    typed_bytes: tuple[memoryview, ...]


class _Walk:
    """Collects the contents of a message while its fields are counted."""

    def __init__(self, raw: memoryview, max_fields: int) -> None:
        self._raw = raw
        self._fields_left = max_fields
        self.raw: list[memoryview] = []
        self.typed_numbers: list[memoryview] = []
        self.typed_bytes: list[memoryview] = []
        self.has_contents = False

    def strip_request(self) -> bytes:
        """Return the message without the contents of its tensors."""
        kept = bytearray()
        previous_end = 0
        for field in self._fields(0, len(self._raw)):
            is_nested = field.wire_type == LENGTH_DELIMITED
            if field.number == _RAW and is_nested:
                self.raw.append(self._raw[field.start : field.end])
            elif field.number == _INPUTS and is_nested:
                self._keep(kept, b"\x2a", self._strip_input(field))
            else:
                if field.number == _OUTPUTS and is_nested:
                    self._count(field.start, field.end)
                self._keep(kept, b"", self._raw[previous_end : field.end])
            previous_end = field.end
        return bytes(kept)

    def _strip_input(self, tensor: Field) -> bytearray:
        kept = bytearray()
        previous_end = tensor.start
        for field in self._fields(tensor.start, tensor.end):
            if field.number == _CONTENTS and field.wire_type == LENGTH_DELIMITED:
                self._take_contents(field)
            else:
                self._keep(kept, b"", self._raw[previous_end : field.end])
            previous_end = field.end
        return kept

    def _take_contents(self, contents: Field) -> None:
        self.has_contents = True
        for field in self._fields(contents.start, contents.end):
            content = self._raw[field.start : field.end]
            if field.number == _UINT_CONTENTS and field.wire_type in (0, LENGTH_DELIMITED):
                self.typed_numbers.append(content)
            elif field.number == _BYTES_CONTENTS and field.wire_type == LENGTH_DELIMITED:
                self.typed_bytes.append(content)

    def _count(self, start: int, end: int) -> None:
        for _ in self._fields(start, end):
            pass

    def _fields(self, start: int, end: int) -> Iterator[Field]:
        for field in fields(self._raw, start, end):
            self._fields_left -= 1
            if self._fields_left < 0:
                msg = "it has more fields than any request needs"
                raise MalformedError(msg)
            yield field

    @staticmethod
    def _keep(kept: bytearray, tag: bytes, content: memoryview | bytearray) -> None:
        if len(kept) + len(content) > _MAX_REST_BYTES:
            msg = f"it has more than {_MAX_REST_BYTES} bytes beside its tensors' contents"
            raise MalformedError(msg)
        if tag:
            length, varint = len(content), bytearray(tag)
            while length >= 0x80:
                varint.append(length & 0x7F | 0x80)
                length >>= 7
            varint.append(length)
            kept += varint
        kept += content


def parse(raw: memoryview, *, max_rows: int) -> InferRequest:
    """Return the ModelInferRequest in a message.

    Raises:
        RefusedError: The bytes are not such a message, or it has more fields than any request needs.

    """
    walk = _Walk(raw, _FIELDS + _FIELDS_PER_ROW * max_rows)
    try:
        message = messages.ModelInferRequest.FromString(walk.strip_request())
    except (MalformedError, DecodeError) as error:
        msg = f"the message is not a ModelInferRequest: {error}"
        raise invalid(msg) from error
    return InferRequest(
        message=message,
        raw=tuple(walk.raw),
        has_contents=walk.has_contents,
        typed_numbers=tuple(walk.typed_numbers),
        typed_bytes=tuple(walk.typed_bytes),
    )


def check_file(message: Any, sha256: str) -> None:
    """Refuse a request that is meant for another ONNX file than the one that the model runs.

    Raises:
        RefusedError: the request names another file.

    """
    if MODEL_SHA256 in message.parameters:
        wanted = str(message.parameters[MODEL_SHA256].string_param)
        if fault := file_fault(message.model_name, sha256, wanted):
            raise invalid(fault)


def file_fault(model: str, sha256: str, wanted: str) -> str | None:
    """Say that a request is meant for another file than the one that its model runs; None if it is not."""
    if wanted == sha256:
        return None
    return (
        f"the model {model!r} here runs the file with the SHA-256 {sha256[:16]}…, the request is meant for "
        f"{wanted[:16]!r}…: this server has another bundle"
    )


def read_content(request: InferRequest, specs: Mapping[str, TensorSpec], *, max_rows: int) -> Content:
    """Return the content of a request's only tensor.

    Raises:
        RefusedError: The tensor is not one of `specs`, or its content does not fit its shape.

    """
    message = request.message
    if message.model_version not in ("", VERSION):
        msg = f"there is no version {message.model_version!r}: give {VERSION!r} or none"
        raise RefusedError("NOT_FOUND", msg)
    if unknown := [output.name for output in message.outputs if output.name != OUTPUT]:
        msg = f"there is no output {unknown[0]!r}: ask for {OUTPUT!r} or for none"
        raise invalid(msg)
    wanted = " or ".join(f"{spec.name!r} {spec.datatype}" for spec in specs.values())
    if len(message.inputs) != 1:
        msg = f"{len(message.inputs)} input tensors: give one, {wanted}"
        raise invalid(msg)
    tensor = message.inputs[0]
    spec = specs.get(tensor.name)
    if spec is None or tensor.datatype != spec.datatype:
        msg = f"the input is {tensor.name!r} {tensor.datatype!r}: give {wanted}"
        raise invalid(msg)
    rows = _rows(spec, tuple(cast("list[int]", tensor.shape)), max_rows=max_rows)
    if len(request.raw) > 1 or (request.raw and request.has_contents):
        msg = "there is more content than one tensor's: give it once, in raw_input_contents or in contents"
        raise invalid(msg)
    raw = request.raw[0] if request.raw else None
    if spec.datatype == "UINT8":
        return Content(spec=spec, rows=rows, values=_values(spec, rows, raw, request.typed_numbers))
    elements = list(request.typed_bytes) if raw is None else _split(spec, rows, raw)
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


def _values(spec: TensorSpec, rows: int, raw: memoryview | None, numbers: tuple[memoryview, ...]) -> NDArray[np.uint8]:
    wanted = rows * prod(spec.shape)
    values = _typed_values(spec, numbers) if raw is None else np.frombuffer(raw, np.uint8)
    if len(values) != wanted:
        msg = f"{spec.name!r} has {len(values)} values, its shape says {wanted}"
        raise invalid(msg)
    return values.reshape(rows, *spec.shape)


def _typed_values(spec: TensorSpec, numbers: tuple[memoryview, ...]) -> NDArray[np.uint8]:
    """Return the values of varints, packed or not. A value has one byte up to 127 and two up to 255."""
    size = sum(len(number) for number in numbers)
    if size > _MAX_TYPED_BYTES:
        msg = f"{spec.name!r} has {size} bytes in uint_contents, at most {_MAX_TYPED_BYTES}: send raw_input_contents"
        raise invalid(msg)
    packed = np.frombuffer(b"".join(numbers), np.uint8)
    is_last = packed < 0x80
    is_first = np.ones_like(is_last)
    is_first[1:] = is_last[:-1]
    firsts, lasts = packed[is_first], packed[is_last]
    has_two = firsts >= 0x80
    if not (is_first | is_last).all() or (has_two & (lasts > 1)).any():
        msg = f"{spec.name!r} holds a number that is too large: UINT8 ends at 255"
        raise invalid(msg)
    return np.where(has_two, (firsts & 0x7F) | ((lasts & 1) << 7), firsts)


def _split(spec: TensorSpec, rows: int, raw: memoryview) -> list[memoryview]:
    """Cut raw content into its elements, each preceded by its length in four bytes, little endian."""
    elements: list[memoryview] = []
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
