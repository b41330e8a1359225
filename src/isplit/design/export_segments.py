"""Export the whole model in segments that a small device runs one after the other.

plan.json's division ─> one ONNX file for each segment, weights in weights.bin ─> run beside torch ─> manifest.json

A layer that is larger than the memory is a segment of several files, one for each block of its output channels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import nn

from isplit.design.export_settings import ExportSettings
from isplit.design.graph.large_layers import layer_blocks
from isplit.design.graph.split import segment
from isplit.design.onnx.compare import answer_whole, check_segments, load_pixels
from isplit.design.onnx.files import WeightsFile, export_versions, save_onnx, to_onnx
from isplit.design.onnx.modules import SegmentModel
from isplit.design.onnx.output_directory import bundle_name, check_place, checked_name, new_bundle_directory
from isplit.design.study import Study, StudyView, open_study
from isplit.errors import InputError, StudyError
from isplit.progress import Progress, silent
from isplit.records import (
    BundledFile,
    BundleRecord,
    DividedLayer,
    DivisibleLayer,
    PlannedPlacement,
    PlanRecord,
    SegmentedPlacement,
)


def export_segments(
    study: Study | str | Path,
    out: str | Path,
    *,
    bounds: Sequence[str] | None = None,
    blocks: Mapping[str, int] | None = None,
    group: str | None = None,
    settings: ExportSettings | None = None,
    progress: Progress = silent,
) -> BundleRecord:
    """Write a bundle with the whole model in the segments of the study's plan, and return its manifest.

    The segments are run in onnxruntime one after the other on images of the select part first. Where their logits
    differ from torch's by more than the tolerance, nothing is written.

    Args:
        study: A study with a plan that has a limit on the device's memory, or its directory.
        out: The directory to write.
        bounds: The cuts between the segments, in the order of computation; None takes those of the plan. None at all
            (an empty list) gives the whole model as one segment.
        blocks: The number of blocks of output channels for each layer that is divided, by the layer's name in the
            graph's `divisible`; with `bounds` of None, those of the plan.
        group: A class subset of the study; None for all classes.
        settings: The bundle's name, how the files are checked, and whether a bundle that is there is replaced. `local`
            and `remote` have no meaning here.
        progress: Called as work goes on.

    Raises:
        StudyError: the study has no plan.
        InputError: the plan has no division into segments, several tensors cross a cut of it, a layer cannot be
            divided, or a setting is for bundles of splits.
        ModelError: a part of the model has no ONNX.
        ExportError: the files answer otherwise than torch.

    """
    settings, out = settings or ExportSettings(), Path(out)
    _check_settings(settings)
    name = checked_name(settings.name or bundle_name(out))
    check_place(out, overwrite=settings.overwrite)
    opened = open_study(study)
    planned_peak_bytes = None
    if bounds is None:
        planned = planned_segments(opened.directory)
        planned_peak_bytes = planned.device_memory_bytes
        bounds = [part.end for part in planned.segments if part.end is not None]
        blocks = {part.layer: part.blocks for part in planned.segments if part.layer is not None}
    view = opened.view(group)
    for cut in bounds:
        if len(view.study.graph_record.cut(cut).crossing) != 1:
            msg = f"several tensors cross {cut!r}: a segment ends where one does; analyze without --all-cuts"
            raise InputError(msg)
    parts = _parts(view, bounds, _divided_layers(view, blocks or {}))
    with new_bundle_directory(out, overwrite=settings.overwrite) as directory:
        return _write(view, directory, parts, planned_peak_bytes, settings, name=name, progress=progress)


def _check_settings(settings: ExportSettings) -> None:
    """Refuse what only a bundle of splits can hold, because it would be left out in silence."""
    for name in ("remote_network", "int8", "triton"):
        if value := getattr(settings, name):
            msg = f"`{name}={value}` is for bundles of splits, and segments are the whole model: leave it out"
            raise InputError(msg)


def planned_segments(directory: Path) -> PlannedPlacement:
    """Return the plan's division of the model into segments.

    Raises:
        StudyError: the study has no plan.
        InputError: the plan has no such division, or none that keeps its limit on the device's memory.

    """
    advice = f"run `isplit plan {directory} --max-device-memory SIZE` first"
    if not (directory / PlanRecord.file_name).is_file():
        msg = f"{directory} has no plan: {advice}"
        raise StudyError(msg)
    record = PlanRecord.load(directory)
    limit = record.limits.max_device_memory_bytes
    for placement in record.placements:
        if placement.kind == "segmented":
            _check_memory(placement, limit, directory)
            return placement
    if limit is None:
        msg = f"the plan of {directory} has no limit on the device's memory: {advice}"
    else:
        msg = (
            f"the plan of {directory} has no division into segments, because with {limit / 1e6:,.0f} MB the whole "
            "model fits; plan with another --max-device-memory"
        )
    raise InputError(msg)


def _check_memory(placement: PlannedPlacement, limit: int | None, directory: Path) -> None:
    """Refuse the division that a plan names as the nearest although it takes more memory than the limit."""
    if limit is not None and placement.device_memory_bytes is not None and placement.device_memory_bytes > limit:
        least = math.ceil(placement.device_memory_bytes / 1e6)
        msg = (
            f"no division of the model fits into {limit / 1e6:,.0f} MB: the one of the plan of {directory} takes "
            f"{least:,} MB; plan with --max-device-memory {least}MB"
        )
        raise InputError(msg)


_LOGITS = ":logits"
"""Where a divided layer that gives the logits ends; behind it, only the choice of the group's classes is left."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A segment from the cut `start` (None: the image) to `end` (None: the group's logits), or a layer in blocks.

    `end_bytes` is the size of what one image hands over at the end.
    """

    start: str | None
    end: str | None
    end_bytes: int
    layer: DivisibleLayer | None = None
    blocks: int = 1


def _divided_layers(view: StudyView, blocks: Mapping[str, int]) -> list[tuple[DivisibleLayer, int]]:
    """Return the layers that are to be divided, each with its number of blocks, in the order of computation.

    Raises:
        InputError: the graph has no such layer, or the layer has fewer channels than blocks.

    """
    known = {layer.name: layer for layer in view.study.graph_record.divisible}
    divided: list[tuple[DivisibleLayer, int]] = []
    for name, count in blocks.items():
        if name not in known:
            names = ", ".join(known) or "none; a study of an older version has to be analyzed again"
            msg = f"the layer {name!r} cannot be divided; layers that can be: {names}"
            raise InputError(msg)
        if not 2 <= count <= known[name].channels:
            channels = known[name].channels
            msg = f"the layer {name!r} has {channels} output channels: it cannot be divided into {count} blocks"
            raise InputError(msg)
        divided.append((known[name], count))
    return sorted(divided, key=lambda entry: entry[0].depth)


def _parts(view: StudyView, bounds: Sequence[str], divided: Sequence[tuple[DivisibleLayer, int]]) -> list[_Part]:
    """Return the parts of the model in the order of computation: those between bounds, with layers divided out."""
    record = view.study.graph_record
    parts: list[_Part] = []
    waiting = list(divided)
    start: str | None = None
    for end in (*bounds, None):
        end_depth = np.inf if end is None else record.cut(end).depth
        while waiting and waiting[0][0].depth <= end_depth:
            layer, count = waiting.pop(0)
            if layer.before != start:
                parts.append(_Part(start=start, end=layer.before, end_bytes=layer.input_bytes))
            start = layer.after or _LOGITS
            parts.append(_Part(start=layer.before, end=start, end_bytes=layer.output_bytes, layer=layer, blocks=count))
        if start != end or not parts:
            parts.append(_Part(start=start, end=end, end_bytes=0 if end is None else record.cut(end).bytes))
        start = end
    return parts


@dataclass(frozen=True, kw_only=True)
class _Written:
    """What was written of a segmented model: the files of each segment, and which of them are blocks of layers."""

    segments: list[tuple[list[str], int]] = field(default_factory=list)
    divided: list[DividedLayer] = field(default_factory=list)

    @property
    def files(self) -> list[str]:
        return [file for files, _ in self.segments for file in files]


def _write_files(view: StudyView, directory: Path, parts: Sequence[_Part], progress: Progress) -> _Written:
    """Write one file for each part, or for each block of its layer."""
    written = _Written()
    with WeightsFile(directory) as weights:
        for number, part in enumerate(parts):
            progress("export of segments", number, len(parts))
            modules = _modules(view, part)
            stem = f"segment-{number + 1:02}"
            files = [f"{stem}-{index + 1:02}.onnx" for index in range(len(modules))] if part.layer else [f"{stem}.onnx"]
            if part.layer is not None:
                written.divided.append(
                    DividedLayer(
                        name=part.layer.name,
                        first=len(written.files),
                        count=len(files),
                        axis=part.layer.channel_axis,
                    )
                )
            for file, module in zip(files, modules, strict=True):
                model = to_onnx(
                    module,
                    _example(view, part.start),
                    source="image" if part.start is None else "crossing",
                    target="logits" if part.end is None else "crossing_out",
                )
                weights.add(model)
                save_onnx(model, directory / file)
            written.segments.append((files, 1 if part.layer is None else part.layer.channel_axis))
        progress("export of segments", len(parts), len(parts))
    return written


def _modules(view: StudyView, part: _Part) -> list[nn.Module]:
    """Return what is exported of a part: one module, or one for each block."""
    if part.layer is not None:
        return list(layer_blocks(view.graph.flow, part.layer, blocks=part.blocks))
    return [
        SegmentModel(
            nn.Identity() if part.start == _LOGITS else segment(view.graph, part.start, part.end),
            preprocessing=view.preprocessing if part.start is None else None,
            group=view.classes if part.end is None else None,
            outputs=view.study.record.model.num_outputs,
        )
    ]


def _write(
    view: StudyView,
    directory: Path,
    parts: Sequence[_Part],
    planned_peak_bytes: int | None,
    settings: ExportSettings,
    *,
    name: str,
    progress: Progress,
) -> BundleRecord:
    pixels = load_pixels(view, "select", limit=settings.images)
    expected = answer_whole(view, pixels)
    tolerance = settings.tolerance * max(1.0, float(np.abs(expected.logits).max()))
    written = _write_files(view, directory, parts, progress)
    paths = [([directory / file for file in files], axis) for files, axis in written.segments]
    check = check_segments(paths, pixels, expected, tolerance=tolerance)
    study = view.study.record
    accuracy = study.base_accuracy if view.is_default else None
    record = BundleRecord(
        name=name,
        isplit_version=metadata.version("isplit"),
        versions=view.study.versions | export_versions(),
        model_fingerprint=view.fingerprint,
        group=view.group,
        preprocessing=view.preprocessing,
        base_accuracy=study.base_accuracy,
        local=None,
        remote=None,
        cuts=(),
        segmented=SegmentedPlacement(
            files=tuple(written.files),
            divided=tuple(written.divided),
            bounds=tuple(part.end for part in parts if part.end is not None),
            crossing_bytes=sum(part.end_bytes for part in parts),
            planned_peak_bytes=planned_peak_bytes,
            accuracy=accuracy,
        ),
        check=check,
        files={path.name: BundledFile.of(path) for path in sorted(directory.iterdir())},
    )
    record.save(directory)
    return record


def _example(view: StudyView, start: str | None) -> torch.Tensor:
    """Return an input of the segment that begins at a cut, for two images."""
    if start is None:
        height, width = view.preprocessing.image_size
        return torch.zeros((2, height, width, view.preprocessing.channels), dtype=torch.uint8)
    graph = view.graph
    if start == _LOGITS:
        return torch.zeros((2, *view.study.graph_record.output_shape))
    return torch.zeros((2, *graph.figures.crossing(graph.point(start).crossing[0]).shape))
