"""Records to series, against numbers worked out by hand."""

import itertools

import pytest

from isplit.records import Candidate, CandidatesRecord, Crossing, CurveRecord, GraphRecord, StudyRecord
from isplit.report.curve_series import (
    Mark,
    class_labels,
    curves,
    error_band,
    heat_map,
    highest_interior_maximum,
    labelled_ticks,
    log10_or_gap,
    mark_kind,
    method_label,
    shape_text,
    short_name,
    sizes,
    table_rows,
    value_range,
)


@pytest.mark.parametrize(
    ("value", "expected"), [(100.0, 2.0), (0.001, -3.0), (0.0, None), (-1.0, None), (float("inf"), None), (None, None)]
)
def test_what_has_no_logarithm_is_a_gap(value: float | None, expected: float | None):
    """Zero, negative, infinite and missing values are gaps, not errors."""
    actual = log10_or_gap(value)
    assert expected == (None if actual is None else pytest.approx(actual))


def test_band_is_the_logarithm_of_two_errors_around_the_value():
    """The band's ends are log10(value ± 2 standard errors), so it is not symmetric about log10(value)."""
    low, high = error_band(0.0055, 0.00225)
    assert (low, high) == (pytest.approx(-3.0), pytest.approx(-2.0))


@pytest.mark.parametrize(("value", "stderr"), [(1.0, 0.5), (1.0, 0.7), (None, 0.1), (1.0, None)])
def test_band_drops_out_where_its_lower_end_is_not_positive(value: float | None, stderr: float | None):
    """Both ends are gaps where value - 2 standard errors <= 0, or where either is not known."""
    expected = (None, None)
    assert expected == error_band(value, stderr)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1.0, 3.0, 2.0, 5.0, 4.0), 3),
        ((9.0, 3.0, 4.0, 1.0, 9.0), 2),  # higher end points do not count
        ((1.0, 2.0, 3.0), None),
        ((1.0, 2.0, 2.0, 1.0), 1),  # a plateau counts once, at its first point
        ((1.0, 2.0, 2.0), None),
        ((1.0, 5.0, None, 4.0, 1.0, 2.0, 0.0), 5),  # beside a gap nothing is known
        ((1.0, 1.0), None),
        ((), None),
    ],
)
def test_highest_interior_maximum(values: tuple[float | None, ...], expected: int | None):
    """The highest point above both its neighbours, never an end point and never beside a gap."""
    assert expected == highest_interior_maximum(values)


def _found(*rules: str, settled: bool | None = True) -> Candidate:
    fields = {"rank": 1, "cut": "a", "found_by": rules, "cui": 1.0, "log10_cui": 0.0, "settled": settled}
    return Candidate.model_validate({**fields, "bytes": 4, "head_mac_share": 0.5})


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (_found("importance-maximum"), "maximum"),
        (_found("size-minimum", "importance-maximum"), "maximum"),
        (_found("importance-maximum", settled=False), "unsettled"),
        (_found("natural-bottleneck", settled=None), "size"),
        (_found("size-minimum", "above-trend", settled=None), "size"),
        (_found("above-trend", settled=None), "trend"),
    ],
)
def test_mark_follows_the_rule_that_found_the_candidate(candidate: Candidate, expected: str):
    """Importance goes before size, size before trend; an unsettled maximum is its own kind."""
    assert expected == mark_kind(candidate)


def test_curves_are_all_classes_then_subsets_then_classes(
    study: StudyRecord, curve: CurveRecord, candidates: CandidatesRecord
):
    """The choices keep that order and carry the titles."""
    expected = [
        ("all", "all classes"),
        ("subset", "animals"),
        ("subset", "things"),
        ("class", "goldfish"),
        ("class", "<b>&cat"),
        ("class", "school bus"),
        ("class", "espresso"),
    ]
    assert expected == [(mark.kind, mark.label) for mark in curves(study, curve, candidates)]


def test_all_classes_curve_has_gaps_and_marks(study: StudyRecord, curve: CurveRecord, candidates: CandidatesRecord):
    """A null value is a gap, a wide band drops out alone, and every candidate on the curve is marked."""
    series = curves(study, curve, candidates)[0]
    assert pytest.approx(-4.0) == series.log10[1]
    assert (series.log10[6], series.low[6], series.high[6]) == (None, None, None)
    assert (series.low[3], series.high[3]) == (None, None)
    assert pytest.approx(-4.443697) == series.log10[3]
    expected = (
        Mark(index=4, kind="maximum", rank=1),
        Mark(index=1, kind="maximum", rank=2),
        Mark(index=9, kind="unsettled", rank=3),
        Mark(index=10, kind="size", rank=4),
    )
    assert expected == series.marks


def test_marks_of_a_subset_are_its_own_candidates(study: StudyRecord, curve: CurveRecord, candidates: CandidatesRecord):
    """A subset's ranking marks its curve; the values are the subset's."""
    series = curves(study, curve, candidates)[1]
    expected = (Mark(index=1, kind="maximum", rank=1),)
    assert expected == series.marks
    assert pytest.approx(0.7e-4) == series.value[1]


def test_class_is_marked_at_its_highest_interior_maximum(
    study: StudyRecord, curve: CurveRecord, candidates: CandidatesRecord
):
    """A class has no ranking: its own highest maximum is marked, without a rank."""
    series = curves(study, curve, candidates)[4]
    expected = (Mark(index=1, kind="class-maximum", rank=None),)
    assert expected == series.marks
    assert (series.value[1], series.stderr[1]) == (2e-3, 3e-6)


