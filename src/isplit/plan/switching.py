"""Find the rates of the uplink at which the best kind of placement changes."""

import numpy as np
from numpy.typing import NDArray

from isplit.plan import choose
from isplit.plan.costs import Costs
from isplit.plan.evaluate import Load, evaluate
from isplit.records import Limits, LinkRecord, Objective, SwitchingPoint

_RATES_BITS_PER_S = np.logspace(3, 10, 141)


def switching_points(
    costs: Costs, link: LinkRecord, limits: Limits, load: Load, objective: Objective
) -> list[SwitchingPoint]:
    """Return where over the uplink's rate the best kind of placement changes, from 1 kbit/s to 10 Gbit/s.

    The downlink's rate keeps its ratio. Each point names the best placement just above it ("" where none keeps the
    limits); rates are found to 1 %.
    """

    def best_at(rates: NDArray[np.float64]) -> NDArray[np.intp]:
        results = evaluate(costs, link, load, up_bits_per_s=rates)
        checks = choose.measures(costs, results, limits, load)
        mask = choose.allowed(costs, checks, results.total_ms.shape) & choose.considered(costs)
        return choose.best(choose.score(costs, results, objective), mask)

    def kind(index: int) -> str:
        return costs.rows[index].kind if index >= 0 else ""

    indices = best_at(_RATES_BITS_PER_S).tolist()
    points = [_point(costs, float(_RATES_BITS_PER_S[0]), indices[0])]
    for position in range(1, len(indices)):
        if kind(indices[position]) == kind(indices[position - 1]):
            continue
        low, high = float(_RATES_BITS_PER_S[position - 1]), float(_RATES_BITS_PER_S[position])
        at_high = indices[position]
        while high / low > 1.01:
            middle = (low * high) ** 0.5
            at_middle = int(best_at(np.array([middle]))[0])
            if kind(at_middle) == kind(indices[position - 1]):
                low = middle
            else:
                high, at_high = middle, at_middle
        points.append(_point(costs, high, at_high))
    return points


def _point(costs: Costs, rate: float, index: int) -> SwitchingPoint:
    return SwitchingPoint(from_bits_per_s=rate, placement=costs.rows[index].name if index >= 0 else "")
