"""The folder of a study: which files belong to it, and when it is the study of other input."""

import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from isplit.design.importance.table import ScoreTable
from isplit.design.inputs.data import Dataset
from isplit.design.inputs.models import LoadedModel
from isplit.design.kept_work import KEPT_WORK
from isplit.errors import StudyError
from isplit.records import (
    CandidatesRecord,
    ClassGroup,
    CurveRecord,
    GraphRecord,
    Overlays,
    PlanRecord,
    PredictionsRecord,
    RunsRecord,
    SplitRecord,
    StudyRecord,
    VerificationRecord,
)
from isplit.records.remote import REMOTES
from isplit.records.split_files import SPLITS, tidy_split

ANALYSIS_FILES = (CurveRecord.file_name, CandidatesRecord.file_name, Overlays.file_name, "report.html", "curve.svg")
"""Files that `analyze` writes after study.json; every run of it writes them again."""

# What an interrupted write leaves (see `write_whole`), and the lock.
_LEFTOVER = re.compile(r"\.study\.json\.\w+|\.lock|\.lock\.json|\.\.lock\.json\.\w+")

# What `write_whole` leaves of a file when it is killed.
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{16}")

DERIVED_FILES = (
    PredictionsRecord.file_name,
    VerificationRecord.file_name,
    RunsRecord.file_name,
    PlanRecord.file_name,
    SPLITS,
    REMOTES,
    KEPT_WORK,
)
"""Files that other commands derive from a study; they are deleted when its input changes."""

# Drawings and plans are written by commands that take no lock, perhaps at this moment.
_WRITTEN_UNDER_LOCK = (
    StudyRecord.file_name,
    GraphRecord.file_name,
    CurveRecord.file_name,
    CandidatesRecord.file_name,
    Overlays.file_name,
    PredictionsRecord.file_name,
    VerificationRecord.file_name,
    RunsRecord.file_name,
    ".lock.json",
)


@dataclass(frozen=True)
class StudyInputs:
    """The input of a study: everything that its records depend on."""

    model: LoadedModel
    data: Dataset
    outputs: tuple[int, ...]
    groups: tuple[ClassGroup, ...]
    seed: int
    graph_sha256: str

    def first_difference(self, record: StudyRecord) -> str | None:
        """Name the first thing in which a recorded study has other input; None if its input is the same."""
        source = self.data.source(self.outputs)
        recorded = record.data
        pairs: Mapping[str, tuple[object, object]] = {
            "the model's weights": (record.model.fingerprint, self.model.source.fingerprint),
            "the model's operations": (record.graph_sha256, self.graph_sha256),
            "the data": (recorded.sha256, source.sha256),
            "the parts of the data": ((recorded.split, recorded.part_images), (source.split, source.part_images)),
            "the class outputs": (recorded.class_outputs, source.class_outputs),
            "the preprocessing": (record.preprocessing, self.model.preprocessing),
            "the seed": (record.seed, self.seed),
        }
        return next((name for name, (before, now) in pairs.items() if before != now), None)


def prepare_directory(directory: Path, inputs: StudyInputs, *, test_images: int, overwrite: bool) -> StudyRecord | None:
    """Make a folder ready for a study, and return its study.json if it already holds this study.

    If the input is another, what was found for the old one is removed first: should this run be stopped, nothing old
    stands beside something new. If it is the same, everything stays until there is something new to take its place.

    Args:
        directory: The folder, from `make_directory`.
        inputs: The study's input.
        test_images: Number of images of the base accuracy; one from another number is not reused.
        overwrite: Whether a study of other input may be replaced.

    Raises:
        StudyError: the folder holds another study, or files that are not a study's, or cannot be written.

    """
    try:
        known = _known_study(directory)
        difference = known and inputs.first_difference(known)
        if difference and not overwrite:
            msg = (
                f"{directory} holds another study, which differs in {difference}. Choose another directory "
                "(`out=DIR`), or replace it (`overwrite=True`)"
            )
            raise StudyError(msg)
        if difference:
            # The graph goes too: beside another study.json it would be another model's.
            _remove(directory, [*DERIVED_FILES, GraphRecord.file_name])
        reusable = known is not None and not difference and not overwrite
        if known is None or not reusable or known.groups[0] != inputs.groups[0]:
            remove_analysis(directory)
        remove_leftovers(directory)
    except OSError as error:
        msg = f"cannot use {directory} as a study: {error.strerror or error}"
        raise StudyError(msg) from error
    if known is None or not reusable or known.groups[0] != inputs.groups[0]:
        return None
    if known.base_accuracy.images != test_images:
        return None
    known = known.model_copy(update={"groups": inputs.groups})
    known.save(directory)
    return known


