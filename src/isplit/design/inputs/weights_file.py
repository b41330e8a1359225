"""Files of weights, read without running any code from them."""

import json
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from isplit.errors import ModelError, needs_extra
from isplit.records.files import (
    LARGEST_JSON_BYTES,
    FileTooLargeError,
    check_size,
    open_ordinary,
    read_limited,
    too_large,
)

LARGEST_WEIGHTS_BYTES = 2**38
"""The largest file of weights: 256 GiB, more than the memory of the machines that isplit is made for."""
LARGEST_HEADER_BYTES = 100_000_000
"""The largest header of a .safetensors file; the library has the same limit."""


def read_weights(path: Path) -> "WeightsFile":
    """Read the state dictionaries in a file without running any code from it.

    Files of torch.save may hold much else (settings, an optimiser): objects of classes that torch does not know are
    replaced by empty ones, and their classes are neither imported nor called.

    Raises:
        ModelError: no such file, another kind of file, a damaged one, or one without tensors.

    """
    if path.name.endswith(_INDEX_SUFFIX):
        return _read_shards(path)
    check_weights_size(path)
    if _is_safetensors(path):
        with needs_extra("design"):
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            msg = f"{path} cannot be read: {error}; download or save it again"
            raise ModelError(msg) from error
        check_plain(tensors.items(), where=str(path))
        return WeightsFile(path, {"": tensors})
    with open_ordinary(path) as file:
        start = file.read(2)
    if not start.startswith((b"PK", b"\x80")) and path.suffix.lower() not in _TORCH_SUFFIXES:
        msg = f"weights are .safetensors, .pth or .pt files, not {path.name!r}"
        raise ModelError(msg)
    state, ignored = _torch_load(path)
    states = dict(_states(state, ""))
    if not states:
        objects = f" (it holds objects of {', '.join(ignored[:_SHOWN])})" if ignored else ""
        msg = f"{path} is not a state dictionary of tensors, and holds none{objects}: save model.state_dict()"
        raise ModelError(msg)
    for tensors in states.values():
        check_plain(tensors.items(), where=str(path))
    return WeightsFile(path, states, ignored)


