"""The ranking by hand: maxima, plateaus, sizes, curves without a maximum, and what is said about them."""

import pytest

from isplit.design.importance.candidates import (
    above_trend,
    disagreement,
    interior_maxima,
    natural_bottlenecks,
    rank_cuts,
    size_minima,
)
from isplit.errors import NonFiniteError
from isplit.records import Crossing, CurvePoint, Cut, GraphRecord, Ranking


def make_cut(name: str, size: int, depth: int = 1) -> Cut:
    crossing = (Crossing(name=name, shape=(size // 4,), dtype="float32", bytes=size),)
    figures = dict.fromkeys(
        ("tail_macs", "head_parameters", "tail_parameters", "head_peak_bytes", "tail_peak_bytes"), 1
    )
    return Cut(
        name=name,
        depth=depth,
        kind="default",
        op="relu",
        crossing=crossing,
        bytes=size,
        channel_axis=1,
        head_macs=depth,
        **figures,
    )


def make_graph(sizes: list[int]) -> GraphRecord:
    cuts = tuple(make_cut(f"c{number}", size, number) for number, size in enumerate(sizes))
    return GraphRecord(
        captured_by="torch.fx",
        input_shape=(3, 8, 8),
        input_bytes=768,
        output_shape=(2,),
        macs=100,
        parameters=1,
        uncounted=(),
        cuts=cuts,
        unavailable=(),
    )


def make_points(values: list[float | None], step_stderr: float | None = 0.001) -> list[CurvePoint]:
    return [
        CurvePoint(
            cut=f"c{number}",
            cui=value,
            stderr=0.1,
            step_stderr=step_stderr if number else None,
            image_mean=value,
            per_class={},
            per_class_stderr={},
            non_finite=0 if value is not None else 3,
        )
        for number, value in enumerate(values)
    ]


def rank(values: list[float | None], sizes: list[int] | None = None, **options: float) -> Ranking:
    graph = make_graph(sizes or [4000] * len(values))
    return rank_cuts(graph, "all", ("a", "b"), make_points(values, **options))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 3, 2], [(1, 1)]),
        ([3, 1, 2], []),
        ([1, 2, 3], []),
        ([1, 3, 3, 2], [(1, 2)]),
        ([3, 3, 1, 2, 2], []),
        ([1, 2, 1, 2, 1], [(1, 1), (3, 3)]),
        ([1, 2, 2, 3, 1], [(3, 3)]),
        ([0, 1, 0], [(1, 1)]),
        ([5], []),
        ([], []),
    ],
)
def test_interior_maxima(values: list[float], expected: list[tuple[int, int]]) -> None:
    """End points are never maxima; a plateau counts once, and not where it touches an end."""
    assert expected == interior_maxima(values)


def test_maxima_come_highest_first() -> None:
    """I-SPLIT: the global (interior) maximum is the first choice, whatever its depth; the higher end point is none."""
    ranking = rank([1, 5, 2, 9, 1, 4, 3, 20])

    assert ["c3", "c1", "c5"] == [candidate.cut for candidate in ranking.candidates]
    assert [1, 2, 3] == [candidate.rank for candidate in ranking.candidates]
    assert {("importance-maximum",)} == {candidate.found_by for candidate in ranking.candidates}
    assert 0.03 == ranking.candidates[0].head_mac_share
    assert ranking.note is None


def test_a_maximum_within_two_errors_of_a_neighbour_is_unsettled() -> None:
    """Both neighbours have to be clearly lower, by paired differences."""
    settled = rank([1.0, 2.0, 1.0], step_stderr=0.4).candidates[0]
    unsettled = rank([1.0, 2.0, 1.0], step_stderr=0.6).candidates[0]
    one_side = rank([1.0, 2.0, 1.9], step_stderr=0.06).candidates[0]

    assert (True, False, False) == (settled.settled, unsettled.settled, one_side.settled)


def test_size_rules() -> None:
    """Natural: smaller than the input (768) and all before. Minima of the size curve: inside only, plateaus once."""
    sizes = [4000, 500, 600, 500, 500, 700, 100, 900]
    cuts = make_graph(sizes).cuts

    assert ["c1", "c6"] == natural_bottlenecks(cuts, 768)
    assert ["c1", "c3", "c6"] == size_minima(cuts)


def test_which_rule_found_which() -> None:
    """A cut found twice says so; what only sizes find comes after all maxima."""
    ranking = rank([1, 5, 2, 3, 1], sizes=[4000, 500, 900, 700, 100])

    assert [
        ("c1", ("importance-maximum", "natural-bottleneck", "size-minimum")),
        ("c3", ("importance-maximum",)),
        ("c4", ("natural-bottleneck",)),
    ] == [(candidate.cut, candidate.found_by) for candidate in ranking.candidates]
    assert [True, True, None] == [candidate.settled for candidate in ranking.candidates]


def test_without_a_maximum_there_is_a_reason_and_a_ranking() -> None:
    """Natural bottlenecks, then height above the line between the ends of the log curve."""
    ranking = rank([1, 50, 60, 70, 100], sizes=[4000, 4000, 4000, 400, 4000])

    # On log10, the line is 0, .5, 1, 1.5, 2: the heights are 1.2, .78, .35.
    assert ["c3", "c1", "c2"] == [candidate.cut for candidate in ranking.candidates]
    assert ("natural-bottleneck", "size-minimum", "above-trend") == ranking.candidates[0].found_by
    assert "no local maximum" in (ranking.note or "")


def test_zero_is_a_gap_and_no_error() -> None:
    """A cut of no importance has no logarithm; it is passed over."""
    assert [2] == above_trend([1.0, 0.0, 50.0, 0.0, 100.0])
    assert ["c1"] == [candidate.cut for candidate in rank([0.0, 2.0, 0.0]).candidates]


def test_two_points_leave_nothing_to_rank_but_say_why() -> None:
    """Never an empty answer without a reason."""
    ranking = rank([1.0, 2.0])

    assert () == ranking.candidates
    assert "too few" in (ranking.note or "")


def test_non_finite_values_stop_the_ranking() -> None:
    """The message names the cut and how many images."""
    with pytest.raises(NonFiniteError, match=r"c1 \(3 images\)"):
        rank([1.0, None, 2.0])


def test_disagreement_names_the_choices() -> None:
    """Which subset wants which cut; agreement is said too."""
    first, second = rank([1, 5, 2, 3, 1]), rank([1, 2, 1, 6, 1])
    other = second.model_copy(update={"name": "pets"})

    assert "c1 for all; c3 for pets" in (disagreement([first, other]) or "")
    assert "same first choice, c1" in (disagreement([first, first.model_copy(update={"name": "pets"})]) or "")
    assert disagreement([first]) is None
