"""Make one self-contained HTML page and a figure for a paper from a study's records, without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from isplit.errors import StudyError
from isplit.records import (
    CandidatesRecord,
    CurveRecord,
    GraphRecord,
    Overlays,
    PlanRecord,
    PredictionsRecord,
    RunsRecord,
    SplitRecord,
    StudyRecord,
    VerificationRecord,
    remote_records,
    write_whole,
)
from isplit.records.split_files import split_records
from isplit.report.figures.curve import curve_svg
from isplit.report.fragments import predictions_html, study_html
from isplit.report.page import FurtherRecords, report_html

_Some = TypeVar("_Some", Overlays, PredictionsRecord, VerificationRecord, RunsRecord, PlanRecord)

__all__ = [
    "FurtherRecords",
    "check_report",
    "curve_svg",
    "predictions_html",
    "report_html",
    "study_html",
    "write_report",
]


@dataclass(frozen=True, kw_only=True)
class _Records:
    """All records of a study that its page shows."""

    study: StudyRecord
    graph: GraphRecord
    curve: CurveRecord
    candidates: CandidatesRecord
    further: FurtherRecords


def write_report(directory: Path) -> tuple[Path, ...]:
    """Write report.html and curve.svg from the records in `directory`, and return their paths.

    The page contains everything that it shows and makes no network request. It shows importance maps if the study has
    overlays.npz, splits if it has predictions.json or trained splits, how well their order was predicted if it has
    verification.json, latencies if it has runs.json, and where the model should run if it has plan.json. All files are
    drawn before the first is written.

    Raises:
        StudyError: a record is missing or damaged, the records are not of one study, or a file cannot be written.

    """
    records = _read_records(directory)
    study, graph, curve, candidates = records.study, records.graph, records.curve, records.candidates
    files = {
        "report.html": report_html(study, graph, curve, candidates, records.further).encode(),
        "curve.svg": curve_svg(study, graph, curve, candidates),
    }
    for name, content in files.items():
        write_whole(directory / name, content)
    return tuple(directory / name for name in files)


def check_report(directory: Path, *, replaced: type[PlanRecord | RunsRecord] | None = None) -> None:
    """Raise at once what `write_report` would raise because of a record.

    Commands that draw the report after long work look first, so that a damaged record costs no work.

    Args:
        directory: The study's directory.
        replaced: A kind of record that the work replaces, whatever it is now.

    Raises:
        StudyError: a record is missing or damaged, or the records are not of one study.

    """
    _read_records(directory, without=replaced)


def _read_records(directory: Path, *, without: type | None = None) -> _Records:
    study, graph = StudyRecord.load(directory), GraphRecord.load(directory)
    curve, candidates = CurveRecord.load(directory), CandidatesRecord.load(directory)
    overlays = _if_there(Overlays, directory)
    predictions = _if_there(PredictionsRecord, directory)
    verification = _if_there(VerificationRecord, directory)
    runs = None if without is RunsRecord else _if_there(RunsRecord, directory)
    plan = None if without is PlanRecord else _if_there(PlanRecord, directory)
    trained = _trained_splits(directory)

    if plan is not None and plan.model_fingerprint != study.model.fingerprint:
        msg = f"{PlanRecord.file_name} in {directory} is a plan of another model; run `isplit plan {directory}` again"
        raise StudyError(msg)
    strangers = {point.cut for point in curve.points} | {candidate.cut for candidate in candidates.candidates}
    strangers |= {split.cut for split in (*(predictions.predictions if predictions else ()), *trained)}
    strangers -= {cut.name for cut in graph.cuts}
    if strangers:
        msg = (
            f"the records in {directory} are not of one study: graph.json has no cut {sorted(strangers)[0]!r}; "
            "run `isplit analyze` again"
        )
        raise StudyError(msg)

    further = FurtherRecords(
        overlays=overlays,
        predictions=predictions,
        trained=trained,
        verification=verification,
        runs=runs,
        plan=plan,
        remotes=remote_records(directory),
    )
    return _Records(study=study, graph=graph, curve=curve, candidates=candidates, further=further)


def _if_there(kind: type[_Some], directory: Path) -> _Some | None:
    return kind.load(directory) if (directory / kind.file_name).exists() else None


def _trained_splits(directory: Path) -> tuple[SplitRecord, ...]:
    """Return the records of the study's trained splits; the others are in predictions.json."""
    return tuple(record for record in split_records(directory).values() if record.training is not None)
