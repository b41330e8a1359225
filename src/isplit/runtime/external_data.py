"""Find the files from which an ONNX model reads its weights, without the onnx package.

An ONNX file is one protobuf message. A tensor in it may name another file by its path, and whoever opens the model
opens that file too. This module therefore reads every such path before onnxruntime sees the model. It follows only the
fields that lead from the model to its tensors, and skips all others by their length.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isplit.errors import BundleError
from isplit.records.files import LARGEST_MODEL_BYTES, check_ordinary, open_ordinary, too_large
from isplit.runtime.protobuf import LENGTH_DELIMITED, MalformedError, fields

# message -> {field number: message of that field}, for every path that leads to a tensor (onnx.proto, IR version 13).
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
_KEY, _VALUE = 1, 2
_MAX_DEPTH = 64
"""A deeper nesting of subgraphs than any exporter writes."""


@dataclass(frozen=True, kw_only=True)
class ExternalData:
    """The location of a tensor's bytes: a path relative to the model's directory, and a range in that file."""

    location: str
    end: int
    length: int


def external_data(path: Path) -> list[ExternalData]:
    """Return every reference that an ONNX file makes to another file.

    Raises:
        BundleError: the file is not an ONNX model, or its external data is malformed.
        OSError: it cannot be read.

    """
    size_bytes = check_ordinary(path).st_size
    if size_bytes > LARGEST_MODEL_BYTES:
        raise BundleError(
            str(too_large(path.name, size_bytes=size_bytes, limit_bytes=LARGEST_MODEL_BYTES, kind="an ONNX model"))
        )
    if size_bytes == 0:
        msg = f"{path.name} is empty: it is not an ONNX model"
        raise BundleError(msg)
    try:
        with open_ordinary(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            references = list(_tensors(content, 0, len(content), "model", _MAX_DEPTH))
            return [_reference(content, spans) for spans in references if spans]
    except MalformedError as error:
        msg = f"{path.name} is not an ONNX model: {error}; export the bundle again"
        raise BundleError(msg) from error


def external_data_bytes(path: Path) -> int:
    """Return the number of bytes that an ONNX file reads from other files.

    Raises:
        BundleError, OSError: as `external_data`.

    """
    return sum(reference.length for reference in external_data(path))


def _tensors(content: mmap.mmap, start: int, end: int, message: str, depth: int) -> Iterator[list[tuple[int, int]]]:
    """Yield each tensor's external data entries, as the spans of their messages."""
    if depth == 0:
        msg = f"it is nested more than {_MAX_DEPTH} deep"
        raise MalformedError(msg)
    children = _CHILDREN[message]
    spans: list[tuple[int, int]] = []
    for field in fields(content, start, end):
        child = children.get(field.number) if field.wire_type == LENGTH_DELIMITED else None
        if child == "entry":
            spans.append((field.start, field.end))
        elif child:
            yield from _tensors(content, field.start, field.end, child, depth - 1)
    if message == "tensor":
        yield spans


def _reference(content: mmap.mmap, spans: list[tuple[int, int]]) -> ExternalData:
    """Read a tensor's entries (key, value) for location, offset and length; others do not matter."""
    entries: dict[str, str] = {}
    for start, end in spans:
        texts = {_KEY: "", _VALUE: ""}
        for field in fields(content, start, end):
            if field.number in texts and field.wire_type == LENGTH_DELIMITED:
                texts[field.number] = _text(content[field.start : field.end])
        # The format does not say which of two equal keys would count.
        if texts[_KEY] in entries:
            msg = f"a tensor gives its external {texts[_KEY]!r} twice"
            raise MalformedError(msg)
        entries[texts[_KEY]] = texts[_VALUE]
    try:
        offset, length = (int(entries.get(key, "0")) for key in ("offset", "length"))
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0:
        msg = f"a tensor's external data is {entries}"
        raise MalformedError(msg)
    return ExternalData(location=entries.get("location", ""), end=offset + length, length=length)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        msg = f"a text in it is not UTF-8 ({error})"
        raise MalformedError(msg) from error
