"""Which of a study's splits to export: the trained one of a cut if there is one, else the closed form."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from isplit.design.bottleneck.build import SPLITS
from isplit.design.class_subsets import GroupLogits
from isplit.design.export_settings import Wanted
from isplit.design.graph import split
from isplit.design.measure.splits import BuiltSplit
from isplit.design.splits import load_trained
from isplit.design.study import OpenStudy
from isplit.errors import StudyError
from isplit.records import Budget, SplitRecord


@dataclass(frozen=True, kw_only=True, eq=False)
class ChosenSplit:
    """A split as it will be exported; head and tail are the model's own where they were not trained."""

    record: SplitRecord
    built: BuiltSplit
    head: nn.Module
    tail: nn.Module


def choose_split(study: OpenStudy, cut: str, *, group: GroupLogits, wanted: Wanted) -> ChosenSplit:
    """Load the one split of a cut that is wanted.

    Raises:
        StudyError: the study has none, or several and nothing says which; or it is of another model.

    """
    study.cuts((cut,))  # an unknown cut is refused in words of its own
    directory, record = _find(study, cut, group.group.name, wanted)
    built, sides = load_trained(study, directory), split(study.graph, cut)
    return ChosenSplit(record=record, built=built, head=built.head or sides.head, tail=built.tail or sides.tail)


def _find(study: OpenStudy, cut: str, group: str, wanted: Wanted) -> tuple[Path, SplitRecord]:
    paths = sorted((study.directory / SPLITS).glob(f"*/{SplitRecord.file_name}"))
    every = [(path.parent, SplitRecord.load(path.parent)) for path in paths]
    of_cut = [one for one in every if one[1].cut == cut and one[1].group == group]
    fitting = [one for one in of_cut if _fits(one[1], wanted)]
    trained = [one for one in fitting if one[1].training is not None]
    found = fitting if wanted.closed_form else trained or fitting
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{_describe(record)}" for _, record in found)
        msg = f"{cut} has several splits: {names}; say which with --bytes or --ratio, --design, --closed-form"
    elif of_cut:
        names = ", ".join(_describe(record) for _, record in of_cut)
        msg = f"{cut} has no split {_describe_wanted(wanted)}; it has: {names}"
    else:
        budget = _option(wanted.budget) if wanted.budget else "--bytes N"
        subset = "" if group == study.record.groups[0].name else f" --group {group!r}"
        msg = (
            f"{study.directory} has no split at {cut} for {group}: run `isplit predict {study.directory} --cut {cut} "
            f"{budget}{subset}` for the closed form, or `isplit fit` with the same options to train one"
        )
    raise StudyError(msg)


def _fits(record: SplitRecord, wanted: Wanted) -> bool:
    return (
        (wanted.budget is None or record.budget == wanted.budget)
        and (wanted.design is None or record.bottleneck.design == wanted.design)
        and not (wanted.closed_form and record.training is not None)
    )


def _describe(record: SplitRecord) -> str:
    state = "closed form" if record.training is None else "trained"
    return f"{_option(record.budget)} {record.bottleneck.design} ({state})"


def _describe_wanted(wanted: Wanted) -> str:
    parts = [
        _option(wanted.budget) if wanted.budget else "",
        f"--design {wanted.design}" if wanted.design else "",
        "--closed-form" if wanted.closed_form else "",
    ]
    return "with " + " ".join(part for part in parts if part)


def _option(budget: Budget) -> str:
    if budget.payload_bytes is not None:
        return f"--bytes {budget.payload_bytes}"
    return f"--ratio {budget.element_ratio:g}"
