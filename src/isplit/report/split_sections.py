"""The page's sections about splits that were built: accuracy over bytes, predicted against measured, classes, rows."""

from collections.abc import Sequence
from html import escape

from isplit.records import Measurement, Prediction, PredictionsRecord, RemoteImage, SplitRecord
from isplit.report.markup import breakable, code, minus, sortable_head, sortable_row
from isplit.report.placements import image_setting, split_rows, verdict_texts
from isplit.report.split_series import GroupSeries, budget_text, design_of

Cell = tuple[object, str, str]

_BEST = 8
_UNSCROLLED_ROWS = 30

# Heading, unit, whether its cells are numbers.
_COLUMNS: tuple[tuple[str, str, bool], ...] = (
    ("Placement", "", False),
    ("Classes", "", False),
    ("State", "", False),
    ("Budget", "", True),
    ("Device MACs", "% of all", True),
    ("Bytes", "mean", True),
    ("Bytes", "95 %", True),
    ("Accuracy", "%", True),
    ("Interval", "95 %", True),
    ("Against whole", "points", True),
    ("After training", "predicted, %", True),
    ("Rank", "accuracy", True),
    ("Rank", "importance", True),
    ("Rank", "size", True),
)
_GROUP, _AFTER = 1, 10


def verdicts(predictions: PredictionsRecord | None, groups: Sequence[GroupSeries]) -> str:
    """Return whether splitting is worth it, for every set of classes; nothing where nothing was predicted."""
    if predictions is None or not predictions.predictions:
        return ""
    lines: list[str] = []
    for group in groups:
        of_group = f"<strong>{escape(group.name)}:</strong> " if len(groups) > 1 else ""
        text = " ".join(verdict_texts(predictions, group=group.name))
        lines.append(f"<p>{of_group}{escape(text)}</p>")
    return (
        '<div class="remarks" id="verdict"><p><strong>Is splitting worth it here, before any training?</strong></p>'
        f"{''.join(lines)}</div>"
    )


def split_sections(
    predictions: PredictionsRecord | None, trained: Sequence[SplitRecord], groups: Sequence[GroupSeries], *, first: int
) -> str:
    """Return all sections about built splits, figures numbered from `first`; nothing where no split was built."""
    if not groups:
        return ""
    parts = [_bytes_section(predictions, trained, groups, first)]
    if any(group.pairs for group in groups):
        first += 1
        parts.append(_pairs_section(groups, first))
    parts.append(_classes_section(predictions, trained, first + 1))
    parts.append(_table_section(predictions, trained))
    return "\n".join(parts)


def _heading(identity: str, number: str, title: str) -> str:
    return f'<h2 id="{identity}"><span class="number">{number}</span> {title}</h2>'


def _bytes_section(
    predictions: PredictionsRecord | None, trained: Sequence[SplitRecord], groups: Sequence[GroupSeries], number: int
) -> str:
    choices = "".join(f'<option value="{index}">{escape(group.name)}</option>' for index, group in enumerate(groups))
    chooser = f'<label for="split-group">Classes</label><select id="split-group">{choices}</select>'
    return (
        '<section aria-labelledby="bytes-title">'
        f"{_heading('bytes-title', f'Figure {number}', 'Accuracy over bytes')}"
        f'<div class="controls"{" hidden" if len(groups) == 1 else ""}>{chooser}</div>'
        '<figure><div id="figure-bytes" class="plot" role="img" aria-label="Accuracy of each split, of the whole model '
        'and of compressed images over the mean bytes per image; Table 2 has the numbers"></div>'
        f"<figcaption>{_bytes_caption(predictions, trained)}</figcaption></figure></section>"
    )


def _bytes_caption(predictions: PredictionsRecord | None, trained: Sequence[SplitRecord]) -> str:
    lines = ["Bytes are those of whole payloads, header included, as a mean per image; bars are 95\u00a0% intervals."]
    if predictions is not None:
        lines.append(
            "A line for each cut over its budgets, with the bottleneck in closed form "
            f"({predictions.statistics_images:,} images) and no training, on {predictions.images:,} images of the "
            "select part. The dashed grey line joins the JPEG and WebP settings that no other beats (open squares: all "
            "that were tried). The horizontal line is the whole model: local, no bytes."
        )
    if predictions is not None:
        lines.append(
            f"Accuracy after training is predicted by a curve fitted to {escape(predictions.calibration)}."
            if predictions.calibration
            else "Not calibrated: accuracy after training is not predicted."
        )
    if trained:
        lines.append("Stars are trained splits, on the test part.")
    return " ".join(lines)


