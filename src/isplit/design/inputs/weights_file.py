"""Files of weights, read without running any code from them."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from isplit.errors import ModelError, needs_extra


def read_weights(path: Path) -> "WeightsFile":
    """Read the state dictionaries in a file without running any code from it.

    Files of torch.save may hold much else (settings, an optimiser): objects of classes that torch does not know are
    replaced by empty ones, and their classes are neither imported nor called.

    Raises:
        ModelError: no such file, another kind of file, a damaged one, or one without tensors.

    """
    if not path.is_file():
        msg = f"there is no file of weights {str(path)!r}: pass a .safetensors, .pth or .pt file, or 'default'"
        raise ModelError(msg)
    if path.suffix == ".safetensors":
        with needs_extra("design"):
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        try:
            return WeightsFile(path, {"": load_file(path)})
        except (SafetensorError, OSError) as error:
            msg = f"{path} cannot be read: {error}; download or save it again"
            raise ModelError(msg) from error
    with path.open("rb") as file:
        start = file.read(2)
    if not start.startswith((b"PK", b"\x80")) and path.suffix not in _TORCH_SUFFIXES:
        msg = f"weights are .safetensors, .pth or .pt files, not {path.name!r}"
        raise ModelError(msg)
    state, ignored = _torch_load(path)
    states = dict(_states(state, ""))
    if not states:
        msg = f"{path} is not a state dictionary of tensors, and holds none: save model.state_dict()"
        raise ModelError(msg)
    return WeightsFile(path, states, ignored)


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
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"{path} is damaged, or holds more than tensors and is unsafe to load ({first}): save model.state_dict()"
        raise ModelError(msg) from error


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