def test_candidate_beyond_the_curve_has_no_mark(study: StudyRecord, curve: CurveRecord, candidates: CandidatesRecord):
    """A candidate without positions is in the table only."""
    beyond = candidates.candidates[3].model_copy(update={"cut": "classifier.1"})
    changed = candidates.model_copy(update={"candidates": (beyond,)})
    expected = ()
    assert expected == curves(study, curve, changed)[0].marks


def test_titles_that_repeat_carry_the_class_name(study: StudyRecord, curve: CurveRecord):
    """ImageNet has two cranes; a class that study.json does not know keeps its name."""
    data = study.data.model_copy(
        update={"classes": ("n01", "n02", "n03"), "class_titles": ("crane", "crane", "school bus")}
    )
    expected = {"n01": "crane (n01)", "n02": "crane (n02)", "n03": "school bus", "n04": "n04"}
    assert expected == class_labels(study.model_copy(update={"data": data}), curve)


def test_axis_shows_the_curve_but_not_all_of_a_band_without_end(
    study: StudyRecord, curve: CurveRecord, candidates: CandidatesRecord
):
    """Limits hold every value; a band that falls to 1e-12 takes at most a third of the curve's height."""
    point = curve.points[0].model_copy(update={"stderr": 1e-5 - 5e-13})
    falling = curve.model_copy(update={"points": (point, *curve.points[1:])})
    series = curves(study, falling, candidates)[0]
    bottom, top = value_range(series)
    known = [value for value in series.log10 if value is not None]
    height = max(known) - min(known)
    assert pytest.approx(min(known) - height / 3 - 0.06 * height) == bottom
    assert top > max(known)


def test_sizes_are_kib_beside_the_input(graph: GraphRecord, curve: CurveRecord):
    """64 × 32 × 32 fp32 values are 256 KiB; the 3 × 32 × 32 input is 12 KiB as fp32 and 3 KiB as uint8."""
    series = sizes(graph, curve)
    expected = (256.0, 64.0, 128.0, 128.0, 32.0, 64.0, 64.0, 16.0, 32.0, 32.0, 8.0)
    assert expected == series.kib
    assert (series.input_fp32_kib, series.input_uint8_kib) == (12.0, 3.0)


def test_heat_map_subtracts_the_all_classes_curve(study: StudyRecord, curve: CurveRecord):
    """The relative value is log10(class / all): 0 at factor 1, log10 2 at factor 2, a gap where either is one."""
    heat = heat_map(study, curve)
    assert pytest.approx(0.0) == heat.relative[0][0]
    assert pytest.approx(0.30103) == heat.relative[2][0]
    assert (heat.absolute[2][6], heat.relative[2][6]) == (None, None)
    expected = (9, 1, 9, 9)
    assert expected == heat.peaks


def test_table_has_every_cut_of_the_graph(graph: GraphRecord, curve: CurveRecord, candidates: CandidatesRecord):
    """Cuts beyond the curve are rows too; figures are in the units of the headings."""
    rows = table_rows(graph, curve, candidates)
    assert len(graph.cuts) == len(rows)
    first, fifth, last = rows[0], rows[4], rows[-1]
    assert (
        first.kib,
        first.head_mega_macs,
        first.head_mac_share,
        first.head_peak_mib,
        first.tail_peak_mib,
    ) == (256.0, 10.0, 1 / 12, 0.5, 0.25)
    assert pytest.approx(256 / 12) == first.of_input
    assert (fifth.rank, fifth.found_by) == (1, ("importance-maximum", "size-minimum"))
    assert (last.shape, last.elements, last.log10_value, last.rank, last.found_by) == ("4096", 4096, None, None, ())


def test_shapes_of_several_tensors_are_joined(graph: GraphRecord):
    """A cut with two crossing tensors shows both shapes."""
    extra = Crossing(name="skip", shape=(8,), dtype="float32", bytes=32)
    cut = graph.cuts[0].model_copy(update={"crossing": (*graph.cuts[0].crossing, extra)})
    expected = "64×32×32 + 8"
    assert expected == shape_text(cut)


def test_only_the_papers_method_is_written_in_capitals():
    """Any other method keeps the name it has in the record."""
    expected = ["CUI", "gradient_energy"]
    assert expected == [method_label("cui"), method_label("gradient_energy")]


def test_short_names_keep_the_end():
    """The end of a name tells neighbouring cuts apart."""
    expected = "…denselayer6:cat_2"
    assert expected == short_name("features.denseblock1.denselayer6:cat_2", limit=18)
    assert short_name("features.1", limit=18) == "features.1"


def test_all_ticks_are_labelled_where_they_fit():
    """With room for all, none is left out."""
    expected = list(range(12))
    assert expected == labelled_ticks(12, first=[], room=12)


def test_candidates_keep_their_labels_when_ticks_are_thinned():
    """Labels keep their distance, and a candidate is never the one to go for another cut."""
    ticks = labelled_ticks(160, first=[77, 31], room=40)
    assert {77, 31} <= set(ticks)
    assert min(b - a for a, b in itertools.pairwise(ticks)) >= 4
    assert 27 <= len(ticks) <= 40
