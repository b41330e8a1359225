"""The best placement on a row of machines: by hand, against every placement, and against CP-SAT."""

import itertools

import numpy as np
import pytest
from ortools.sat.python import cp_model

from isplit.errors import InputError
from isplit.plan.tiers import TierObjective, TierProblem, TierSegment, place_on_tiers


def random_problem(seed: int, *, tiers: int = 3, cuts: int = 6) -> TierProblem:
    """Whole milliseconds, so that the integers of CP-SAT are exact; some parts do not fit, some cuts cannot be sent."""
    random = np.random.default_rng(seed)
    count = cuts + 2
    layers = random.integers(1, 60, count - 1).astype(float)
    speed = np.sort(random.integers(1, 8, tiers))[::-1].astype(float)
    prefix = np.concatenate([[0.0], np.cumsum(layers)])
    part = (prefix[None, :] - prefix[:, None])[None] * speed[:, None, None]
    part[random.random(part.shape) < 0.1] = np.inf
    transfer = random.integers(1, 80, (tiers - 1, count)).astype(float)
    transfer[random.random(transfer.shape) < 0.15] = np.inf
    return TierProblem(
        part_ms=part,
        encode_ms=random.integers(0, 9, (tiers, count)).astype(float),
        decode_ms=random.integers(0, 9, (tiers, count)).astype(float),
        transfer_ms=transfer,
        answer_ms=random.integers(0, 20, tiers - 1).astype(float),
        begin_ms=float(random.integers(0, 5)),
    )


def stages(problem: TierProblem, path: tuple[TierSegment, ...]) -> tuple[list[float], float]:
    """Return the stages of a placement (machines and links) and what its answer costs, from the definition."""
    end = problem.encode_ms.shape[1] - 1
    times: list[float] = []
    for position, segment in enumerate(path):
        tier = segment.tier
        run = float(problem.part_ms[tier, segment.start, segment.end]) if segment.end > segment.start else 0.0
        first = problem.begin_ms if position == 0 else float(problem.decode_ms[tier, segment.start])
        last = 0.0 if segment.end == end else float(problem.encode_ms[tier, segment.end])
        times.append(first + run + last)
        if position + 1 < len(path):
            links = range(tier, path[position + 1].tier)
            times += [float(problem.transfer_ms[link, segment.end]) for link in links]
    return times, float(problem.answer_ms[: path[-1].tier].sum())


def every_placement(problem: TierProblem, objective: TierObjective) -> float:
    """Return the least cost over all placements, tried one by one."""
    tiers, count = problem.encode_ms.shape
    least = np.inf
    for used in range(1, tiers + 1):
        for machines in itertools.combinations(range(tiers), used):
            if machines[0] != 0:
                continue
            for ends in itertools.combinations(range(count - 1), used - 1):
                borders = (0, *ends, count - 1)
                path = tuple(
                    TierSegment(tier=machine, start=start, end=end)
                    for machine, start, end in zip(machines, borders[:-1], borders[1:], strict=True)
                )
                if any(segment.end == segment.start for segment in path[1:]):
                    continue
                times, answer = stages(problem, path)
                if objective == "latency":
                    least = min(least, sum(times) + answer)
                else:
                    back = problem.answer_ms[: path[-1].tier].max(initial=0.0)
                    least = min(least, max([*times, float(back)]))
    return least


