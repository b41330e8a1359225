"""Time several parts of a model in turn, so that a drifting clock or a warming processor slows all of them alike."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from isplit.records import TimeFigure

Key = TypeVar("Key")

PAUSE_S = 0.01
"""The pause before every timed run, in seconds. Between two images a device does other work or waits, so a part finds
the processor's caches cold. Timed back to back, the parts of MobileNetV2 took 25 to 45 % less time than for images
that came every 20 ms (on a server's processor, November 2026), so that predictions were too short.
"""

_LEAST_RUNS = 5


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The number of runs: `warm_up_runs` of each part, then `runs` rounds in which each part is timed once.

    There is a pause of `pause_s` before every timed run. After `seconds` no further round begins, unless a part has
    fewer than five timed runs.
    """

    runs: int
    warm_up_runs: int
    seconds: float
    pause_s: float = PAUSE_S
    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep


def time_in_rounds(
    parts: Mapping[Key, Callable[[], object]], rounds: Rounds, *, progress: Callable[[int, int], None] | None = None
) -> dict[Key, TimeFigure]:
    """Run all parts in turn, in another order each round, and return median and 95th percentile of each.

    Args:
        parts: What to run, by any key.
        rounds: How often.
        progress: Called with the rounds that are done and those planned.

    """
    clock = rounds.clock
    for run in parts.values():
        for _ in range(rounds.warm_up_runs):
            run()
    times_ms: dict[Key, list[float]] = {key: [] for key in parts}
    shuffle = random.Random(0)
    order = list(parts)
    begun_s = clock()
    for number in range(rounds.runs):
        if number >= _LEAST_RUNS and clock() - begun_s > rounds.seconds:
            break
        shuffle.shuffle(order)
        for key in order:
            rounds.sleep(rounds.pause_s)
            start_s = clock()
            parts[key]()
            times_ms[key].append((clock() - start_s) * 1e3)
        if progress is not None:
            progress(number + 1, rounds.runs)
    return {key: summarise(times) for key, times in times_ms.items()}


def summarise(times_ms: Sequence[float]) -> TimeFigure:
    """Return median and 95th percentile (by linear interpolation) of at least one time."""
    ordered = sorted(times_ms)
    return TimeFigure(median_ms=_quantile(ordered, 0.5), p95_ms=_quantile(ordered, 0.95), runs=len(ordered))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
