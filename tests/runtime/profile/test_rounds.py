"""Timing parts in turn."""

import pytest

from isplit.runtime.profile.rounds import Rounds, summarise, time_in_rounds


class Clock:
    """A clock that moves only when it is told; every part of a test moves it by its own time."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s

    def part(self, seconds, log=None, name=""):
        def run():
            self.now_s += seconds
            if log is not None:
                log.append(name)

        return run


def test_times_are_those_of_the_parts():
    """Median and p95 are the parts' own times, and as many runs are counted as were asked for."""
    clock = Clock()
    parts = {"fast": clock.part(0.001), "slow": clock.part(0.02)}

    times = time_in_rounds(parts, Rounds(runs=10, warm_up_runs=1, seconds=60, pause_s=0, clock=clock))

    assert pytest.approx(1.0) == times["fast"].median_ms
    assert pytest.approx(20.0) == times["slow"].p95_ms
    assert 10 == times["slow"].runs


def test_parts_take_turns():
    """In each round every part runs once after a pause, in an order that changes from round to round."""
    clock, log, pauses = Clock(), [], []
    parts = {name: clock.part(0.001, log, name) for name in "abc"}

    time_in_rounds(parts, Rounds(runs=6, warm_up_runs=0, seconds=60, pause_s=0.5, clock=clock, sleep=pauses.append))

    rounds = [tuple(log[start : start + 3]) for start in range(0, len(log), 3)]
    assert 6 == len(rounds)
    assert {("a", "b", "c")} == {tuple(sorted(names)) for names in rounds}
    assert len(set(rounds)) > 1
    assert [0.5] * 18 == pauses


def test_a_drifting_clock_hurts_all_alike():
    """Where the machine becomes twice as slow half-way, two equal parts still have equal medians."""
    clock = Clock()
    runs = {"count": 0}

    def drifting():
        runs["count"] += 1
        clock.now_s += 0.001 if runs["count"] < 150 else 0.002

    times = time_in_rounds(
        {"a": drifting, "b": drifting}, Rounds(runs=200, warm_up_runs=0, seconds=60, pause_s=0, clock=clock)
    )

    assert times["a"].median_ms == times["b"].median_ms


def test_time_limit_keeps_five_runs():
    """When the time is up no further round begins, but every part has at least five timed runs."""
    clock = Clock()

    times = time_in_rounds(
        {"slow": clock.part(10.0)}, Rounds(runs=1000, warm_up_runs=1, seconds=1, pause_s=0, clock=clock)
    )

    assert 5 <= times["slow"].runs < 10


def test_quantiles_by_hand():
    """The 95th percentile lies between the two largest of 20 times, as in numpy."""
    import numpy as np

    values = [float(value) for value in np.random.default_rng(0).random(20)]

    assert pytest.approx(np.percentile(values, 95)) == summarise(values).p95_ms
    assert pytest.approx(np.median(values)) == summarise(values).median_ms
