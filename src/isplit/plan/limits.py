"""Read the limits and the objective of a plan from options, arguments and YAML files, and refuse what cannot be."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from isplit.errors import InputError
from isplit.plan.units import parse_size
from isplit.records import Limits, Objective
from isplit.records.yaml_files import read_yaml

DEFAULT_ACCURACY_LOSS = 0.01
"""The largest loss of accuracy below the whole model where no limit on accuracy is given: one point."""

MEMORY_WITH_UNIT = "max_device_memory"
"""A limit on the device's memory as a size with a unit ("150MB"), which stands for `max_device_memory_bytes`."""

_SHARES = ("min_accuracy", "max_accuracy_loss", "max_device_mac_share")
_SWITCHES = ("hide_image", "hide_answer")
_LARGEST = 1e15
_LARGEST_LOSS = 0.9
"""The largest loss of accuracy that is a limit; 1 stands for none. What loses more is hardly ever right."""
_UNITS = {
    "max_latency_ms": "milliseconds",
    "max_p95_latency_ms": "milliseconds",
    "max_device_memory_bytes": "bytes",
    "max_device_energy_mj": "millijoules",
    "max_wire_bytes": "bytes",
    "max_bytes_per_day": "bytes",
    "min_images_per_s": "images per second",
}
_OBJECTIVES: dict[str, Objective] = {
    "latency": "latency",
    "p95-latency": "p95-latency",
    "energy": "energy",
    "bytes": "bytes",
    "accuracy": "accuracy",
    "throughput": "throughput",
}


def read_limits(path: Path) -> tuple[Limits, Objective | None]:
    """Read limits, and an objective if there is one, from a YAML file whose keys are those of `Limits`.

    Raises:
        InputError: the file cannot be read or is not a YAML mapping, or it has an unknown key or an invalid value.

    """
    try:
        content: Any = read_yaml(path, kind="a file of limits")
    except OSError as error:
        msg = f"cannot read limits from {path}: {error.strerror or error}"
        raise InputError(msg) from error
    except ValueError as error:
        msg = f"cannot read limits from {path}: {error}"
        raise InputError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} holds no limits; write lines such as 'max_latency_ms: 100' ({', '.join(Limits.model_fields)})"
        raise InputError(msg)
    fields = {str(key): value for key, value in cast("dict[Any, Any]", content).items()}
    objective = fields.pop("objective", None)
    limits = make_limits(fields, where=str(path))
    return limits, None if objective is None else check_objective(objective, name=f"{path}: objective")


def make_limits(fields: Mapping[str, object], *, where: str, labels: Mapping[str, str] | None = None) -> Limits:
    """Return limits from their values by name, where None means no limit.

    The memory may also be given as a size with a unit, under the name `max_device_memory`.

    Args:
        fields: The values.
        where: Where the values were given, which messages begin with.
        labels: The names of limits in messages, where these differ from the keys: the options of a command.

    Raises:
        InputError: a name is unknown, or a value is invalid or contradicts another.

    """
    label = {name: f"{where}: {name}" for name in (*Limits.model_fields, *fields)} | dict(labels or {})
    values = {name: value for name, value in fields.items() if value is not None}
    size = values.pop(MEMORY_WITH_UNIT, None)
    if size is not None:
        if "max_device_memory_bytes" in values:
            msg = f"{label[MEMORY_WITH_UNIT]} stands beside max_device_memory_bytes; give only one of them"
            raise InputError(msg)
        values["max_device_memory_bytes"] = parse_size(str(size), name=label[MEMORY_WITH_UNIT])
    for name, value in values.items():
        # Pydantic would take true for 1.
        if isinstance(value, bool) and name in _UNITS.keys() | set(_SHARES):
            raise InputError(_refusal(name, value, "bool", label[name]))
    try:
        limits = Limits.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise InputError(_refusal(name, first.get("input"), first["type"], label[name])) from error
    for name in _UNITS:
        value = getattr(limits, name)
        if value is not None and value > _LARGEST:
            raise InputError(_refusal(name, value, "too_large", label[name]))
    loss = limits.max_accuracy_loss
    if loss is not None and _LARGEST_LOSS < loss < 1:
        msg = (
            f"{label['max_accuracy_loss']} is {loss:g}, which excludes next to nothing; give a share up to "
            f"{_LARGEST_LOSS:g} (one point is 0.01), or 1 for no limit"
        )
        raise InputError(msg)
    _refuse_contradictions(limits, label)
    return limits


def _refusal(name: str, value: object, kind: str, label: str) -> str:
    """Return the message about an invalid limit: what was given, and what to give instead."""
    if kind == "extra_forbidden":
        known = [*Limits.model_fields, MEMORY_WITH_UNIT, "objective"]
        close = get_close_matches(name.lstrip("-").replace("-", "_"), known, n=1)
        advice = f"write {close[0]}" if close else f"limits are {', '.join(Limits.model_fields)}"
        return f"{label} is no limit; {advice}"
    shown = f"{value:g}" if isinstance(value, float) else repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
    if name in _SHARES:
        above = "above 0 and up to 1" if name == "max_device_mac_share" else "from 0 to 1"
        return f"{label} is {shown}; give a share {above}: 85 % is 0.85"
    if name in _SWITCHES:
        return f"{label} is {shown}; give true or false"
    number = "a whole number" if name == "max_device_memory_bytes" else "a number"
    return f"{label} is {shown}; give {number} of {_UNITS[name]} above 0, up to {_LARGEST:g}"


def _refuse_contradictions(limits: Limits, label: Mapping[str, str]) -> None:
    """Refuse limits that no placement could keep together, or of which one makes the other meaningless.

    Raises:
        InputError: two limits contradict each other; the message names both.

    """
    median, p95 = limits.max_latency_ms, limits.max_p95_latency_ms
    if median is not None and p95 is not None and p95 < median:
        msg = (
            f"{label['max_p95_latency_ms']} is {p95:g} and {label['max_latency_ms']} is {median:g}, which contradict "
            f"each other: a 95th percentile of at most {p95:g} ms already keeps the median below {median:g} ms; give "
            "only the smaller, or a larger 95th percentile"
        )
        raise InputError(msg)
    if limits.min_accuracy is not None and limits.max_accuracy_loss is not None:
        msg = (
            f"{label['min_accuracy']} is {limits.min_accuracy:g} and {label['max_accuracy_loss']} is "
            f"{limits.max_accuracy_loss:g}; give only one of them, because they may contradict each other"
        )
        raise InputError(msg)
    share = limits.max_device_mac_share
    if limits.hide_image and share is not None and share < 1e-3:
        msg = (
            f"{label['max_device_mac_share']} is {share:g}, so the device may compute almost nothing, and "
            f"{label['hide_image']} keeps the image on the device; leave one of them out"
        )
        raise InputError(msg)


def check_objective(value: object, *, name: str = "objective") -> Objective:
    """Return the objective of that name.

    Args:
        value: The name of the objective.
        name: Where the value was given, for the message.

    Raises:
        InputError: there is no objective of that name.

    """
    if not isinstance(value, str) or value not in _OBJECTIVES:
        msg = f"{name} is {value!r}; choose one of {', '.join(_OBJECTIVES)}"
        raise InputError(msg)
    return _OBJECTIVES[value]


def with_default_loss(limits: Limits) -> Limits:
    """Return the limits with a loss of at most one point where nothing is said about accuracy."""
    if limits.min_accuracy is None and limits.max_accuracy_loss is None:
        return limits.model_copy(update={"max_accuracy_loss": DEFAULT_ACCURACY_LOSS})
    return limits
