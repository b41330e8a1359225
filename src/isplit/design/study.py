"""Open a study again: the model and the data it was made from, checked against what it recorded."""

import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import nn

from isplit.design.bottleneck.build import SPLITS
from isplit.design.class_subsets import GroupLogits
from isplit.design.graph import ModelGraph
from isplit.design.inputs.data import Dataset, balanced_order, open_data
from isplit.design.inputs.models import LoadedModel, load_model
from isplit.errors import StudyError
from isplit.records import (
    Cut,
    GraphRecord,
    PartName,
    PredictionsRecord,
    RunsRecord,
    StudyRecord,
    VerificationRecord,
)

LATER = (PredictionsRecord.file_name, VerificationRecord.file_name, RunsRecord.file_name, SPLITS)
"""What later commands make of a study: it stays when the same study is analysed again, and only then."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenStudy:
    """A study with everything that later steps work on."""

    directory: Path
    record: StudyRecord
    graph_record: GraphRecord
    graph: ModelGraph
    model: LoadedModel
    data: Dataset

    @property
    def versions(self) -> dict[str, str]:
        """What computes here and now."""
        return library_versions()

    def group(self, name: str | None = None) -> GroupLogits:
        """Return a set of classes of the study: all of them, or the subset of that name.

        Raises:
            StudyError: there is no such subset.

        """
        for group in self.record.groups:
            if name in (None, group.name):
                return GroupLogits(group, self.data.classes, self.record.data.class_outputs)
        known = ", ".join(group.name for group in self.record.groups)
        msg = f"{self.directory} has no class subset {name!r}; it has: {known} (`isplit analyze --classes` makes more)"
        raise StudyError(msg)

    def cuts(self, names: tuple[str, ...] = ()) -> tuple[Cut, ...]:
        """Return the cuts of those names, or all of the curve: default cuts with a spatial or token axis.

        Raises:
            StudyError: a name is not a cut with one crossing tensor.

        """
        known = {cut.name: cut for cut in self.graph_record.cuts if cut.channel_axis is not None}
        missing = [name for name in names if name not in known]
        if missing:
            msg = f"{self.directory} has no cut {missing[0]!r} with one crossing tensor; it has: {', '.join(known)}"
            raise StudyError(msg)
        if names:
            return tuple(known[name] for name in dict.fromkeys(names))
        return tuple(cut for cut in known.values() if cut.kind != "other" and cut.has_positions)

    def images(self, part: PartName, group: GroupLogits, *, limit: int | None) -> NDArray[np.int64]:
        """Return a part's images of the group's classes, class-balanced, so that every prefix of them is."""
        members = self.data.parts[part]
        members = members[group.label_map[self.data.labels[members]] >= 0]
        return balanced_order(self.data.labels, members, seed=self.record.seed)[:limit]


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that figures depend on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
    }


def open_study(
    directory: Path,
    *,
    model: nn.Module | str | None = None,
    weights: str | None = None,
    data: str | None = None,
    data_root: Path | None = None,
) -> OpenStudy:
    """Load a study's model and data and check that they are still the same.

    Args:
        directory: What `analyze` wrote.
        model: The model itself, or where it is now; needed where the study was made from a module.
        weights: Where the weights are now, if they have moved.
        data: Where the data are now, if they have moved.
        data_root: Where torchvision's data sets are.

    Raises:
        StudyError: the directory holds no study, or model or data have changed since.
        InputError: the model or the data cannot be loaded.

    """
    record, graph_record = StudyRecord.load(directory), GraphRecord.load(directory)
    loaded = _load(record, model, weights, directory)
    dataset = open_data(data or record.data.spec, split=record.data.split, seed=record.seed, data_root=data_root)
    axes = {cut.name: cut.channel_axis for cut in graph_record.cuts if cut.channel_axis is not None}
    module = loaded.module.to(memory_format=torch.channels_last)
    graph = ModelGraph(module, graph_record.input_shape, channel_axes=axes)
    _check(directory, record, loaded, dataset, graph)
    return OpenStudy(
        directory=directory, record=record, graph_record=graph_record, graph=graph, model=loaded, data=dataset
    )


def _load(record: StudyRecord, model: nn.Module | str | None, weights: str | None, directory: Path) -> LoadedModel:
    spec = model if model is not None else record.model.spec
    if isinstance(spec, str) and spec.startswith("python:"):
        msg = f"{directory} was made from a module in memory ({spec}): open it from Python and pass the module"
        raise StudyError(msg)
    height, width = record.preprocessing.image_size
    loaded = load_model(
        spec,
        weights=weights or record.model.weights,
        num_classes=record.model.num_outputs if isinstance(spec, str) else None,
        image_size=height if height == width else None,
        channels=record.preprocessing.channels,
    )
    return replace(loaded, preprocessing=record.preprocessing)


def _check(directory: Path, record: StudyRecord, model: LoadedModel, data: Dataset, graph: ModelGraph) -> None:
    found = data.source(record.data.class_outputs)
    pairs: Mapping[str, tuple[object, object]] = {
        "the model's weights": (record.model.fingerprint, model.source.fingerprint),
        "the model's operations": (record.graph_sha256, graph.sha256),
        "the data": (record.data.sha256, found.sha256),
        "the parts of the data": (record.data.part_images, found.part_images),
    }
    changed = [what for what, (before, now) in pairs.items() if before != now]
    if changed:
        msg = f"{directory}: {changed[0]} changed since `isplit analyze`; run it again into another directory"
        raise StudyError(msg)


def remove_later(directory: Path) -> None:
    """Remove what later commands made of another study in the directory."""
    for path in (directory / name for name in LATER):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
