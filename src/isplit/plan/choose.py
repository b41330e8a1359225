"""Choose among placements: find those that keep the limits, those that are Pareto-optimal, and the best."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from isplit.errors import InputError
from isplit.plan.costs import Costs
from isplit.plan.evaluate import Evaluation, Load
from isplit.records import ExcludedBy, LimitName, Limits, Objective
from isplit.records.yaml_files import read_yaml

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

SMALLEST_SERVER_SHARE = 0.1
"""A split that leaves the server less than this share of the operations is never called worth making."""

_SHARES = ("min_accuracy", "max_accuracy_loss", "max_device_mac_share")

DEFAULT_ACCURACY_LOSS = 0.01
"""The largest loss of accuracy below the whole model where no limit on accuracy is given: one point."""


def read_limits(path: Path) -> tuple[Limits, Objective | None]:
    """Read limits, and an objective if there is one, from a YAML file whose keys are those of `Limits`.

    Raises:
        InputError: the file cannot be read or is not a YAML mapping, or it has an unknown key or an invalid value.

    """
    try:
        content: Any = read_yaml(path, kind="a file of limits")
    except (OSError, ValueError) as error:
        msg = f"cannot read limits from {path}: {error}"
        raise InputError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path} holds no limits; write lines such as 'max_latency_ms: 100' ({', '.join(Limits.model_fields)})"
        raise InputError(msg)
    fields = {str(key): value for key, value in cast("dict[Any, Any]", content).items()}
    objective = fields.pop("objective", None)
    return make_limits(fields, where=str(path)), None if objective is None else check_objective(str(objective))


def make_limits(fields: Mapping[str, object], *, where: str) -> Limits:
    """Return limits from their values by name, where None means no limit.

    Raises:
        InputError: a name is unknown, or a value is invalid or contradicts another.

    """
    try:
        limits = Limits.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = f"; limits are {', '.join(Limits.model_fields)}" if first["type"] == "extra_forbidden" else ""
        share = "; it is a share, so 85 % is 0.85" if name in _SHARES else ""
        msg = f"{where}: {name} is {first.get('input')!r}: {first['msg']}{share}{known}"
        raise InputError(msg) from error
    median, p95 = limits.max_latency_ms, limits.max_p95_latency_ms
    if median is not None and p95 is not None and p95 < median:
        msg = (
            f"{where}: the limits contradict each other: a 95th percentile of at most {p95:g} ms already keeps the "
            f"median below {median:g} ms; give only the smaller, or a larger p95"
        )
        raise InputError(msg)
    if limits.min_accuracy is not None and limits.max_accuracy_loss is not None:
        msg = f"{where}: give either the least accuracy or the largest loss, not both: they may contradict each other"
        raise InputError(msg)
    if limits.hide_image and limits.max_device_mac_share is not None and limits.max_device_mac_share < 1e-3:
        msg = f"{where}: the image stays on the device, but the device may compute almost nothing"
        raise InputError(msg)
    return limits


def check_objective(text: str) -> Objective:
    """Return the objective of that name.

    Raises:
        InputError: there is no objective of that name.

    """
    known: dict[str, Objective] = {
        "latency": "latency",
        "p95-latency": "p95-latency",
        "energy": "energy",
        "bytes": "bytes",
        "accuracy": "accuracy",
        "throughput": "throughput",
    }
    if text not in known:
        msg = f"the objective is {text!r}; choose one of {', '.join(known)}"
        raise InputError(msg)
    return known[text]


def with_default_loss(limits: Limits) -> Limits:
    """Return the limits with a loss of at most one point where nothing is said about accuracy."""
    if limits.min_accuracy is None and limits.max_accuracy_loss is None:
        return limits.model_copy(update={"max_accuracy_loss": DEFAULT_ACCURACY_LOSS})
    return limits


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Hold a limit and the value of every row for it, with signs such that smaller is better."""

    name: LimitName
    limit: float
    values: Values
    sign: float = 1.0

    @property
    def broken(self) -> Mask:
        """Return which rows break the limit. Rows whose value is unknown break it."""
        return ~(self.values <= self.limit + 1e-9)


def measures(costs: Costs, results: Evaluation, limits: Limits, load: Load) -> list[Measure]:
    """Return a measure for every limit that the user set, and for those of the link and the server."""
    wire = costs.up_bytes + costs.down_bytes
    shape = results.total_ms.shape

    def over(values: Values | Mask) -> Values:
        return np.broadcast_to(np.asarray(values, float), shape)

    known: list[tuple[LimitName, float | None, Values, float]] = [
        ("max_latency_ms", limits.max_latency_ms, over(results.total_ms), 1.0),
        ("max_p95_latency_ms", limits.max_p95_latency_ms, over(results.total_p95_ms), 1.0),
        ("max_device_memory_bytes", limits.max_device_memory_bytes, over(costs.memory_bytes), 1.0),
        ("max_device_energy_mj", limits.max_device_energy_mj, over(results.energy_mj), 1.0),
        ("max_wire_bytes", limits.max_wire_bytes, over(wire), 1.0),
        ("max_bytes_per_day", limits.max_bytes_per_day, over(wire * load.images_per_day), 1.0),
        ("min_accuracy", _negative(limits.min_accuracy), over(-costs.accuracy), -1.0),
        ("max_accuracy_loss", limits.max_accuracy_loss, over(costs.judged_loss), 1.0),
        ("min_images_per_s", _negative(limits.min_images_per_s), -results.images_per_s, -1.0),
        ("max_device_mac_share", limits.max_device_mac_share, over(costs.device_mac_share), 1.0),
        ("hide_image", 0.0 if limits.hide_image else None, over(_kinds(costs, "remote")), 1.0),
        ("hide_answer", 0.0 if limits.hide_answer else None, over(_kinds(costs, "remote", "split", "tiers")), 1.0),
        ("capacity", 0.0, over(results.overloaded), 1.0),
        ("link_message", 0.0, over(results.too_long), 1.0),
    ]
    return [
        Measure(name=name, limit=limit, values=values, sign=sign)
        for name, limit, values, sign in known
        if limit is not None
    ]


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _kinds(costs: Costs, *kinds: str) -> Mask:
    return np.array([row.kind in kinds for row in costs.rows], bool)