def _pairs_section(groups: Sequence[GroupSeries], number: int) -> str:
    predicted = (
        "the accuracy predicted for it"
        if any(group.calibrated for group in groups)
        else "its accuracy before training, with the closed form on the select part (not calibrated)"
    )
    return (
        '<section aria-labelledby="pairs-title">'
        f"{_heading('pairs-title', f'Figure {number}', 'Predicted against measured')}"
        '<figure><div id="figure-pairs" class="plot" role="img" aria-label="Accuracy of each trained split against '
        'what was known of it before"></div>'
        f"<figcaption>Every trained split: its accuracy on the test part against {predicted}. On the dotted line both "
        "are equal; what counts for the choice of a cut is the order.</figcaption></figure></section>"
    )


# ---- classes ----


def _classes_section(predictions: PredictionsRecord | None, trained: Sequence[SplitRecord], number: int) -> str:
    """Return the accuracy per class of the best splits, a heat map that is a table; one for each set of classes."""
    tables: list[str] = []
    every: list[Prediction | SplitRecord] = [*(predictions.predictions if predictions else ()), *trained]
    for group in dict.fromkeys(one.group for one in every):
        chosen = _best([one for one in every if one.group == group])
        tables.append(_classes_table(chosen, group if len({one.group for one in every}) > 1 else ""))
    return (
        '<section aria-labelledby="split-classes-title">'
        f"{_heading('split-classes-title', f'Figure {number}', 'Accuracy by class of the best splits')}"
        f"{''.join(tables)}"
        '<p class="caption">For every budget the most accurate split before training, and trained splits, the most '
        f"accurate first, {_BEST} at most. Per cent of the class's images; darker is better.</p></section>"
    )


def _best(found: list[Prediction | SplitRecord]) -> list[Prediction | SplitRecord]:
    """The most accurate of each budget and state; among equals the one with the fewest MACs on the device."""

    def order(one: Prediction | SplitRecord) -> tuple[float, float]:
        return -one.measurement.accuracy.accuracy, one.measurement.head_mac_share

    best: dict[tuple[str, bool], Prediction | SplitRecord] = {}
    for one in sorted(found, key=order):
        best.setdefault((one.budget.tag, isinstance(one, SplitRecord)), one)
    return sorted(best.values(), key=order)[:_BEST]


