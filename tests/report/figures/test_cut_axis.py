"""The axis of cuts."""

import re

import pytest

from isplit.report.figures.cut_axis import WIDTHS, cut_share, draw_cut_names
from isplit.report.svg import Drawing


def names_of(drawing: Drawing, width: str) -> list[str]:
    (group,) = (group for group in drawing.root if group.get("data-width") == width)
    return ["".join(text.itertext()) for text in group.iter("text")]


def test_cuts_are_evenly_spread_with_room_at_both_ends():
    """Three cuts and 0.5 of a step at each end lie at a sixth, a half and five sixths; no cut divides by nothing."""
    assert pytest.approx([1 / 6, 0.5, 5 / 6]) == [cut_share(index, 3, pad=0.5) for index in range(3)]
    expected = 0.5
    assert expected == cut_share(0, 0)


def test_wide_screens_have_room_for_more_names():
    """Every width keeps the candidates' names, and the widest has all of thirty."""
    drawing = Drawing(height=100)
    needed = draw_cut_names(drawing, [f"layer{number}" for number in range(30)], ranked=[7, 20], top=100)
    counts = [len(names_of(drawing, width.name)) for width in WIDTHS]
    assert counts == sorted(counts)
    expected = 30
    assert expected == counts[-1]
    for width in WIDTHS:
        assert {"layer7", "layer20"} <= set(names_of(drawing, width.name))
    assert {width.name for width in WIDTHS} == set(needed)


def test_names_lie_flat_where_they_fit_and_are_turned_where_not():
    """Three short names stand upright, thirty are turned, and room is kept for the longest."""
    few, many = Drawing(height=100, width=600), Drawing(height=100, width=600)
    flat = draw_cut_names(few, ["a", "b", "c"], ranked=[], top=100)["fixed"]
    turned = draw_cut_names(many, ["features.denseblock1.denselayer6"] * 30, ranked=[], top=100)["fixed"]
    angles = {re.sub(r".*rotate\((.*)\)", r"\1", text.get("transform", "")) for text in many.root.iter("text")}
    assert {"-90"} == angles
    assert "rotate" not in "".join(text.get("transform", "") for text in few.root.iter("text"))
    assert turned > flat
    # 24 characters of 6.7 pixels, and a little room.
    assert turned == pytest.approx(24 * 6.7 + 12)
