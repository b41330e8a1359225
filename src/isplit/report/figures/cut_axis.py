"""Draw the axis of cuts, which several figures share, with as many names as there is room for, candidates first."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sin

from isplit.report.curve_series import labelled_ticks, short_name
from isplit.report.svg import Drawing, Shape

CHARACTER_PX = 6.7
"""The width of a monospaced character at 11 px."""
LINE_PX = 15.0
"""The least distance between two upright names beside each other."""


@dataclass(frozen=True, kw_only=True)
class Width:
    """A range of screens: its name in the style sheet, and the least width of a figure's area on them, in pixels."""

    name: str
    area_px: float
    longest_name: int


WIDTHS = (
    Width(name="narrow", area_px=230, longest_name=16),
    Width(name="middle", area_px=470, longest_name=22),
    Width(name="wide", area_px=760, longest_name=24),
)
"""The screens of a fluid drawing, which has the names once for each. The style sheet shows the names that fit."""


def cut_share(index: float, count: int, *, pad: float = 0.6) -> float:
    """Return the place of the cut with that index on the axis, as a share of its width; `pad` is room at both ends."""
    return (index + pad) / (count - 1 + 2 * pad) if count else 0.5


def draw_cut_names(
    drawing: Drawing, names: Sequence[str], *, ranked: Sequence[int], top: float, pad: float = 0.6
) -> dict[str, float]:
    """Draw the names below `top` and return how many pixels they need there, for each width of screen.

    A fixed drawing has them once, for its own width.
    """
    widths = WIDTHS
    if drawing.width is not None:
        widths = (Width(name="fixed", area_px=drawing.width, longest_name=24),)
    needed: dict[str, float] = {}
    for width in widths:
        group = drawing.group(drawing.root, data_width=width.name)
        needed[width.name] = _draw_names(drawing, group, names, ranked, top=top, pad=pad, width=width)
    return needed


def _draw_names(
    drawing: Drawing,
    group: Shape,
    names: Sequence[str],
    ranked: Sequence[int],
    *,
    top: float,
    pad: float,
    width: Width,
) -> float:
    """Draw the names for one width of screen and return the height of the tallest."""
    ticks = labelled_ticks(len(names), first=list(ranked), room=int(width.area_px / LINE_PX))
    labels = [short_name(names[tick], limit=width.longest_name) for tick in ticks]
    longest_px = CHARACTER_PX * max(map(len, labels), default=0)
    slot_px = width.area_px / max(len(names), 1)
    nearest_px = slot_px * min((after - before for before, after in pairwise(ticks)), default=1)
    turn = 0 if nearest_px > longest_px + 8 else -45 if nearest_px > 26 else -90
    for tick, label in zip(ticks, labels, strict=True):
        place = (cut_share(tick, len(names), pad=pad), top)
        drawing.line(group, place, (place[0], top + 4), "axis")
        shift = {0: (0.0, 17.0), -45: (4.0, 12.0), -90: (4.0, 8.0)}[turn]
        drawing.text(group, place, label, "name", shift=shift, turn=turn, anchor="middle" if turn == 0 else "end")
    return {0: 24.0, -45: 18 + longest_px * sin(0.7854), -90: 12 + longest_px}[turn]