def remove_analysis(directory: Path) -> None:
    """Remove what `analyze` found, so that nothing of it stands beside something newer.

    Raises:
        StudyError: a file cannot be removed.

    """
    try:
        _remove(directory, ANALYSIS_FILES)
    except OSError as error:
        msg = f"cannot write {error.filename or directory}: {error.strerror or error}"
        raise StudyError(msg) from error


def remove_leftovers(directory: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote; only the holder of the lock may.

    Raises:
        OSError: a file cannot be removed.

    """
    for path in directory.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match and match[1] in _WRITTEN_UNDER_LOCK:
            path.unlink(missing_ok=True)
    for path in (directory / ScoreTable.folder).glob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
    for path in (directory / SPLITS).glob("*/"):
        tidy_split(path)


def refuse_mixed_records(directory: Path, fingerprint: str) -> None:
    """Refuse a study in which study.json is of another model than everything that was derived from it.

    A single split of another model is refused where it is used; here all of them have to be of another one.

    Args:
        directory: The study's folder.
        fingerprint: The fingerprint of the model that study.json names.

    Raises:
        StudyError: study.json was replaced, so that new results would be mixed with those of another model.

    """
    models: set[str] = set()
    for path in (directory / SPLITS).glob(f"*/{SplitRecord.file_name}"):
        with suppress(StudyError):  # what cannot be read is left out where splits are listed
            models.add(SplitRecord.load(path.parent).model)
    if models and fingerprint not in models:
        msg = (
            f"{directory / SPLITS} holds splits of another model than {StudyRecord.file_name} names: put this study's "
            f"{StudyRecord.file_name} back, or delete {SPLITS} and {PredictionsRecord.file_name}"
        )
        raise StudyError(msg)
    if not (directory / PlanRecord.file_name).exists():
        return
    plan_model: str | None = None
    with suppress(StudyError):  # a plan that cannot be read is named where it is read
        plan_model = PlanRecord.load(directory).model_fingerprint
    if plan_model not in (None, fingerprint):
        msg = f"{PlanRecord.file_name} in {directory} is a plan of another model; run `isplit plan {directory}` again"
        raise StudyError(msg)


def make_directory(directory: Path) -> None:
    """Make a folder for a study, or check that a study may be written into the one that is there.

    Raises:
        StudyError: the folder holds files and no readable study, or cannot be made.

    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _known_study(directory)
    except OSError as error:
        msg = f"cannot use {directory} as a study: {error.strerror or error}"
        raise StudyError(msg) from error


def _known_study(directory: Path) -> StudyRecord | None:
    """Return the study of a folder; None for a folder that is empty but for what a killed run left.

    Raises:
        StudyError: the folder holds files and no readable study.json: they may be anybody's.

    """
    names = [path.name for path in directory.iterdir()]
    if StudyRecord.file_name in names:
        try:
            return StudyRecord.load(directory)
        except StudyError as error:
            reason = str(error).partition(";")[0]
            msg = f"{reason}. So nothing in {directory} is replaced: delete it, or choose another directory (`out=DIR`)"
            raise StudyError(msg) from error
    strangers = sorted(name for name in names if not _LEFTOVER.fullmatch(name))
    if strangers:
        msg = f"{directory} is not empty ({strangers[0]}) and holds no study; choose another directory: `out=DIR`"
        raise StudyError(msg)
    return None


def _remove(directory: Path, names: Iterable[str]) -> None:
    for path in (directory / name for name in names):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
