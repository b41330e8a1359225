"""Tabulate the accuracy of the best splits by class, in one table for each set of classes."""

from collections.abc import Sequence
from dataclasses import dataclass

from isplit.records import Accuracy, Budget, Prediction, PredictionsRecord, SplitRecord

MOST_SPLITS = 8


@dataclass(frozen=True, kw_only=True)
class BestSplit:
    """A column: a split, and whether it was trained."""

    cut: str
    budget: Budget
    state: str


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """A class and its accuracy with each split; None if the split was measured on none of its images."""

    name: str
    accuracies: tuple[Accuracy | None, ...]


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """The best splits of a set of classes, and each class's accuracy with them."""

    group: str
    splits: tuple[BestSplit, ...]
    rows: tuple[ClassRow, ...]


def class_tables(predictions: PredictionsRecord | None, trained: Sequence[SplitRecord]) -> tuple[ClassTable, ...]:
    """Return a table for every set of classes that a split was measured for."""
    splits: list[Prediction | SplitRecord] = [*(predictions.predictions if predictions else ()), *trained]
    groups = dict.fromkeys(split.group for split in splits)
    return tuple(_table(group, _best([split for split in splits if split.group == group])) for group in groups)


def _best(splits: list[Prediction | SplitRecord]) -> list[Prediction | SplitRecord]:
    """Return the most accurate split of each budget and state; among equals, that with the fewest device MACs."""

    def order(split: Prediction | SplitRecord) -> tuple[float, float]:
        return -split.measurement.accuracy.accuracy, split.measurement.head_mac_share

    best: dict[tuple[str, bool], Prediction | SplitRecord] = {}
    for split in sorted(splits, key=order):
        best.setdefault((split.budget.tag, isinstance(split, SplitRecord)), split)
    return sorted(best.values(), key=order)[:MOST_SPLITS]


def _table(group: str, splits: list[Prediction | SplitRecord]) -> ClassTable:
    names = dict.fromkeys(name for split in splits for name in split.measurement.per_class)
    rows = (ClassRow(name=name, accuracies=tuple(_accuracy(split, name) for split in splits)) for name in names)
    columns = (
        BestSplit(
            cut=split.cut,
            budget=split.budget,
            state="trained" if isinstance(split, SplitRecord) else "before training",
        )
        for split in splits
    )
    return ClassTable(group=group, splits=tuple(columns), rows=tuple(rows))


def _accuracy(split: Prediction | SplitRecord, name: str) -> Accuracy | None:
    accuracy = split.measurement.per_class.get(name)
    return None if accuracy is None or accuracy.images == 0 else accuracy
