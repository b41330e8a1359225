"""Choose the placement that a device uses while its link changes.

A controller sees the latency that the plan predicts for each of its placements at a rate and a round trip. The static
controller always takes the same placement. The oracle knows the state of the link at each request. The adaptive
controller knows what it measured at its last request. It switches only for a clear gain and not too often, so that it
does not follow every fluctuation of the link.
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
    """Set when the adaptive controller switches.

    It switches when the predicted latency falls by more than `least_gain` (a share), and then keeps the placement for
    at least `dwell_s`. `smoothing` is the weight of the newest measurement in its estimate of the link.
    """

    least_gain: float = 0.1
    dwell_s: float = 2.0
    smoothing: float = 0.5


@dataclass(frozen=True, kw_only=True)
class LinkStates:
    """Hold the state of the link at several moments: rates in bit/s, round trips in milliseconds, and losses."""

    up_bits_per_s: Values
    rtt_ms: Values
    loss: Values


def states_at(trace: LinkTrace, time_ms: Values) -> LinkStates:
    """Return the state of the link at each moment of a trace, which repeats."""
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

    Args:
        name: The controller. The static one always takes the best placement for the trace's mean rate and round trip.
        trace: The link, which repeats.
        predict: Returns the latency of every placement in every state of the link.
        time_ms: The time of each request. Requests are sorted by device, then by time.
        device: The device that makes each request.
        settings: When the adaptive controller switches.

    """
    states = states_at(trace, time_ms)
    outage_bits_per_s = 1.0  # At this rate, no placement that sends anything ever finishes.
    if name == "static":
        mean_rate = float(np.mean([point.up_bits_per_s for point in trace.points]))
        mean_rtt = float(np.mean([point.rtt_ms for point in trace.points]))
        best = int(np.argmin(predict(np.array([mean_rate]), np.array([mean_rtt]))[0]))
        return np.full(len(time_ms), best, np.intp)
    if name == "oracle":
        latencies = predict(np.maximum(states.up_bits_per_s, outage_bits_per_s), states.rtt_ms)
        return np.argmin(latencies, axis=1)
    return _adaptive(states, predict, time_ms=time_ms, device=device, settings=settings or ControllerSettings())


def _adaptive(
    states: LinkStates, predict: Predict, *, time_ms: Values, device: Indices, settings: ControllerSettings
) -> Indices:
    """Choose by what each device measured at its earlier requests, and keep a placement for a while."""
    estimated_rate = np.empty(len(time_ms))
    estimated_rtt = np.empty(len(time_ms))
    weight = settings.smoothing
    rates = np.log(np.maximum(states.up_bits_per_s, 1.0)).tolist()
    trips, owners = states.rtt_ms.tolist(), device.tolist()
    log_rate, trip, owner = 0.0, 0.0, -1
    for index in range(len(owners)):
        if owners[index] != owner:  # A device begins with a probe of the link.
            owner, log_rate, trip = owners[index], rates[index], trips[index]
        estimated_rate[index], estimated_rtt[index] = log_rate, trip
        # The next request knows what this one measured. Rates vary by factors, so their logarithms are averaged.
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
