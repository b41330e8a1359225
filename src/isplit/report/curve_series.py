"""Turn records into the plain series that the plots and the table draw, without a plotting library or HTML.

    graph, curve, candidates ──> curves ──────┐
                             ──> sizes ───────┼──> figures/ (SVG), page.py (HTML)
                             ──> heat_map ────┤
                             ──> table_rows ──┘

Every series over cuts has one value per point of curve.json, in the order of computation; None is a gap.
"""

from collections import Counter
from dataclasses import dataclass
from math import isfinite, log10
from typing import Literal

from isplit.records import Candidate, CandidatesRecord, CurvePoint, CurveRecord, Cut, GraphRecord, Rule, StudyRecord

MarkKind = Literal["maximum", "unsettled", "size", "trend", "class-maximum"]
CurveKind = Literal["all", "subset", "class"]
Values = tuple[float | None, ...]

KIB = 1024
MIB = 1024 * 1024
BAND_STDERRS = 2.0

_SIZE_RULES: frozenset[Rule] = frozenset({"natural-bottleneck", "size-minimum"})


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A marked point of a curve: its index among the points, its kind, and its rank if it is a candidate."""

    index: int
    kind: MarkKind
    rank: int | None


@dataclass(frozen=True, kw_only=True)
class CurveSeries:
    """One importance curve: of all classes, a subset, or one class.

    `log10`, `low` and `high` are log10 of the value and of the value ± 2 standard errors. `low` and `high` are both
    gaps wherever the lower end is not positive, because half a band would mislead.
    """

    label: str
    kind: CurveKind
    value: Values
    stderr: Values
    log10: Values
    low: Values
    high: Values
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class SizeSeries:
    """KiB per image that cross each cut, and the size of the input as fp32 and as uint8."""

    kib: tuple[float, ...]
    input_fp32_kib: float
    input_uint8_kib: float


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """log10 importance, classes × cuts; `relative` has the all-classes curve subtracted.

    `peaks` is the index of each class's highest interior local maximum, None where it has none.
    """

    labels: tuple[str, ...]
    absolute: tuple[Values, ...]
    relative: tuple[Values, ...]
    peaks: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One cut of graph.json with all values that the table shows; figures are per image."""

    depth: int
    cut: str
    shape: str
    elements: int
    kib: float
    of_input: float
    head_mega_macs: float
    head_mac_share: float
    head_parameters: int
    head_peak_mib: float
    tail_peak_mib: float
    log10_value: float | None
    rank: int | None
    found_by: tuple[Rule, ...]


def log10_or_gap(value: float | None) -> float | None:
    """Return log10, or None for values without one: a gap, zero, a negative number, infinity."""
    return log10(value) if value is not None and value > 0 and isfinite(value) else None


def error_band(value: float | None, stderr: float | None) -> tuple[float | None, float | None]:
    """Return log10 of `value` ± 2 `stderr`, or two gaps if the lower end is not positive."""
    if value is None or stderr is None:
        return None, None
    low, high = log10_or_gap(value - BAND_STDERRS * stderr), log10_or_gap(value + BAND_STDERRS * stderr)
    return (None, None) if low is None or high is None else (low, high)


def highest_interior_maximum(values: Values) -> int | None:
    """Return the index of the highest local maximum that is not an end point, or None.

    A plateau counts once, at its first point. A point beside a gap is not a maximum, because its neighbour is unknown.
    """
    best: int | None = None
    best_value = float("-inf")
    for start in range(1, len(values) - 1):
        value, before = values[start], values[start - 1]
        end = start
        while end < len(values) and values[end] == value:
            end += 1
        after = values[end] if end < len(values) else None
        if value is None or before is None or after is None:
            continue
        if before < value > after and value > best_value:
            best, best_value = start, value
    return best


def mark_kind(candidate: Candidate) -> MarkKind:
    """Return how a candidate is drawn; importance goes before size if both rules found it."""
    if "importance-maximum" in candidate.found_by:
        return "unsettled" if candidate.settled is False else "maximum"
    return "size" if _SIZE_RULES & set(candidate.found_by) else "trend"


def class_labels(study: StudyRecord, curve: CurveRecord) -> dict[str, str]:
    """Return the title of each class in the curve, followed by its name if titles repeat, as ImageNet's `crane`.

    An entry that is not a class of study.json, such as a merged class, keeps its name in the curve.
    """
    titles = dict(zip(study.data.classes, study.data.class_titles, strict=True))
    names = list(curve.points[0].per_class) if curve.points else []
    shown = {name: titles.get(name) or name for name in names}
    repeats = Counter(shown.values())
    return {name: title if repeats[title] == 1 else f"{title} ({name})" for name, title in shown.items()}


def curves(study: StudyRecord, curve: CurveRecord, candidates: CandidatesRecord) -> tuple[CurveSeries, ...]:
    """Return every curve that can be chosen: the study's classes together, then the subsets, then each class.

    The first is called "all classes" unless the study is about a subset only.
    """
    cuts = [point.cut for point in curve.points]
    rankings = {ranking.name: ranking.candidates for ranking in candidates.subsets}
    overall = study.groups[0].name if study.groups else "all classes"
    series = [_overall(overall, "all", curve.points, _marks(candidates.candidates, cuts))]
    for subset in curve.subsets:
        marks = _marks(rankings.get(subset.name, ()), [point.cut for point in subset.points])
        series.append(_overall(subset.name, "subset", subset.points, marks))
    for name, label in class_labels(study, curve).items():
        series.append(_of_class(name, label, curve.points))
    return tuple(series)


