"""Take labelled images that a program holds in memory: arrays, data frames, sets of torch and Hugging Face."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, SubsetRandomSampler

from isplit.design.inputs.array_files import array_source, channels_come_first
from isplit.design.inputs.hugging_face import hugging_face_source, is_hugging_face
from isplit.design.inputs.item_sets import read_sets
from isplit.design.inputs.source import Source, choose_parts, part_name
from isplit.design.inputs.tables import files_below, read_table
from isplit.errors import DataError

KINDS = (
    "a pair (images, labels) of arrays or tensors, a pandas frame with columns of paths and labels, a torch Dataset or "
    "DataLoader, a Hugging Face dataset, or a dictionary of these by part"
)


def object_spec(value: Any) -> str:
    """Return the name under which an object in memory is recorded: `python:` and its class."""
    return f"python:{type(value).__name__}"


def read_object(value: Any, *, spec: str, split: str | None) -> Source:
    """Make a source of labelled images in memory (`KINDS`).

    Raises:
        DataError: The object is of another kind, or what it holds is not labelled images.

    """
    if is_hugging_face(value):
        return hugging_face_source(value, spec=spec, split=split)
    if _is_frame(value):
        columns = {str(column): value[column].tolist() for column in value.columns}
        categories = {
            str(column): value[column].cat.categories.tolist()
            for column in value.columns
            if hasattr(value[column].dtype, "categories")
        }
        return read_table(columns, files_below(Path.cwd()), spec=spec, split=split, orders=categories)
    parts = {"all": value}
    if isinstance(value, Mapping):
        parts = {part_name(str(name)) or str(name): part for name, part in value.items()}
    chosen = choose_parts(parts, split=split and (part_name(split) or split), spec=spec)
    parts = {name: parts[name] for name in chosen}
    if all(_is_pair(part) for part in parts.values()):
        return _arrays_source(parts, spec=spec)
    if all(is_hugging_face(part) for part in parts.values()):
        return hugging_face_source(parts, spec=spec, split=None)
    return read_sets({name: _items(part, spec=spec) for name, part in parts.items()}, spec=spec)


def _is_frame(value: Any) -> bool:
    return any(base.__module__.split(".")[0] == "pandas" for base in type(value).__mro__) and hasattr(value, "columns")


def _is_pair(value: Any) -> bool:
    if not (isinstance(value, tuple | list) and len(value) == 2):
        return False
    images, labels = value
    return all(isinstance(item, np.ndarray | torch.Tensor) for item in (images, labels)) or (
        isinstance(images, np.ndarray | torch.Tensor) and images.ndim >= 3 and isinstance(labels, list | tuple)
    )


def _arrays_source(parts: Mapping[str, Any], *, spec: str) -> Source:
    arrays = {name: (_as_pixels(images, spec=spec), np.asarray(labels)) for name, (images, labels) in parts.items()}
    digest = hashlib.sha256()
    for images, labels in arrays.values():
        digest.update(np.ascontiguousarray(images).data)
        digest.update(np.ascontiguousarray(labels).tobytes())
    return array_source(arrays, classes=None, spec=spec, sha256=digest.hexdigest())


def _as_pixels(images: Any, *, spec: str) -> Any:
    """Return arrays as they are; tensors N×C×H×W as N×H×W×C."""
    pixels = np.asarray(images)
    if (
        isinstance(images, torch.Tensor)
        and pixels.ndim == 4
        and (pixels.shape[1] in (1, 3, 4) or channels_come_first(pixels.shape[1:]))
    ):
        pixels = pixels.transpose(0, 2, 3, 1)
    if pixels.dtype.kind == "f":
        scaled = pixels.astype(np.float64) * 255
        if not pixels.size or not 0 <= pixels.min() <= pixels.max() <= 1:  # also false for NaN
            msg = f"{spec}: float images must lie in [0, 1], not normalised: give uint8, or scale them"
            raise DataError(msg)
        return np.round(scaled).astype(np.uint8)
    return pixels


def _items(value: Any, *, spec: str) -> Any:
    """Return the set behind a loader, restricted to its sampler's items where the sampler chooses some."""
    if isinstance(value, DataLoader):
        items = value.dataset
        if isinstance(value.sampler, SubsetRandomSampler):
            items = Subset(items, sorted(int(index) for index in value.sampler.indices))
        return _items(items, spec=spec)
    if isinstance(value, IterableDataset) or not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        msg = f"{spec} has no length or no items by number, so that no image can be read twice; give {KINDS}"
        raise DataError(msg)
    return value
