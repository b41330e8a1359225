"""Find the split that a study's plan chose, which `--cut planned` stands for."""

from pathlib import Path

from isplit.errors import InputError, StudyError
from isplit.records import Budget, PlanRecord

PLANNED = "planned"
"""The word that stands for the split that the plan chose."""


def planned_split(directory: Path, *, to_train: bool = False) -> tuple[str, Budget]:
    """Return the cut and the budget that the plan of a study chose.

    Args:
        directory: The study.
        to_train: Whether the split is going to be trained. Then the split whose training the plan advises is preferred.

    Raises:
        StudyError: the study has no plan, or its plan cannot be read.
        InputError: the plan chose no split, because the device alone or the compressed image is better, or because
            nothing keeps the limits.

    """
    if not (directory / PlanRecord.file_name).is_file():
        msg = f"{directory} has no plan: run `isplit plan {directory}` with your device and link first"
        raise StudyError(msg)
    record = PlanRecord.load(directory)
    if to_train and record.answer.train is not None:
        return record.answer.train.cut, record.answer.train.budget
    name = record.answer.chosen
    if name is None:
        msg = f"the plan of {directory} chose nothing, because nothing keeps its limits: loosen one, or name a cut"
        raise InputError(msg)
    chosen = record.placement(name)
    if chosen.cut is None or chosen.budget is None:
        msg = f"the plan of {directory} chose {name!r}, which is no split: name a cut to go on with one all the same"
        raise InputError(msg)
    return chosen.cut, chosen.budget
