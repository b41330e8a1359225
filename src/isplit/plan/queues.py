"""Compute queues in numpy: first come first served at a fixed or changing rate, and a server that batches.

A system of queues in a row without feedback can be simulated queue by queue: the departures of one are the arrivals of
the next. For first come first served, Lindley's recursion D(k) = max(A(k), D(k-1)) + S(k) is a cumulative maximum:
D = C + max over j <= k of (A(j) - C(j-1)), with C the cumulative sum of service times.
"""

import heapq
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Indices = NDArray[np.intp]


def departures(arrival: Values, service: Values) -> Values:
    """Return when each customer of a queue leaves. Arrivals are sorted by time."""
    total = np.cumsum(service)
    return total + np.maximum.accumulate(arrival - (total - service))


def departures_by_group(arrival: Values, service: Values, group: Indices) -> Values:
    """Return the departures of many queues at once. Customers are sorted by group, and then by arrival."""
    if len(arrival) == 0:
        return arrival.copy()
    # Groups are laid one after the other in time, so far apart that none waits for another.
    horizon = float(arrival.max() - arrival.min() + service.sum() + 1.0)
    shift = group * horizon
    return departures(arrival + shift, service) - shift


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Describe a link whose rate changes: until `time_ms[i]` it can send `bits[i]` in all. Both arrays increase."""

    time_ms: Values
    bits: Values

    @classmethod
    def constant(cls, bits_per_s: float, *, until_ms: float) -> "Capacity":
        """Return a link of one rate."""
        return cls(time_ms=np.array([0.0, until_ms]), bits=np.array([0.0, bits_per_s * until_ms / 1e3]))

    @classmethod
    def changing(cls, time_s: Values, bits_per_s: Values, *, seconds: float, until_ms: float) -> "Capacity":
        """Return a link whose rates repeat every `seconds`, for at least `until_ms`."""
        repeats = int(np.ceil(until_ms / (1e3 * seconds))) + 1
        starts = (time_s[None, :] + seconds * np.arange(repeats)[:, None]).ravel() * 1e3
        borders = np.append(starts, 1e3 * seconds * repeats)
        sent = np.cumsum(np.tile(bits_per_s, repeats) * np.diff(borders) / 1e3)
        return cls(time_ms=borders, bits=np.concatenate([[0.0], sent]))

    def send(self, arrival: Values, bits: Values) -> Values:
        """Return when messages that come in that order have left, first come first served."""
        virtual = departures(np.interp(arrival, self.time_ms, self.bits), bits)
        return np.maximum(self.when(virtual), arrival)

    def when(self, bits: Values) -> Values:
        """Return when the link has sent so many bits in all. Beyond the end of the arrays, the mean rate holds."""
        # This is the first moment by which so many bits could be sent. The link may have stood still before it.
        after = np.clip(np.searchsorted(self.bits, bits, side="left"), 1, len(self.bits) - 1)
        step = np.maximum(self.bits[after] - self.bits[after - 1], 1e-12)
        part = (bits - self.bits[after - 1]) / step
        times = self.time_ms[after - 1] + part * (self.time_ms[after] - self.time_ms[after - 1])
        rate = self.bits[-1] / self.time_ms[-1]
        return np.where(bits > self.bits[-1], self.time_ms[-1] + (bits - self.bits[-1]) / rate, times)


@dataclass(frozen=True, kw_only=True)
class Served:
    """Hold the begin and the end of each request's batch (NaN where it was refused), and the sizes of all batches."""

    start_ms: Values
    end_ms: Values
    batch_sizes: NDArray[np.intp]
    busy_ms: float


def serve_batches(
    arrival: Values,
    service: Values,
    kind: Indices,
    *,
    workers: int,
    max_batch: int,
    queue_capacity: int,
    batch_gain: float = 0.0,
) -> Served:
    """Serve requests as isplit's server does: it never waits while it is idle, and batches what has queued meanwhile.

    Args:
        arrival: The times at which requests arrive, in order.
        service: The time that each request takes alone.
        kind: The kind of each request. Only requests of the same kind are batched, in order.
        workers: The number of batches that run at the same time.
        max_batch: The largest number of requests in one batch.
        queue_capacity: The largest number of requests that wait. Further ones are refused.
        batch_gain: The share of a request's time that is saved when it joins a batch: b equal requests take
            (1 + (b - 1) (1 - gain)) times the time of one. 0, the default, is what one processor core does.

    """
    count = len(arrival)
    start, end = np.full(count, np.nan), np.full(count, np.nan)
    times, durations, kinds = arrival.tolist(), service.tolist(), kind.tolist()
    free = [0.0] * workers
    waiting: deque[int] = deque()
    sizes: list[int] = []
    following, busy = 0, 0.0
    while following < count or waiting:
        now = heapq.heappop(free)
        if not waiting and times[following] > now:
            now = times[following]
        while following < count and times[following] <= now:
            if len(waiting) < queue_capacity:
                waiting.append(following)
            following += 1
        if not waiting:
            heapq.heappush(free, now)
            continue
        first = waiting.popleft()
        batch = [first]
        while waiting and len(batch) < max_batch and kinds[waiting[0]] == kinds[first]:
            batch.append(waiting.popleft())
        longest = max(durations[index] for index in batch)
        rest = sum(durations[index] for index in batch) - longest
        duration = longest + (1 - batch_gain) * rest
        for index in batch:
            start[index], end[index] = now, now + duration
        busy += duration
        sizes.append(len(batch))
        heapq.heappush(free, now + duration)
    return Served(start_ms=start, end_ms=end, batch_sizes=np.array(sizes, np.intp), busy_ms=busy)
