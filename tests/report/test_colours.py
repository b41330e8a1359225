"""Contrast of both themes, and the ramps, by WCAG's own formula."""

from itertools import pairwise

import numpy as np
import pytest

from isplit.report.colours import (
    DARK,
    LIGHT,
    SHADES,
    contrast,
    css_variables,
    gradient,
    heat_ramp,
    hex_colour,
    map_ramp,
    oklch,
    relative_luminance,
)

THEMES = {"light": LIGHT, "dark": DARK}
TEXTS = ("ink", "soft", "blue", "accent", "slate")
GROUNDS = ("paper", "ground", "header", "hover", "tint")
GRAPHICS = ("edge", "reference", *(f"shade-{step}" for step in range(SHADES)))


def test_contrast_is_that_of_wcag():
    """Black on white is 21, a colour on itself 1, and #767676 is the lightest grey that passes on white."""
    expected = (21.0, 1.0)
    assert expected == (pytest.approx(contrast("#000000", "#ffffff")), contrast("#123456", "#123456"))
    assert contrast("#767676", "#ffffff") >= 4.5 > contrast("#777777", "#ffffff")


@pytest.mark.parametrize("theme", THEMES)
def test_text_is_legible_on_every_ground(theme: str):
    """WCAG AA asks for 4.5 between text and what is behind it."""
    colours = THEMES[theme]
    pairs = [(text, ground) for text in TEXTS for ground in GROUNDS]
    assert [pair for pair in pairs if contrast(colours[pair[0]], colours[pair[1]]) < 4.5] == []
    assert contrast(colours["warning"], colours["warning-ground"]) >= 4.5
    assert contrast(colours["ink"], colours["warning-ground"]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_lines_and_marks_stand_out_from_the_paper(theme: str):
    """WCAG AA asks for 3 between graphics and what is behind them."""
    colours = THEMES[theme]
    assert [name for name in GRAPHICS if contrast(colours[name], colours["paper"]) < 3.0] == []


def test_both_themes_name_the_same_parts():
    """A style sheet that asks for a colour finds it in both."""
    assert set(LIGHT) == set(DARK)
    assert "--ink: #1f2937;" in css_variables(LIGHT)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [((1.0, 0.0, 0.0), "#ffffff"), ((0.0, 0.0, 0.0), "#000000"), ((0.62796, 0.25768, 29.2339), "#ff0000")],
)
def test_oklch_of_known_colours(colour: tuple[float, float, float], expected: str):
    """White, black and pure red have the coordinates that Ottosson's definition gives them."""
    assert expected == hex_colour(oklch(*colour))


@pytest.mark.parametrize("ramp", [map_ramp(), heat_ramp()])
def test_ramps_grow_lighter_step_by_step(ramp: np.ndarray):
    """No two values change places when a ramp is printed in grey."""
    expected = (256, 3)
    assert expected == ramp.shape
    luminances = [relative_luminance("#" + bytes(colour.tolist()).hex()) for colour in ramp]
    assert all(after >= before - 0.004 for before, after in pairwise(luminances))
    assert luminances[-1] > 0.7


def test_gradient_names_both_ends():
    """The legend of a ramp starts and ends in the ramp's own colours."""
    colours = gradient(map_ramp(), stops=3).split(", ")
    expected = 3
    assert expected == len(colours)
    assert ["#" + bytes(map_ramp()[place].tolist()).hex() for place in (0, 255)] == [colours[0], colours[-1]]