def cp_sat(problem: TierProblem) -> float:
    """Return the least latency as CP-SAT finds it: a tier for every layer, in order, with tables of costs."""
    tiers, count = problem.encode_ms.shape
    model = cp_model.CpModel()
    huge = 10**6

    def whole(value: float) -> int:
        return int(value) if np.isfinite(value) else huge

    # border[t] is the boundary at which tier t ends; a tier that is not used ends where the one before it does.
    borders = [model.new_int_var(0, count - 1, f"border{tier}") for tier in range(tiers)]
    model.add(borders[-1] == count - 1)
    for before, after in itertools.pairwise(borders):
        model.add(before <= after)
    costs: list[cp_model.IntVar] = []

    def table(variables: list[cp_model.IntVar], cost: dict[tuple[int, ...], int]) -> None:
        value = model.new_int_var(0, 10 * huge, f"cost{len(costs)}")
        model.add_allowed_assignments([*variables, value], [(*key, entry) for key, entry in cost.items()])
        costs.append(value)

    begin = int(problem.begin_ms)
    table(
        [borders[0]],
        {
            (end,): begin
            + (0 if end == 0 else whole(problem.part_ms[0, 0, end]))
            + (0 if end == count - 1 else whole(problem.encode_ms[0, end]))
            for end in range(count)
        },
    )
    for tier in range(1, tiers):
        run: dict[tuple[int, ...], int] = {}
        for start in range(count):
            for end in range(start, count):
                if start == count - 1 or end == start:
                    run[start, end] = 0
                    continue
                cost = whole(problem.decode_ms[tier, start]) + whole(problem.part_ms[tier, start, end])
                run[start, end] = cost + (0 if end == count - 1 else whole(problem.encode_ms[tier, end]))
        table([borders[tier - 1], borders[tier]], run)
        # What crosses the link before this tier is what the tiers before it have come to, if anything follows.
        link: dict[tuple[int, ...], int] = {
            (start,): 0
            if start == count - 1
            else whole(problem.transfer_ms[tier - 1, start]) + int(problem.answer_ms[tier - 1])
            for start in range(count)
        }
        table([borders[tier - 1]], link)
    model.minimize(sum(costs))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    assert cp_model.OPTIMAL == solver.solve(model)
    value = solver.objective_value
    return np.inf if value >= huge else value


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("objective", ["latency", "slowest-stage"])
def test_it_is_the_best_of_all(seed: int, objective: TierObjective):
    """No placement of layers on three machines is better, for either objective."""
    problem = random_problem(seed)
    placement = place_on_tiers(problem, objective=objective)
    assert every_placement(problem, objective) == (np.inf if placement is None else pytest.approx(placement.cost_ms))


@pytest.mark.parametrize("seed", range(12))
def test_cp_sat_finds_the_same(seed: int):
    """OR-tools, with a model of its own, comes to the same latency on ten cuts."""
    problem = random_problem(100 + seed, cuts=10)
    placement = place_on_tiers(problem)
    assert cp_sat(problem) == (np.inf if placement is None else pytest.approx(placement.cost_ms))


@pytest.mark.parametrize("seed", range(10))
def test_the_segments_have_the_cost(seed: int):
    """What is returned as segments adds up to the cost, and covers the model in order."""
    problem = random_problem(seed, tiers=4)
    placement = place_on_tiers(problem)
    assert placement is not None
    times, answer = stages(problem, placement.segments)
    assert sum(times) + answer == pytest.approx(placement.cost_ms)
    borders = [placement.segments[0].start, *(segment.end for segment in placement.segments)]
    assert borders == sorted(borders)
    assert (0, problem.encode_ms.shape[1] - 1) == (borders[0], borders[-1])


def test_nothing_fits():
    """Where no machine can run the model in order, there is no placement."""
    problem = random_problem(0)
    blocked = TierProblem(
        part_ms=np.full_like(problem.part_ms, np.inf),
        encode_ms=problem.encode_ms,
        decode_ms=problem.decode_ms,
        transfer_ms=problem.transfer_ms,
        answer_ms=problem.answer_ms,
    )
    assert place_on_tiers(blocked) is None


def test_shapes_that_do_not_fit_are_refused():
    """Costs of another number of tiers or boundaries."""
    problem = random_problem(0)
    with pytest.raises(InputError, match="transfer_ms has the shape"):
        TierProblem(
            part_ms=problem.part_ms,
            encode_ms=problem.encode_ms,
            decode_ms=problem.decode_ms,
            transfer_ms=problem.transfer_ms[:1],
            answer_ms=problem.answer_ms,
        )
