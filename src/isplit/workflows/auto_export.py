"""Choose what `isplit auto` exports of a plan, and write the segments of a model for a device with little memory."""

from pathlib import Path

from isplit.design.export_segments import export_segments
from isplit.design.export_settings import ExportSettings
from isplit.design.study import Study
from isplit.errors import BundleError
from isplit.progress import Progress
from isplit.records import BundleRecord, PlannedPlacement, PlanRecord
from isplit.runtime.bundle import Bundle


def split_to_export(record: PlanRecord) -> PlannedPlacement | None:
    """Return the plan's split, or the best split where the plan chose another kind of placement.

    Splits that break no limit come first. Among them, splits that leave work to the server come first, and then the
    fastest.
    """
    chosen = record.answer.chosen
    splits = [placement for placement in record.placements if placement.kind == "split"]
    return min(
        splits,
        key=lambda split: (
            split.name != chosen,
            len(split.violates),
            not split.worth_considering,
            split.latency_ms,
        ),
        default=None,
    )


def answer_commands(record: PlanRecord, bundle: Path) -> tuple[str | None, str | None]:
    """Return the commands that serve and run the plan's answer from a bundle.

    The first is None where no server is needed. Both are None without an answer, and where it is the network that was
    trained on compressed images, because the bundle of `auto` does not hold that one.
    """
    if record.answer.chosen is None:
        return None, None
    chosen = record.placement(record.answer.chosen)
    if chosen.kind not in ("split", "remote"):
        name = "segmented" if chosen.kind == "segmented" else "local"
        return None, f"isplit run {bundle} IMAGES --placement {name}"
    if chosen.kind == "remote" and chosen.accuracy is not None and chosen.accuracy.source == "trained":
        return None, None
    placement = "remote" if chosen.kind == "remote" else chosen.cut
    return f"isplit serve {bundle}", f"isplit run {bundle} IMAGES --server HOST:8001 --placement {placement}"


def standing_bundle(study: Study, directory: Path, *, overwrite: bool) -> BundleRecord | None:
    """Return the record of the undamaged bundle of the study's model in a directory; None if there is none.

    Raises:
        BundleError: the bundle there is of another model, and `overwrite` is not given.

    """
    if not (directory / BundleRecord.file_name).is_file():
        return None
    try:
        record = Bundle.open(directory).record
    except BundleError:  # it is damaged, so it is written again
        return None
    if record.model_fingerprint == study.record.model.fingerprint:
        return record
    if overwrite:
        return None
    msg = f"{directory} is a bundle of another model: give another place, or `overwrite=True`"
    raise BundleError(msg)


def write_segments(
    study: Study, placement: PlannedPlacement, out: Path, *, group: str | None, overwrite: bool, progress: Progress
) -> BundleRecord:
    """Write the bundle of a segmented placement, unless it exists, and return its record.

    Args:
        study: The study whose plan.json has the placement.
        placement: The plan's division of the model.
        out: The bundle's directory. A bundle of the same model there is replaced.
        group: A class subset of the study; None for all classes.
        overwrite: Whether a bundle of another model is replaced as well.
        progress: Called as work goes on.

    Raises:
        BundleError: the bundle is of another model, and `overwrite` is not given.

    """
    record = standing_bundle(study, out, overwrite=overwrite)
    if record is not None and record.group == study.view(group).group and _is_division(record, placement):
        return record
    return export_segments(study, out, group=group, settings=ExportSettings(overwrite=True), progress=progress)


def _is_division(record: BundleRecord, placement: PlannedPlacement) -> bool:
    """Return whether a bundle has the segments of a placement."""
    segmented = record.segmented
    if segmented is None:
        return False
    blocks = {part.layer: part.blocks for part in placement.segments if part.layer is not None}
    # A layer in blocks adds bounds of its own around itself, and may get fewer blocks than planned.
    bounds = {part.end for part in placement.segments if part.end is not None}
    written = {layer.name for layer in segmented.divided}
    return (
        written == set(blocks)
        and bounds <= set(segmented.bounds)
        and segmented.planned_peak_bytes == placement.device_memory_bytes
    )