def _classes_table(chosen: list[Prediction | SplitRecord], caption: str) -> str:
    head = "".join(f'<th scope="col">{_split_heading(one)}</th>' for one in chosen)
    rows: list[str] = []
    for name in dict.fromkeys(name for one in chosen for name in one.measurement.per_class):
        cells = "".join(_heat_cell(one.measurement, name) for one in chosen)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    tall = " tall" if len(rows) > _UNSCROLLED_ROWS else ""
    return (
        f'<div class="scroll{tall}" role="region" aria-labelledby="split-classes-title" tabindex="0">'
        f'<table class="heat">{title}<thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _split_heading(one: Prediction | SplitRecord) -> str:
    state = "trained" if isinstance(one, SplitRecord) else "before training"
    return f'{code(one.cut)}<span class="grid">{budget_text(one)}, {state}</span>'


def _heat_cell(measured: Measurement, name: str) -> str:
    found = measured.per_class.get(name)
    if found is None or found.images == 0:
        return "<td>–</td>"
    ink = "#fff" if found.accuracy > 0.55 else "#1f2937"
    style = f"background: rgba(29,79,145,{0.06 + 0.86 * found.accuracy:.2f}); color: {ink}"
    return f'<td style="{style}" title="{found.correct} of {found.images}">{100 * found.accuracy:.0f}</td>'


# ---- table ----


def _table_section(predictions: PredictionsRecord | None, trained: Sequence[SplitRecord]) -> str:
    rows = [_trained_cells(one) for one in trained]
    if predictions is not None:
        depth: dict[str, int] = {}
        for one in predictions.predictions:
            depth.setdefault(one.cut, len(depth))
        ranked = sorted(
            split_rows(predictions.predictions),
            key=lambda row: (row.prediction.group, depth[row.prediction.cut], row.prediction.budget.order),
        )
        rows += [_predicted_cells(row.prediction, (row.accuracy_rank, row.cui_rank, row.size_rank)) for row in ranked]
        rows += _local_cells(predictions.predictions)
        rows += [_image_cells(one) for one in predictions.remote]
    # Columns that would say the same everywhere are left out.
    left_out = set() if len({row[_GROUP][0] for row in rows}) > 1 else {_GROUP}
    left_out |= set() if any(row[_AFTER][0] is not None for row in rows) else {_AFTER}
    columns = tuple(column for number, column in enumerate(_COLUMNS) if number not in left_out)
    body = (sortable_row(tuple(cell for n, cell in enumerate(row) if n not in left_out)) for row in rows)
    tall = " tall" if len(rows) > _UNSCROLLED_ROWS else ""
    return (
        f'<section aria-labelledby="splits-title">{_heading("splits-title", "Table 2", "All placements")}'
        f'<div class="scroll{tall}" role="region" aria-labelledby="splits-title" tabindex="0">'
        f'<table id="splits-table" class="sortable"><thead><tr>{sortable_head(columns)}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
        '<p class="caption">Local: all on the device. Remote: the whole model on the server, on compressed images. '
        "Ranks are among the cuts at the same budget. Against whole: on the same images, ± one standard error.</p>"
        "</section>"
    )


def _cells(
    name: str,
    group: str,
    state: str,
    budget: tuple[float | None, str],
    measured: Measurement | RemoteImage,
    share: float,
    after: float | None = None,
    ranks: tuple[int | None, int | None, int | None] = (None, None, None),
) -> tuple[Cell, ...]:
    found, payload, against = measured.accuracy, measured.payload_bytes, measured.against_whole
    difference = minus(f"{100 * against.difference:+.1f}") + f" ± {100 * against.stderr:.1f}"
    return (
        (name, breakable(name), "cut"),
        (group, escape(group), ""),
        (state, state, ""),
        (*budget, "number"),
        (share, f"{100 * share:.1f}", "number"),
        (payload.mean, f"{payload.mean:,.1f}", "number"),
        (payload.p95, f"{payload.p95:,.0f}", "number"),
        (found.accuracy, f"{100 * found.accuracy:.1f}", "number"),
        (found.low, f"{100 * found.low:.1f}–{100 * found.high:.1f}", "number"),
        (against.difference, difference, "number"),
        (after, "" if after is None else f"{100 * after:.1f}", "number"),
        *((rank, "" if rank is None else str(rank), "number") for rank in ranks),
    )


def _budget_cell(one: Prediction | SplitRecord) -> tuple[float, str]:
    budget = one.budget
    return float(budget.payload_bytes or -(budget.element_ratio or 0)), budget_text(one)


def _predicted_cells(one: Prediction, ranks: tuple[int, int | None, int]) -> tuple[Cell, ...]:
    state = "before training" + (", PCA" if one.design == "pca" else "")
    share = one.measurement.head_mac_share
    return _cells(one.cut, one.group, state, _budget_cell(one), one.measurement, share, one.predicted_accuracy, ranks)


def _trained_cells(one: SplitRecord) -> tuple[Cell, ...]:
    state = "trained" + ("" if design_of(one) == "linear" else f", {design_of(one)}")
    return _cells(one.cut, one.group, state, _budget_cell(one), one.measurement, one.measurement.head_mac_share)


def _image_cells(one: RemoteImage) -> tuple[Cell, ...]:
    return _cells(image_setting(one), one.group, "remote", (None, ""), one, 0.0)


def _local_cells(found: Sequence[Prediction]) -> list[tuple[Cell, ...]]:
    """The whole model on the device, once for each set of classes."""
    rows: list[tuple[Cell, ...]] = []
    for group in dict.fromkeys(one.group for one in found):
        whole = max((one.measurement.whole for one in found if one.group == group), key=lambda one: one.images)
        interval = f"{100 * whole.low:.1f}–{100 * whole.high:.1f}"
        rows.append(
            (
                ("whole model", "whole model", "cut"),
                (group, escape(group), ""),
                ("local", "local", ""),
                (None, "", "number"),
                (1.0, "100.0", "number"),
                (0, "0", "number"),
                (0, "0", "number"),
                (whole.accuracy, f"{100 * whole.accuracy:.1f}", "number"),
                (whole.low, interval, "number"),
                (0.0, "0.0", "number"),
                *(((None, "", "number"),) * 4),
            )
        )
    return rows
