"""The folder of a study: which files belong to it, and when it is the study of other input."""

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from isplit.design.importance.table import ScoreTable
from isplit.design.inputs.data import Dataset
from isplit.design.inputs.models import LoadedModel
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
    StudyRecord,
    VerificationRecord,
)
from isplit.records.split_files import SPLITS

ANALYSIS_FILES = (CurveRecord.file_name, CandidatesRecord.file_name, Overlays.file_name, "report.html", "curve.svg")
"""Files that `analyze` writes after study.json; every run of it writes them again."""

# What an interrupted write leaves (see `write_whole`), and the lock.
_LEFTOVER = re.compile(r"\.study\.json\.\w+|\.lock|\.lock\.json|\.\.lock\.json\.\w+")

DERIVED_FILES = (
    PredictionsRecord.file_name,
    VerificationRecord.file_name,
    RunsRecord.file_name,
    PlanRecord.file_name,
    SPLITS,
)
"""Files that other commands derive from a study; they are deleted when its input changes."""


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

    Files of earlier runs are removed first: should this run be stopped, nothing old stands beside something new. What
    other commands derived from the study stays if its input is the same.

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
        leftovers = [path.name for path in directory.iterdir() if path.name.startswith(".")]
        _remove(directory, [*ANALYSIS_FILES, *filter(_belongs_to_study, leftovers)])
    except OSError as error:
        msg = f"cannot use {directory} as a study: {error.strerror or error}"
        raise StudyError(msg) from error
    reusable = known is not None and not difference and not overwrite
    if known is None or not reusable or known.groups[0] != inputs.groups[0]:
        return None
    if known.base_accuracy.images != test_images:
        return None
    known = known.model_copy(update={"groups": inputs.groups})
    known.save(directory)
    return known


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


def _belongs_to_study(name: str) -> bool:
    """Whether a file is one of a study's, the temporary ones of a run that was killed included."""
    files = (StudyRecord.file_name, GraphRecord.file_name, ScoreTable.folder, *ANALYSIS_FILES, *DERIVED_FILES)
    return name in files or any(name.startswith(f".{file}.") for file in files)


def _remove(directory: Path, names: Iterable[str]) -> None:
    for path in (directory / name for name in names):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
