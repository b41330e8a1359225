"""Draw the plan's figures: latency against accuracy, and the best placement over the uplink and the device's speed."""

from math import log10, sqrt

from markupsafe import Markup

from isplit.records import PlannedPlacement, PlanRecord
from isplit.report.figures.axes import Axes, draw_frame, draw_titles
from isplit.report.scales import even_ticks, log_ticks
from isplit.report.svg import Drawing

FRONT_HEIGHT = 300.0
MAP_HEIGHT = 260.0
MAP_RATES = (3.0, 9.5)
MAP_SPEEDS = (-1.5, 1.5)
"""The axes of the map: log10 of the uplink's bits per second, and of the device's speed over that of the plan."""
SMALLEST_RADIUS_PX, LARGEST_RADIUS_PX = 4.0, 13.0

KIND_SHADES = {"local": 0, "remote": 14, "split": 6, "middle": 8, "tiers": 3, "segmented": 11}
"""The colour of every kind of placement, in the front and in the map alike."""


def front_svg(record: PlanRecord) -> Markup:
    """Draw every placement of known accuracy; a script moves them when a slider moves.

    The area of a circle grows with the bytes on the wire. The ends of the latency axis are attributes of the drawing.
    """
    shown = [placement for placement in record.placements if placement.accuracy is not None]
    drawing = Drawing(height=FRONT_HEIGHT)
    latencies = [log10(max(placement.latency_ms, 1e-3)) for placement in shown] or [0.0]
    accuracies = [100 * placement.accuracy.accuracy for placement in shown if placement.accuracy] or [0.0]
    pad = max(0.08 * (max(accuracies) - min(accuracies)), 0.5)
    axes = Axes(
        left=min(latencies) - 0.7,
        right=max(latencies) + 0.7,
        low=min(accuracies) - pad,
        high=max(accuracies) + pad,
        height=FRONT_HEIGHT,
    )
    draw_frame(drawing, axes, log_ticks(axes.left, axes.right, about=5), even_ticks(axes.low, axes.high))
    draw_titles(drawing, "latency, ms (logarithmic)", "accuracy, %", digits=5)
    points = drawing.group(
        drawing.root, data_part="points", data_left=f"{axes.left:.4f}", data_right=f"{axes.right:.4f}"
    )
    most_bytes = max([1.0, *(_wire_bytes(placement) for placement in shown)])
    numbers = {id(placement): number for number, placement in enumerate(record.placements)}
    for placement in sorted(shown, key=_wire_bytes, reverse=True):
        assert placement.accuracy is not None
        place = (axes.x(log10(max(placement.latency_ms, 1e-3))), axes.y(100 * placement.accuracy.accuracy))
        size = sqrt(_wire_bytes(placement) / most_bytes)
        coloured = drawing.group(
            points, data_series=placement.kind, style=f"color: var(--shade-{KIND_SHADES[placement.kind]})"
        )
        drawing.circle(
            coloured,
            place,
            radius=SMALLEST_RADIUS_PX + (LARGEST_RADIUS_PX - SMALLEST_RADIUS_PX) * size,
            style="placement",
            data_placement=str(numbers[id(placement)]),
            data_tip=placement.name,
        )
    return drawing.fluid_svg(identity="front-drawing")


def kind_keys(record: PlanRecord) -> list[tuple[str, int]]:
    """Return the kinds of placements of a plan with their colours."""
    kinds = {placement.kind for placement in record.placements if placement.accuracy is not None}
    return [(kind, shade) for kind, shade in KIND_SHADES.items() if kind in kinds]


def map_svg() -> Markup:
    """Draw the axes of the map; a script fills it."""
    drawing = Drawing(height=MAP_HEIGHT)
    drawing.group(drawing.root, data_part="cells")
    low, high = MAP_SPEEDS
    for factor in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20):
        height = drawing.height - (log10(factor) - low) / (high - low) * drawing.height
        drawing.text(drawing.root, (0, height), f"{factor:g} ×", "tick", shift=(-8, 4), anchor="end")
    left, right = MAP_RATES
    for power in range(int(left), int(right) + 1):
        share = (power - left) / (right - left)
        drawing.line(drawing.root, (share, drawing.height), (share, drawing.height + 4), "axis")
        drawing.text(drawing.root, (share, drawing.height), rate_label(power), "tick", shift=(0, 17), anchor="middle")
    draw_titles(drawing, "uplink (bit/s)", "device speed", digits=5)
    drawing.mark(drawing.root, "peak", (0.5, drawing.height / 2), "peak", data_part="here")
    return drawing.fluid_svg(identity="map-drawing")


def rate_label(power: int) -> str:
    """Return ten to a power as "1 k", "10 M" or "1 G"."""
    exponent, letter = next((first, letter) for first, letter in ((9, "G"), (6, "M"), (3, "k")) if power >= first)
    return f"{10 ** (power - exponent)} {letter}"


def _wire_bytes(placement: PlannedPlacement) -> float:
    return placement.wire_up_bytes + placement.wire_down_bytes
