"""The axes that several figures share."""

import pytest

from isplit.report.figures.axes import Axes, draw_frame, draw_levels, draw_titles
from isplit.report.scales import Tick
from isplit.report.svg import Drawing

AXES = Axes(left=1, right=3, low=50, high=100, height=200)
SIXTY = Tick(value=60, label="60")


def words_of(drawing: Drawing) -> list[str]:
    return ["".join(text.itertext()) for text in drawing.root.iter("text")]


def test_values_become_places():
    """The width is a share, and the height is in pixels from the top."""
    assert (0.0, 0.5, 1.0) == (AXES.x(1), AXES.x(2), AXES.x(3))
    assert (200.0, 100.0, 0.0) == (AXES.y(50), AXES.y(75), AXES.y(100))


@pytest.mark.parametrize(("value", "inside"), [(49.9, False), (50, True), (100, True), (100.1, False)])
def test_limits_belong_to_the_axis(value, inside):
    """A value on a limit is drawn, and one beyond is not."""
    assert inside == AXES.inside(value)


def test_error_bars_end_at_the_edges():
    """What reaches beyond the limits is cut off there."""
    assert (200.0, 0.0) == AXES.bar(10, 120)
    assert (160.0, 40.0) == AXES.bar(60, 90)


def test_frame_has_a_line_and_a_label_for_every_tick():
    """Grid lines of both axes stand beside the two axes themselves."""
    drawing = Drawing(height=200)
    draw_frame(drawing, AXES, [Tick(value=1, label="10"), Tick(value=2, label="100")], [SIXTY])
    assert ["60", "10", "100"] == words_of(drawing)
    assert 3 + 2 == sum(1 for _ in drawing.root.iter("line"))


def test_levels_stand_in_their_group():
    """A script finds the lines and labels of an axis in the group that it was given."""
    drawing = Drawing(height=200)
    group = drawing.group(drawing.root, data_part="upper-axis")
    draw_levels(drawing, group, [SIXTY, Tick(value=80, label="80")], AXES.y)
    assert 2 == sum(1 for _ in group.iter("line"))


def test_titles():
    """The title across stands below the drawing, and the other one is turned."""
    drawing = Drawing(height=200)
    draw_titles(drawing, "bytes", "accuracy, %")
    across, upwards = drawing.root.iter("text")
    assert ["bytes", "accuracy, %"] == words_of(drawing)
    assert "rotate" not in str(across.attrib)
    assert "-90" in str(upwards.attrib)


def test_the_upright_title_stands_left_of_its_ticks():
    """A title beside ticks of five digits is eight pixels further left than beside four."""
    drawing = Drawing(height=200)
    draw_titles(drawing, "ms", "accuracy, %", digits=5)
    draw_titles(drawing, "ms", "accuracy, %")
    _, five, _, four = drawing.root.iter("text")
    assert ("translate(-50 0) rotate(-90)", "translate(-42 0) rotate(-90)") == (
        five.attrib["transform"],
        four.attrib["transform"],
    )
