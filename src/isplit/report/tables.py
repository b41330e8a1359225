"""Make the page's large tables as rows of cells, each with its text and the value that it sorts by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from isplit.plan.verdict import image_setting
from isplit.records import (
    CandidatesRecord,
    CurveRecord,
    GraphRecord,
    Measurement,
    Prediction,
    PredictionsRecord,
    RemoteImage,
    SplitRecord,
    WireBytes,
)
from isplit.report.curve_series import TableRow, table_rows
from isplit.report.placements import split_rows
from isplit.report.split_series import design_of
from isplit.report.text import SHORT_RULES, budget_text, minus, signed_points

_Item = TypeVar("_Item")

NOTHING = "–"
"""The text for an unknown value."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A heading with its unit. `style` is the class of its cells: "number", "cut", "found" or none."""

    title: str
    unit: str = ""
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The text of a cell, and the value that it sorts by; cells without a value come last."""

    text: str
    value: float | str | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row; `cut` is the number of its cut in all figures and tables of a page, or None for other placements."""

    cells: tuple[Cell, ...]
    cut: int | None = None
    candidate: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table whose columns and cells match."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def without(self, left_out: set[int]) -> "Table":
        """Return the table without the columns of these numbers."""

        def kept(items: Sequence[_Item]) -> tuple[_Item, ...]:
            return tuple(item for number, item in enumerate(items) if number not in left_out)

        return Table(
            columns=kept(self.columns),
            rows=tuple(replace(row, cells=kept(row.cells)) for row in self.rows),
        )


# ---- table 1: cuts ----


def cuts_table(graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord, *, method: str) -> Table:
    """Return every cut of the graph with its figures, including those beyond the curve."""
    columns = (
        Column(title="Depth", style="number"),
        Column(title="Cut", style="cut"),
        Column(title="Shape", style="number"),
        Column(title="Size", unit="KiB, fp32", style="number"),
        Column(title="Size", unit="× input", style="number"),
        Column(title="Head MACs", unit="M", style="number"),
        Column(title="Head MACs", unit="% of all", style="number"),
        Column(title="Head params", unit="count", style="number"),
        Column(title="Head peak", unit="MiB", style="number"),
        Column(title="Tail peak", unit="MiB", style="number"),
        Column(title=method, unit="log₁₀", style="number"),
        Column(title="Rank", style="number"),
        Column(title="Found by", style="found"),
    )
    rows = (_cut_row(row, number) for number, row in enumerate(table_rows(graph, curve, candidates)))
    return Table(columns=columns, rows=tuple(rows))


def _cut_row(row: TableRow, number: int) -> Row:
    rules = ", ".join(SHORT_RULES[rule] for rule in row.found_by)
    importance = NOTHING if row.log10_value is None else minus(f"{row.log10_value:.2f}")
    cells = (
        Cell(text=str(row.depth), value=row.depth),
        Cell(text=row.cut, value=row.cut),
        Cell(text=row.shape, value=row.elements),
        Cell(text=f"{row.kib:,.1f}", value=row.kib),
        Cell(text=f"{row.of_input:,.3f}", value=row.of_input),
        Cell(text=f"{row.head_mega_macs:,.1f}", value=row.head_mega_macs),
        Cell(text=f"{100 * row.head_mac_share:.1f}", value=row.head_mac_share),
        Cell(text=f"{row.head_parameters:,}", value=row.head_parameters),
        Cell(text=f"{row.head_peak_mib:,.2f}", value=row.head_peak_mib),
        Cell(text=f"{row.tail_peak_mib:,.2f}", value=row.tail_peak_mib),
        Cell(text=importance, value=row.log10_value),
        Cell(text="" if row.rank is None else str(row.rank), value=row.rank),
        Cell(text=rules, value=rules),
    )
    return Row(cells=cells, cut=number, candidate=row.rank is not None)


# ---- table 2: placements ----

_PLACEMENT_COLUMNS = (
    Column(title="Placement", style="cut"),
    Column(title="Classes"),
    Column(title="State"),
    Column(title="Budget", style="number"),
    Column(title="Device MACs", unit="% of all", style="number"),
    Column(title="Bytes", unit="mean", style="number"),
    Column(title="Bytes", unit="95 %", style="number"),
    Column(title="Bytes up", unit="on the wire", style="number"),
    Column(title="Bytes down", unit="on the wire", style="number"),
    Column(title="Accuracy", unit="%", style="number"),
    Column(title="Interval", unit="95 %", style="number"),
    Column(title="Against whole", unit="points", style="number"),
    Column(title="After training", unit="predicted, %", style="number"),
    Column(title="Rank", unit="accuracy", style="number"),
    Column(title="Rank", unit="importance", style="number"),
    Column(title="Rank", unit="size", style="number"),
)
_CLASSES, _AFTER_TRAINING = 1, 12


