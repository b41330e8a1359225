"""Which placement a device uses while its link changes: always one, the best at every moment, or the best it knows of.

A controller sees the latency that the plan predicts for each of its placements at a rate and a round trip. The oracle
knows the link's state at the request; the adaptive one knows what it measured at its last request, and moves only for a
clear gain and not too often, so that a link that wavers does not make it waver.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isplit.records import LinkTrace

Values = NDArray[np.float64]
Indices = NDArray[np.intp]
ControllerName = Literal["static", "oracle", "adaptive"]

Predict = Callable[[Values, Values], Values]
"""From rates up (bits per second) and round trips (milliseconds), each of n, to latencies n x placements."""


@dataclass(frozen=True, kw_only=True)
class ControllerSettings:
    """How the adaptive controller moves.

    It switches where the predicted latency falls by more than `least_gain` (a share), and stays at least `dwell_s`.
    `smoothing` is the weight of the newest measurement in its estimate of the link.
    """

    least_gain: float = 0.1
    dwell_s: float = 2.0
    smoothing: float = 0.5


@dataclass(frozen=True, kw_only=True)
class LinkStates:
    """The state of the link at moments: rates in bits per second, round trips in milliseconds, losses."""

    up_bits_per_s: Values
    rtt_ms: Values
    loss: Values


def states_at(trace: LinkTrace, time_ms: Values) -> LinkStates:
    """Return the trace's state at each moment; the trace repeats."""
    starts = np.array([point.time_s for point in trace.points]) * 1e3
    index = np.searchsorted(starts, np.mod(time_ms, trace.seconds * 1e3), side="right") - 1
    rates = np.array([point.up_bits_per_s for point in trace.points])
    return LinkStates(
        up_bits_per_s=rates[index],
        rtt_ms=np.array([point.rtt_ms for point in trace.points])[index],
        loss=np.array([point.loss for point in trace.points])[index],
    )


def choose_placements(
    name: ControllerName,
    trace: LinkTrace,
    predict: Predict,
    *,
    time_ms: Values,
    device: Indices,
    settings: ControllerSettings | None = None,
) -> Indices:
    """Return the placement of each request, as an index into the placements that `predict` knows.

    Requests are sorted by device, then by time. "static" always takes the best for the trace's mean rate.
    """
    states = states_at(trace, time_ms)
    slowest = 1.0  # an outage: everything that sends takes for ever
    if name == "static":
        mean_rate = float(np.mean([point.up_bits_per_s for point in trace.points]))
        mean_rtt = float(np.mean([point.rtt_ms for point in trace.points]))
        best = int(np.argmin(predict(np.array([mean_rate]), np.array([mean_rtt]))[0]))
        return np.full(len(time_ms), best, np.intp)
    if name == "oracle":
        latencies = predict(np.maximum(states.up_bits_per_s, slowest), states.rtt_ms)
        return np.argmin(latencies, axis=1)
    return _adaptive(states, predict, time_ms=time_ms, device=device, settings=settings or ControllerSettings())


def _adaptive(
    states: LinkStates, predict: Predict, *, time_ms: Values, device: Indices, settings: ControllerSettings
) -> Indices:
    estimated_rate = np.empty(len(time_ms))
    estimated_rtt = np.empty(len(time_ms))
    weight = settings.smoothing
    rates = np.log(np.maximum(states.up_bits_per_s, 1.0)).tolist()
    trips, owners = states.rtt_ms.tolist(), device.tolist()
    log_rate, trip, owner = 0.0, 0.0, -1
    for index in range(len(owners)):
        if owners[index] != owner:  # a device begins with one probe of the link
            owner, log_rate, trip = owners[index], rates[index], trips[index]
        estimated_rate[index], estimated_rtt[index] = log_rate, trip
        # What this request sees is known to the next. Rates vary by factors, so their logarithms are averaged.
        log_rate += weight * (rates[index] - log_rate)
        trip += weight * (trips[index] - trip)
    latencies = predict(np.exp(estimated_rate), estimated_rtt)
    best = np.argmin(latencies, axis=1).tolist()
    chosen = np.empty(len(owners), np.intp)
    current, since, owner = 0, -np.inf, -1
    moments = time_ms.tolist()
    for index in range(len(owners)):
        if owners[index] != owner:
            owner, current, since = owners[index], best[index], moments[index]
        gain = 1 - latencies[index, best[index]] / latencies[index, current]
        if gain > settings.least_gain and moments[index] - since >= settings.dwell_s * 1e3:
            current, since = best[index], moments[index]
        chosen[index] = current
    return chosen
