"""Choose among placements: find those that keep the limits, those that are Pareto-optimal, and the best."""

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isplit.plan.costs import Costs
from isplit.plan.evaluate import Evaluation, Load
from isplit.records import ExcludedBy, LimitName, Limits, Objective

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

SMALLEST_SERVER_SHARE = 0.1
"""A split that leaves the server less than this share of the operations is never called worth making."""


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
