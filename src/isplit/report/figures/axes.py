"""Draw what the figures with two axes share: grid lines with their values, the axes themselves, and their titles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isplit.report.scales import Tick
from isplit.report.svg import Drawing, Shape

Scale = Callable[[float], float]
"""Maps a value to pixels from the top."""


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The limits of both axes, in the values that are drawn (for example log10 of bytes), and the height in pixels."""

    left: float
    right: float
    low: float
    high: float
    height: float

    def x(self, value: float) -> float:
        """Return a value's share of the width."""
        return (value - self.left) / (self.right - self.left)

    def y(self, value: float) -> float:
        """Return a value's distance from the top in pixels."""
        return self.height - (value - self.low) / (self.high - self.low) * self.height

    def inside(self, value: float) -> bool:
        """Return whether a value lies between the limits of the upright axis."""
        return self.low <= value <= self.high

    def bar(self, low: float, high: float) -> tuple[float, float]:
        """Return the heights of both ends of an error bar, cut off at the edges."""
        return self.y(max(low, self.low)), self.y(min(high, self.high))


def draw_frame(drawing: Drawing, axes: Axes, across: Sequence[Tick], upwards: Sequence[Tick]) -> None:
    """Draw both axes, and grid lines with their values."""
    draw_levels(drawing, drawing.root, upwards, axes.y)
    for tick in across:
        share = axes.x(tick.value)
        drawing.line(drawing.root, (share, 0), (share, axes.height), "grid")
        drawing.text(drawing.root, (share, axes.height), tick.label, "tick", shift=(0, 17), anchor="middle")
    drawing.line(drawing.root, (0, 0), (0, axes.height), "axis")
    drawing.line(drawing.root, (0, axes.height), (1, axes.height), "axis")


def draw_levels(drawing: Drawing, group: Shape, ticks: Sequence[Tick], y: Scale) -> None:
    """Draw a grid line across the drawing for every tick of the upright axis, with its value on the left."""
    for tick in ticks:
        height = y(tick.value)
        drawing.line(group, (0, height), (1, height), "grid")
        drawing.text(group, (0, height), tick.label, "tick", shift=(-8, 4), anchor="end")


def draw_titles(drawing: Drawing, across: str, upwards: str, *, digits: int = 4) -> None:
    """Draw the titles of both axes; the ticks of the upright one have up to so many digits."""
    drawing.text(drawing.root, (0.5, drawing.height), across, "axis-title", shift=(0, 40), anchor="middle")
    draw_upright_title(drawing, upwards, drawing.height / 2, digits=digits)


def draw_upright_title(drawing: Drawing, words: str, middle: float, *, digits: int = 4) -> None:
    """Draw the title of an upright axis, whose middle is so many pixels from the top, left of the ticks' digits."""
    left = -10.0 - 8.0 * digits
    drawing.text(drawing.root, (0, middle), words, "axis-title", shift=(left, 0), turn=-90, anchor="middle")