def placements_table(
    predictions: PredictionsRecord | None, trained: Sequence[SplitRecord], *, cut_numbers: dict[str, int]
) -> Table:
    """Return trained splits, predicted splits, the whole model, and compressed images.

    Columns that would hold the same value everywhere are left out.
    """
    rows = [_trained_row(split, cut_numbers) for split in trained]
    if predictions is not None:
        depth: dict[str, int] = {}
        for prediction in predictions.predictions:
            depth.setdefault(prediction.cut, len(depth))
        ranked = sorted(
            split_rows(predictions.predictions),
            key=lambda row: (row.prediction.group, depth[row.prediction.cut], row.prediction.budget.order),
        )
        rows += [
            _predicted_row(row.prediction, (row.accuracy_rank, row.cui_rank, row.size_rank), cut_numbers)
            for row in ranked
        ]
        rows += _local_rows(predictions.predictions)
        rows += [
            _image_row(image, predictions.wire_overhead(image.group).of_image(image.payload_bytes.mean))
            for image in predictions.remote
        ]
    left_out: set[int] = set()
    if len({row.cells[_CLASSES].value for row in rows}) == 1:
        left_out.add(_CLASSES)
    if all(row.cells[_AFTER_TRAINING].value is None for row in rows):
        left_out.add(_AFTER_TRAINING)
    return Table(columns=_PLACEMENT_COLUMNS, rows=tuple(rows)).without(left_out)


def _measured_cells(measured: Measurement | RemoteImage, wire_bytes: WireBytes, share: float) -> tuple[Cell, ...]:
    accuracy, payload, against = measured.accuracy, measured.payload_bytes, measured.against_whole
    return (
        Cell(text=f"{100 * share:.1f}", value=share),
        Cell(text=f"{payload.mean:,.1f}", value=payload.mean),
        Cell(text=f"{payload.p95:,.0f}", value=payload.p95),
        Cell(text=f"{wire_bytes.up:,.0f}", value=wire_bytes.up),
        Cell(text=f"{wire_bytes.down:,.0f}", value=wire_bytes.down),
        Cell(text=f"{100 * accuracy.accuracy:.1f}", value=accuracy.accuracy),
        Cell(text=f"{100 * accuracy.low:.1f}–{100 * accuracy.high:.1f}", value=accuracy.low),
        Cell(text=signed_points(against.difference, against.stderr), value=against.difference),
    )


def _first_cells(name: str, group: str, state: str, budget: Prediction | SplitRecord | None) -> tuple[Cell, ...]:
    amount, words = None, ""
    if budget is not None:
        size = budget.budget
        amount, words = float(size.payload_bytes or -(size.element_ratio or 0)), budget_text(budget)
    return (
        Cell(text=name, value=name),
        Cell(text=group, value=group),
        Cell(text=state, value=state),
        Cell(text=words, value=amount),
    )


def _last_cells(after: float | None, ranks: tuple[int | None, ...] = (None, None, None)) -> tuple[Cell, ...]:
    return (
        Cell(text="" if after is None else f"{100 * after:.1f}", value=after),
        *(Cell(text="" if rank is None else str(rank), value=rank) for rank in ranks),
    )


def _predicted_row(prediction: Prediction, ranks: tuple[int, int | None, int], cut_numbers: dict[str, int]) -> Row:
    state = "before training" + (", PCA" if prediction.design == "pca" else "")
    measured = prediction.measurement
    cells = (
        *_first_cells(prediction.cut, prediction.group, state, prediction),
        *_measured_cells(measured, measured.wire_bytes, measured.head_mac_share),
        *_last_cells(prediction.predicted_accuracy, ranks),
    )
    return Row(cells=cells, cut=cut_numbers.get(prediction.cut))


def _trained_row(split: SplitRecord, cut_numbers: dict[str, int]) -> Row:
    state = "trained" + ("" if design_of(split) == "linear" else f", {design_of(split)}")
    cells = (
        *_first_cells(split.cut, split.group, state, split),
        *_measured_cells(split.measurement, split.measurement.wire_bytes, split.measurement.head_mac_share),
        *_last_cells(None),
    )
    return Row(cells=cells, cut=cut_numbers.get(split.cut))


def _image_row(image: RemoteImage, wire_bytes: WireBytes) -> Row:
    cells = (*_first_cells(image_setting(image), image.group, "remote", None), *_measured_cells(image, wire_bytes, 0.0))
    return Row(cells=(*cells, *_last_cells(None)))


def _local_rows(predictions: Sequence[Prediction]) -> list[Row]:
    """Return the whole model on the device, once for each set of classes."""
    rows: list[Row] = []
    for group in dict.fromkeys(prediction.group for prediction in predictions):
        measurements = (prediction.measurement for prediction in predictions if prediction.group == group)
        whole = max((measured.whole for measured in measurements), key=lambda whole: whole.images)
        measured_cells = (
            Cell(text="100.0", value=1.0),
            *(Cell(text="0", value=0) for _ in range(4)),  # mean and 95 % of the payload; bytes up and down the wire
            Cell(text=f"{100 * whole.accuracy:.1f}", value=whole.accuracy),
            Cell(text=f"{100 * whole.low:.1f}–{100 * whole.high:.1f}", value=whole.low),
            Cell(text="0.0", value=0.0),
        )
        cells = (*_first_cells("whole model", group, "local", None), *measured_cells, *_last_cells(None))
        rows.append(Row(cells=cells))
    return rows
