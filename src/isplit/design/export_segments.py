"""Export the whole model in segments that a small device runs one after the other.

plan.json's division ─> one ONNX file for each segment, weights in weights.bin ─> run beside torch ─> manifest.json
"""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from isplit.design.graph.split import segment
from isplit.design.onnx.compare import answer_whole, check_segments, load_pixels
from isplit.design.onnx.files import WeightsFile, export_versions, save_onnx, to_onnx
from isplit.design.onnx.modules import SegmentModel
from isplit.design.onnx.output_directory import bundle_name, check_place, new_bundle_directory
from isplit.design.settings import ExportSettings
from isplit.design.study import Study, StudyView, open_study
from isplit.errors import InputError, StudyError
from isplit.progress import Progress, silent
from isplit.records import BundledFile, BundleRecord, PlannedPlacement, PlanRecord, SegmentedPlacement


def export_segments(
    study: Study | str | Path,
    out: str | Path,
    *,
    bounds: Sequence[str] | None = None,
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
        group: A class subset of the study; None for all classes.
        settings: The bundle's name, how the files are checked, and whether a bundle that is there is replaced. What is
            for splits or for the server has no meaning here.
        progress: Called as work goes on.

    Raises:
        StudyError: the study has no plan.
        InputError: the plan has no division into segments, or several tensors cross a cut of it.
        ModelError: a part of the model has no ONNX.
        ExportError: the files answer otherwise than torch.

    """
    settings, out = settings or ExportSettings(), Path(out)
    check_place(out, overwrite=settings.overwrite)
    opened = open_study(study)
    planned_peak_bytes = None
    if bounds is None:
        planned = planned_segments(opened.directory)
        planned_peak_bytes = planned.device_memory_bytes
        bounds = [part.end for part in planned.segments if part.end is not None]
    view = opened.view(group)
    for name in bounds:
        if len(view.study.graph_record.cut(name).crossing) != 1:
            msg = f"several tensors cross {name!r}: a segment ends where one does; analyze without --all-cuts"
            raise InputError(msg)
    with new_bundle_directory(out, overwrite=settings.overwrite) as directory:
        return _write(
            view,
            directory,
            bounds,
            planned_peak_bytes,
            settings,
            name=settings.name or bundle_name(out),
            progress=progress,
        )


def planned_segments(directory: Path) -> PlannedPlacement:
    """Return the plan's division of the model into segments.

    Raises:
        StudyError: the study has no plan.
        InputError: the plan has no such division.

    """
    advice = f"run `isplit plan {directory} --max-device-memory SIZE` first"
    if not (directory / PlanRecord.file_name).is_file():
        msg = f"{directory} has no plan: {advice}"
        raise StudyError(msg)
    record = PlanRecord.load(directory)
    for placement in record.placements:
        if placement.kind == "segmented":
            return placement
    limit = record.limits.max_device_memory_bytes
    if limit is None:
        msg = f"the plan of {directory} has no limit on the device's memory: {advice}"
    else:
        msg = (
            f"the plan of {directory} has no division into segments: with {limit / 1e6:,.0f} MB the whole model fits, "
            "or one step of it alone does not; plan with another --max-device-memory"
        )
    raise InputError(msg)


def _write(
    view: StudyView,
    directory: Path,
    bounds: Sequence[str],
    planned_peak_bytes: int | None,
    settings: ExportSettings,
    *,
    name: str,
    progress: Progress,
) -> BundleRecord:
    pixels = load_pixels(view, "select", limit=settings.images)
    expected = answer_whole(view, pixels)
    tolerance = settings.tolerance * max(1.0, float(np.abs(expected.logits).max()))
    files = tuple(f"segment-{number + 1:02}.onnx" for number in range(len(bounds) + 1))
    with WeightsFile(directory) as weights:
        for number, (file, start, end) in enumerate(zip(files, [None, *bounds], [*bounds, None], strict=True)):
            progress("export of segments", number, len(files))
            model = to_onnx(
                SegmentModel(
                    segment(view.graph, start, end),
                    preprocessing=view.preprocessing if start is None else None,
                    group=view.classes if end is None else None,
                    outputs=view.study.record.model.num_outputs,
                ),
                _example(view, start),
                source="image" if start is None else "crossing",
                target="logits" if end is None else "crossing_out",
            )
            weights.add(model)
            save_onnx(model, directory / file)
        progress("export of segments", len(files), len(files))
    check = check_segments([directory / file for file in files], pixels, expected, tolerance=tolerance)
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
            files=files,
            bounds=tuple(bounds),
            crossing_bytes=sum(view.study.graph_record.cut(bound).bytes for bound in bounds),
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
    return torch.zeros((2, *view.study.graph_record.cut(start).shape))