def _read_shards(index: Path) -> "WeightsFile":
    """Read weights that are divided over several files beside an index (`model.safetensors.index.json`).

    The index names the file of each tensor, as Hugging Face's libraries write it for large models.

    Raises:
        ModelError: the index is damaged, names a file that is not beside it, or a tensor that its file does not hold.

    """
    try:
        encoded = read_limited(index, limit_bytes=LARGEST_JSON_BYTES, kind="an index of weights")
        places = json.loads(encoded)["weight_map"]
        names = sorted(set(places.values()))
        beside = all(isinstance(name, str) and Path(name).name == name for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f'{index} cannot be read: {error}; an index of weights is a JSON file {{"weight_map": {{tensor: file}}}}'
        raise ModelError(msg) from error
    if not (places and beside and not any(name.endswith(_INDEX_SUFFIX) for name in names)):
        msg = f"{index} has to name files of weights that lie beside it"
        raise ModelError(msg)
    shards = {name: read_weights(index.parent / name) for name in names}
    missing = [tensor for tensor, name in places.items() if tensor not in shards[name].states.get("", {})]
    if missing:
        msg = f"{index}: {places[missing[0]]} does not hold {missing[0]}; download or save all of the files again"
        raise ModelError(msg)
    state = {tensor: shards[name].states[""][tensor] for tensor, name in places.items()}
    return WeightsFile(index, {"": state}, tuple(sorted({name for file in shards.values() for name in file.ignored})))


def check_weights_size(path: Path) -> None:
    """Raise a ModelError if a file is too large to be weights, or holds something else by its first bytes."""
    try:
        check_size(path, limit_bytes=LARGEST_WEIGHTS_BYTES, kind="a file of weights")
        with open_ordinary(path) as file:
            start = file.read(_START_BYTES)
        other = _other_kind(path, start)
        if other is None and _is_safetensors(path):
            header_bytes = int.from_bytes(start[:8], "little")
            if header_bytes > LARGEST_HEADER_BYTES:
                raise too_large(
                    path, size_bytes=header_bytes, limit_bytes=LARGEST_HEADER_BYTES, kind="the header of .safetensors"
                )
    except FileTooLargeError as error:
        raise ModelError(str(error)) from error
    except FileNotFoundError as error:
        msg = f"there is no file of weights {str(path)!r}: pass a .safetensors, .pth or .pt file, or 'default'"
        raise ModelError(msg) from error
    except (OSError, ValueError) as error:  # ValueError: the name has a NUL byte
        reason = getattr(error, "strerror", None) or error
        msg = f"cannot read {str(path)!r}: {reason}; pass a .safetensors, .pth or .pt file, or 'default'"
        raise ModelError(msg) from error
    if other is not None:
        msg = f"{path} {other}"
        raise ModelError(msg)


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def _other_kind(path: Path, start: bytes) -> str | None:
    """Return in words what a file holds, if its first bytes tell that it is not what its name says."""
    if not start:
        return "is empty: fetch it again"
    if _is_safetensors(path) and start.startswith(b"PK"):
        return "was written by torch.save: call it .pth"
    if not _is_safetensors(path) and start[8:9] == b"{" and not any(start[4:8]):
        return "holds safetensors: call it .safetensors"
    text = start.lstrip().lower()
    return next((words for mark, words in _OTHER_KINDS.items() if text.startswith(mark)), None)


_START_BYTES = 256
_OTHER_KINDS = {
    b"version https://git-lfs": "is a pointer of Git LFS, not the weights themselves: fetch them with `git lfs pull`",
    b"<!doctype html": "is a page of HTML, not weights: fetch it again",
    b"<html": "is a page of HTML, not weights: fetch it again",
    b"\x89hdf": "is a file of HDF5, as Keras writes them: isplit needs PyTorch's weights",
    b"gguf": "is a file of GGUF: isplit needs PyTorch's weights",
}
"""First bytes, in lower case, of files that are sometimes taken for weights, and what is said of them."""
_SHOWN = 4


def check_plain(tensors: Iterable[tuple[str, Any]], *, where: str) -> None:
    """Raise a ModelError for a tensor that holds no plain numbers: a sparse, quantised, nested or empty one.

    Args:
        tensors: Names and values of a state dictionary; values that are no tensors are looked through for some.
        where: What the message calls the state: a file, or "the model".

    """
    for name, value in tensors:
        for tensor in _tensors_in(value):
            problem = _problem(tensor)
            if problem is not None:
                msg = f"{where}: {name} {problem}"
                raise ModelError(msg)


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors_in(item)


def _problem(tensor: torch.Tensor) -> str | None:
    """Return in words why a tensor's numbers cannot be used as they are; None if they can."""
    if nn.parameter.is_lazy(tensor):
        return None  # it gets its shape later, and is checked then
    if tensor.is_quantized or hasattr(tensor, "__tensor_flatten__"):
        kind = type(tensor).__qualname__ if hasattr(tensor, "__tensor_flatten__") else str(tensor.dtype)
        return (
            f"is quantised ({kind}): isplit needs the model's floating-point weights, and quantises itself where that "
            "helps; give the model as it was before, or call `.dequantize()`"
        )
    if tensor.is_meta:
        return "is on the meta device, so it holds no numbers: load the weights first, then give or save the model"
    if tensor.is_nested or tensor.layout != torch.strided:
        layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        return f"is sparse or nested ({layout}): call `.to_dense()` on it first"
    return None


_INDEX_SUFFIX = ".index.json"
_TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar")


@dataclass(frozen=True)
class WeightsFile:
    """What a file of weights holds: state dictionaries by their place in it, and classes whose objects were ignored."""

    path: Path
    states: dict[str, dict[str, torch.Tensor]]
    ignored: tuple[str, ...] = ()


class _Ignored:
    """Stands for an object of a class that is not loaded; takes whatever the file says about it, and does nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> "_Ignored":
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _torch_load(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Return what torch.save wrote, and the classes whose objects in it were replaced by empty ones."""
    ignored: tuple[str, ...] = ()
    _check_state_dictionary(path)
    try:
        ignored = tuple(sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path)))
    except Exception:  # noqa: BLE001 - older formats cannot be looked through; then nothing is replaced
        ignored = ()
    stand_ins: list[Any] = [(type("_Ignored", (_Ignored,), {}), name) for name in ignored]
    try:
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True), ignored
    except Exception as error:  # on damaged bytes, torch's unpickler raises errors of every kind
        msg = f"{path} is damaged, or holds more than tensors and is unsafe to load ({_why(error)}): save "
        raise ModelError(msg + "model.state_dict()") from error


def _check_state_dictionary(path: Path) -> None:
    """Raise a ModelError for a zip of torch's that holds a whole program: of TorchScript, or of torch.export."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.partition("/")[2] or name for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # torch says what is wrong with it
    program = next((program for mark, program in _PROGRAMS.items() if mark in members), None)
    if program is not None:
        msg = f"{path} holds {program}, not weights: save the state_dict() of the Python model that it was made from"
        raise ModelError(msg)


_PROGRAMS = {"constants.pkl": "TorchScript", "archive_format": "a program of torch.export"}
"""Members of the zips that torch writes which only programs have, and what such a zip is called."""


def _why(error: Exception) -> str:
    """Return in a line why torch does not load a file; without its advice to load what is unsafe."""
    text = str(error).strip() or type(error).__name__
    if "legacy .tar" in text:  # what torch says goes on with advice to load what is unsafe
        return "it is a tar file"
    if "Unsupported operand" in text:
        return "it was not written by torch.save, or in another protocol of pickle than torch.save's own, 2"
    reason = re.search(r"WeightsUnpickler error: ([^\n]*)", text)
    return reason[1].strip() if reason else text.splitlines()[0]


def _states(value: Any, place: str) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Yield the mappings of names to tensors in a nested structure, each with its place ("model_state_dict")."""
    if not isinstance(value, Mapping):
        return
    tensors = {str(name): item for name, item in value.items() if isinstance(item, torch.Tensor)}
    if tensors:
        yield place, tensors
    for name, item in value.items():
        if place.count(".") < 2 and isinstance(item, Mapping):
            yield from _states(item, f"{place}.{name}" if place else str(name))