def _marks(ranked: tuple[Candidate, ...], cuts: list[str]) -> tuple[Mark, ...]:
    """Return marks for the candidates that lie on the curve; the table has the others."""
    places = {cut: index for index, cut in enumerate(cuts)}
    return tuple(
        Mark(index=places[candidate.cut], kind=mark_kind(candidate), rank=candidate.rank)
        for candidate in ranked
        if candidate.cut in places
    )


def _overall(label: str, kind: CurveKind, points: tuple[CurvePoint, ...], marks: tuple[Mark, ...]) -> CurveSeries:
    values = tuple(point.cui for point in points)
    return _series(label, kind, values, tuple(point.stderr for point in points), marks)


def _of_class(name: str, label: str, points: tuple[CurvePoint, ...]) -> CurveSeries:
    values = tuple(point.per_class.get(name) for point in points)
    peak = highest_interior_maximum(values)
    marks = () if peak is None else (Mark(index=peak, kind="class-maximum", rank=None),)
    return _series(label, "class", values, tuple(point.per_class_stderr.get(name) for point in points), marks)


def _series(label: str, kind: CurveKind, value: Values, stderr: Values, marks: tuple[Mark, ...]) -> CurveSeries:
    bands = [error_band(*pair) for pair in zip(value, stderr, strict=True)]
    return CurveSeries(
        label=label,
        kind=kind,
        value=value,
        stderr=stderr,
        log10=tuple(map(log10_or_gap, value)),
        low=tuple(low for low, _ in bands),
        high=tuple(high for _, high in bands),
        marks=marks,
    )


def value_range(series: CurveSeries) -> tuple[float, float]:
    """Return the limits of a log10 axis that shows the whole curve, with room above for the ranks.

    The band's lower end tends to minus infinity before it disappears, so it may take at most a third of the curve's
    own height.
    """
    drawn = [value for value in series.log10 if value is not None] or [0.0]
    bottom, top = min(drawn), max(drawn)
    height = max(top - bottom, 0.5)
    low = min([bottom, *(value for value in series.low if value is not None)])
    high = max([top, *(value for value in series.high if value is not None)])
    return max(low, bottom - height / 3) - 0.06 * height, min(high, top + height / 3) + 0.16 * height


def sizes(graph: GraphRecord, curve: CurveRecord) -> SizeSeries:
    """Return the size of the crossing tensors at each point of the curve, beside that of the input."""
    by_name = {cut.name: cut for cut in graph.cuts}
    return SizeSeries(
        kib=tuple(by_name[point.cut].bytes / KIB for point in curve.points),
        input_fp32_kib=graph.input_bytes / KIB,
        input_uint8_kib=graph.input_bytes / 4 / KIB,
    )


def heat_map(study: StudyRecord, curve: CurveRecord) -> HeatMap:
    """Return every class's curve as one row."""
    overall = tuple(log10_or_gap(point.cui) for point in curve.points)
    labels = class_labels(study, curve)
    values = [tuple(point.per_class.get(name) for point in curve.points) for name in labels]
    absolute = tuple(tuple(map(log10_or_gap, row)) for row in values)
    return HeatMap(
        labels=tuple(labels.values()),
        absolute=absolute,
        relative=tuple(tuple(map(_difference, row, overall)) for row in absolute),
        peaks=tuple(highest_interior_maximum(row) for row in values),
    )


def _difference(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value - reference


def shape_text(cut: Cut) -> str:
    """Return the shape of the crossing tensors, as "64×32×32"; several are joined by " + "."""
    return " + ".join("×".join(map(str, tensor.shape)) or "1" for tensor in cut.crossing)


def mac_share(cut: Cut, graph: GraphRecord) -> float:
    """Return the part of the model's MACs that the head computes, in [0, 1]."""
    return cut.head_macs / graph.macs if graph.macs else 0.0


def table_rows(graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord) -> tuple[TableRow, ...]:
    """Return one row for each cut of the graph, including those beyond the curve."""
    values = {point.cut: point.cui for point in curve.points}
    ranked = {candidate.cut: candidate for candidate in candidates.candidates}
    return tuple(_table_row(cut, graph, values.get(cut.name), ranked.get(cut.name)) for cut in graph.cuts)


def _table_row(cut: Cut, graph: GraphRecord, value: float | None, candidate: Candidate | None) -> TableRow:
    return TableRow(
        depth=cut.depth,
        cut=cut.name,
        shape=shape_text(cut),
        elements=sum(_elements(tensor.shape) for tensor in cut.crossing),
        kib=cut.bytes / KIB,
        of_input=cut.bytes / graph.input_bytes,
        head_mega_macs=cut.head_macs / 1e6,
        head_mac_share=mac_share(cut, graph),
        head_parameters=cut.head_parameters,
        head_peak_mib=cut.head_peak_bytes / MIB,
        tail_peak_mib=cut.tail_peak_bytes / MIB,
        log10_value=log10_or_gap(value),
        rank=candidate.rank if candidate else None,
        found_by=candidate.found_by if candidate else (),
    )


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def method_label(method: str) -> str:
    """Return a method's name as an axis shows it: "CUI" for the paper's, otherwise the name itself."""
    return "CUI" if method.lower() == "cui" else method


def short_name(name: str, *, limit: int) -> str:
    """Shorten a cut's name to `limit` characters by dropping its start, because the end distinguishes neighbours."""
    return name if len(name) <= limit else "…" + name[-(limit - 1) :]


def labelled_ticks(count: int, *, first: list[int], room: int) -> list[int]:
    """Choose about `room` of `count` ticks to label: those in `first`, then an even spread of the others.

    No two labels are closer than an even spread would put them, except that the earliest of `first` always stays.
    """
    step = max(1, -(-count // max(room, 1)))
    chosen: list[int] = []
    for index in [*first, *range(0, count, step), *range(count)]:
        if all(abs(index - other) >= step for other in chosen):
            chosen.append(index)
    return sorted(chosen)
