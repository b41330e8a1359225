"""Put the limits of a plan into words: what each excludes, and with which figure a placement breaks it."""

from collections.abc import Sequence

from isplit.plan.limits import MEMORY_WITH_UNIT
from isplit.plan.units import size_text
from isplit.records import ExcludedBy, LimitName, Limits, PlannedPlacement

_LIMITS: dict[LimitName, tuple[str, str]] = {
    "max_latency_ms": ("a latency of at most {} ms", "{} ms"),
    "max_p95_latency_ms": ("a 95th percentile of at most {} ms", "{} ms"),
    "max_device_memory_bytes": ("at most {} of memory on the device", "{}"),
    "max_device_energy_mj": ("at most {} mJ on the device", "{} mJ"),
    "max_wire_bytes": ("at most {} for an image", "{}"),
    "max_bytes_per_day": ("at most {} a day", "{}"),
    "min_accuracy": ("an accuracy of at least {}", "{}"),
    "max_accuracy_loss": ("a loss of at most {} points", "{} points"),
    "min_images_per_s": ("at least {} images per second", "{} images per second"),
    "max_device_mac_share": ("at most {} of the operations on the device", "{}"),
}
_BROKEN: dict[LimitName, str] = {
    "max_latency_ms": "the latency",
    "max_p95_latency_ms": "the 95th percentile",
    "max_device_memory_bytes": "the device's memory",
    "max_device_energy_mj": "the device's energy",
    "max_wire_bytes": "the bytes of an image",
    "max_bytes_per_day": "the bytes of a day",
    "min_accuracy": "the accuracy",
    "max_accuracy_loss": "the accuracy",
    "min_images_per_s": "the images per second",
    "max_device_mac_share": "the device's share of the operations",
    "hide_image": "who sees the image",
    "hide_answer": "who sees the answer",
    "capacity": "the requests that can be served",
    "link_message": "the length of a message on the link",
}
_BYTES_LIMITS = ("max_device_memory_bytes", "max_wire_bytes", "max_bytes_per_day")
_SHARE_LIMITS = ("min_accuracy", "max_device_mac_share")
_PLAIN_LIMITS: dict[LimitName, str] = {
    "hide_image": "keeping the image on the device",
    "hide_answer": "keeping the answer on the device",
    "capacity": "serving requests as fast as they come",
    "link_message": "the longest message that the link takes",
}


def broken_limits(placement: PlannedPlacement) -> str:
    """Name the limits that a placement breaks: "the latency and the accuracy"; empty where it keeps all."""
    return " and ".join(dict.fromkeys(_BROKEN[name] for name in placement.violates))


def broken_by_any(placements: Sequence[PlannedPlacement], limits: Limits) -> tuple[str, ...]:
    """Return each limit that one of the placements breaks, with its option, for the legend of a table.

    Examples:
        >>> broken_by_any(record.placements, record.limits)
        ('a latency of at most 20 ms (--max-latency-ms)',)

    """
    names: dict[LimitName, None] = dict.fromkeys(name for placement in placements for name in placement.violates)
    return tuple(_with_option(name, limits) for name in names)


def _with_option(name: LimitName, limits: Limits) -> str:
    if name in ("capacity", "link_message"):
        return _PLAIN_LIMITS[name]
    option = f"--{MEMORY_WITH_UNIT if name == 'max_device_memory_bytes' else name}".replace("_", "-")
    if name in _PLAIN_LIMITS:
        return f"{_PLAIN_LIMITS[name]} ({option})"
    # A row may show no loss and break the limit all the same, which nobody would guess.
    judged = ", judged by its 95 % bound" if name == "max_accuracy_loss" else ""
    return f"{_LIMITS[name][0].format(_value(name, getattr(limits, name)))}{judged} ({option})"


def broken_figures(placement: PlannedPlacement, excluded_by: Sequence[ExcludedBy]) -> str:
    """Say with which figures a placement breaks limits: "the latency (71 ms instead of at most 20 ms)".

    Limits without a figure, such as who sees the image, are named alone. The limits' values are those of `excluded_by`.
    """
    values = {entry.limit: entry.limit_value for entry in excluded_by}
    phrases: list[str] = []
    for name in placement.violates:
        value = _figure(placement, name)
        if name in _PLAIN_LIMITS or name not in values:
            phrases.append(_BROKEN[name])
        elif value is None:
            phrases.append(f"{_BROKEN[name]} (unknown)")
        else:
            unit = _LIMITS[name][1]
            bound = "at least" if name.startswith("min_") else "at most"
            broken, allowed = (unit.format(_value(name, number)) for number in (value, values[name]))
            phrases.append(f"{_BROKEN[name]} ({broken} instead of {bound} {allowed})")
    return " and ".join(phrases)


def _figure(placement: PlannedPlacement, limit: LimitName) -> float | None:
    """Return a placement's value of the quantity that a limit bounds, or None where it is unknown."""
    accuracy = placement.accuracy
    figures: dict[LimitName, float | None] = {
        "max_latency_ms": placement.latency_ms,
        "max_p95_latency_ms": placement.latency_p95_ms,
        "max_device_memory_bytes": placement.device_memory_bytes,
        "max_device_energy_mj": placement.device_energy_mj,
        "max_wire_bytes": placement.wire_up_bytes + placement.wire_down_bytes,
        "max_bytes_per_day": placement.bytes_per_day,
        "min_accuracy": None if accuracy is None else accuracy.accuracy,
        "max_accuracy_loss": None if accuracy is None else accuracy.judged_loss,
        "min_images_per_s": placement.throughput.images_per_s,
        "max_device_mac_share": placement.device_mac_share,
    }
    return figures.get(limit)


def excluded(entry: ExcludedBy, *, of: int, default_loss: bool) -> str:
    """Say in a sentence how many of `of` placements a limit excludes, and how close the closest one comes.

    `default_loss` says that the limit on lost accuracy is the default and not the user's.
    """
    if entry.limit in _PLAIN_LIMITS:
        words = _PLAIN_LIMITS[entry.limit]
        return f"{words[:1].upper()}{words[1:]} excludes {entry.excludes} of {of} placements."
    phrase, unit = _LIMITS[entry.limit]
    default = " (the default)" if default_loss and entry.limit == "max_accuracy_loss" else ""
    limit = f"{phrase.format(_value(entry.limit, entry.limit_value))}{default}"
    text = f"{limit} excludes {entry.excludes} of {of} placements"
    if entry.nearest_value is not None:
        text += f" (closest: {unit.format(_value(entry.limit, entry.nearest_value))}, {entry.nearest_placement})"
    return text[:1].upper() + text[1:] + "."


def _value(limit: LimitName, value: float) -> str:
    if limit in _BYTES_LIMITS:
        return size_text(value)
    if limit in _SHARE_LIMITS:
        return f"{100 * value:.1f} %"
    if limit == "max_accuracy_loss":
        return f"{100 * value + 0.0:.1f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