def allowed(costs: Costs, checks: list[Measure], shape: tuple[int, ...]) -> Mask:
    """Return which rows break no limit."""
    mask = np.ones(shape, bool)
    for check in checks:
        mask &= ~check.broken
    return mask


def considered(costs: Costs) -> Mask:
    """Return which rows may be recommended: all except splits that leave almost no work to the server."""
    splits = _kinds(costs, "split", "middle", "tiers")
    return ~splits | (costs.server_mac_share >= SMALLEST_SERVER_SHARE)


def score(costs: Costs, results: Evaluation, objective: Objective) -> Values:
    """Return the scores that are minimised. Latency and then bytes decide between equal ones."""
    wire = costs.up_bytes + costs.down_bytes
    main = {
        "latency": results.total_ms,
        "p95-latency": results.total_p95_ms,
        "energy": results.energy_mj,
        "bytes": np.broadcast_to(wire, results.total_ms.shape),
        "accuracy": np.broadcast_to(np.nan_to_num(costs.loss, nan=1.0), results.total_ms.shape),
        "throughput": -results.images_per_s,
    }[objective]
    if objective == "latency":
        return main + 1e-9 * wire
    scale = np.max(np.abs(main[np.isfinite(main)]), initial=1e-12)
    return main + 1e-9 * scale * results.total_ms / max(float(np.max(results.total_ms)), 1e-12)


def best(scores: Values, mask: Mask) -> NDArray[np.intp]:
    """Return the row with the least score among those in the mask, or -1 where there is none, over the last axis."""
    masked = np.where(mask & ~np.isnan(scores), scores, np.inf)
    index = np.argmin(masked, axis=-1)
    least = np.take_along_axis(masked, index[..., None], -1)[..., 0]
    return np.where(np.isfinite(least), index, -1)


def pareto_front(latency_ms: Values, wire_bytes: Values, loss: Values) -> Mask:
    """Return which rows are Pareto-optimal in latency, bytes and loss of accuracy.

    Rows of unknown accuracy are not on the front. Among rows that are equal in all three, the first is kept.
    """
    order = np.lexsort((np.arange(len(loss)), loss, wire_bytes, latency_ms)).tolist()
    all_bytes, all_losses = wire_bytes.tolist(), loss.tolist()
    front = np.zeros(len(loss), bool)
    # The Pareto front in bytes and loss of the rows so far, which are all at least as fast, in the order of bytes.
    kept_bytes: list[float] = []
    kept_losses: list[float] = []
    for index in order:
        sent, lost = all_bytes[index], all_losses[index]
        place = bisect_right(kept_bytes, sent)
        if not math.isfinite(lost) or (place and kept_losses[place - 1] <= lost):
            continue
        front[index] = True
        begin = place - 1 if place and kept_bytes[place - 1] == sent else place
        end = begin
        while end < len(kept_bytes) and kept_losses[end] >= lost:
            end += 1
        kept_bytes[begin:end] = [sent]
        kept_losses[begin:end] = [lost]
    return front


def exclusions(costs: Costs, checks: list[Measure], considered_rows: Mask) -> tuple[ExcludedBy, ...]:
    """Say for every limit how many rows it excludes, alone and with others, and how close the closest row comes."""
    broken = {check.name: check.broken & considered_rows for check in checks}
    results: list[ExcludedBy] = []
    for check in checks:
        mask = broken[check.name]
        if not mask.any():
            continue
        others = np.zeros_like(mask)
        for name, other in broken.items():
            if name != check.name:
                others |= other
        values = np.where(considered_rows, check.values, np.inf)
        values = np.where(np.isnan(values), np.inf, values)
        nearest = int(np.argmin(values))
        known = bool(np.isfinite(values[nearest]))
        results.append(
            ExcludedBy(
                limit=check.name,
                limit_value=check.sign * check.limit,
                excludes=int(mask.sum()),
                excludes_alone=int((mask & ~others).sum()),
                nearest_value=check.sign * float(values[nearest]) + 0.0 if known else None,
                nearest_placement=costs.rows[nearest].name if known else None,
            )
        )
    return tuple(results)


def nearest(checks: list[Measure], considered_rows: Mask) -> int:
    """Return the row that misses the limits by the least: the one with the smallest sum of relative excesses."""
    excess = np.zeros(len(considered_rows))
    for check in checks:
        over = np.where(np.isnan(check.values), np.inf, np.maximum(check.values - check.limit, 0.0))
        excess = excess + over / max(abs(check.limit), 1e-3)
    return int(np.argmin(np.where(considered_rows, excess, np.inf)))
