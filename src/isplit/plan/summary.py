"""Turn the times of single requests into distributions, misses, loads and energy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isplit.plan.messages import Messages
from isplit.plan.queues import Served
from isplit.plan.simulation_settings import SimulationSettings
from isplit.records import LatencySummary, LinkRecord, PlannedMachine, ScenarioResult, Utilisation

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Journey:
    """Hold the moments of every request in milliseconds. NaN stands for a stage that it did not reach."""

    made_ms: Values
    device_ms: Values
    finish_ms: Values
    left_device_ms: Values
    reached_server_ms: Values
    server_ms: Values
    left_server_ms: Values
    finished_ms: Values
    sends: Mask
    reaches: Mask


def summarise(
    name: str,
    journey: Journey,
    *,
    up: Messages,
    down: Messages,
    served: Served,
    settings: SimulationSettings,
    machine: PlannedMachine,
    link: LinkRecord,
) -> ScenarioResult:
    """Summarise the requests of one placement."""
    latency = journey.finished_ms - journey.made_ms
    answered = ~np.isnan(latency)
    dropped = journey.reaches & np.isnan(journey.left_server_ms)
    lost = ~answered & ~dropped
    late = np.zeros(len(latency), bool)
    if settings.deadline_ms is not None:
        late = answered & (latency > settings.deadline_ms)
    span_ms = float(np.nanmax(journey.finished_ms, initial=1.0) - journey.made_ms.min(initial=0.0))
    share = span_ms * (settings.devices if not settings.shared_uplink else 1)
    return ScenarioResult(
        placement=name,
        requests=len(latency),
        answered=int(answered.sum()),
        dropped=int(dropped.sum()),
        lost=int(lost.sum()),
        deadline_ms=settings.deadline_ms,
        deadline_misses=int((late | ~answered).sum()),
        latency=latency_summary(latency[answered]),
        parts_mean_ms=_parts(journey),
        utilisation=Utilisation(
            device=float((journey.device_ms.sum() + journey.finish_ms.sum()) / (span_ms * settings.devices)),
            up=float(up.serialisation_ms.sum() / share),
            server=float(served.busy_ms / (span_ms * settings.workers)),
            down=float(down.serialisation_ms.sum() / share),
        ),
        mean_batch=float(served.batch_sizes.mean()) if served.batch_sizes.size else 0.0,
        packets=int(up.packets.sum() + down.packets.sum()),
        packets_lost=int(up.packets_lost.sum() + down.packets_lost.sum()),
        retransmissions=int(up.retransmissions.sum() + down.retransmissions.sum()),
        device_energy_mj_mean=_energy_mj(journey, up, down, machine, link),
        early_exit_share=settings.early_exit_share,
    )


def latency_summary(latency_ms: Values) -> LatencySummary:
    """Return mean, percentiles and a histogram of latencies in milliseconds."""
    if latency_ms.size == 0:
        return LatencySummary(count=0, mean_ms=None, p50_ms=None, p95_ms=None, p99_ms=None, max_ms=None)
    p50, p95, p99 = np.percentile(latency_ms, (50, 95, 99)).tolist()
    low, high = float(latency_ms.min()), float(latency_ms.max())
    edges = np.linspace(low, max(high, low + 1e-9), 41)
    counts, _ = np.histogram(latency_ms, edges)
    return LatencySummary(
        count=int(latency_ms.size),
        mean_ms=float(latency_ms.mean()),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        max_ms=high,
        histogram_ms=tuple(edges[:-1].tolist()),
        histogram=tuple(int(count) for count in counts),
    )


def _parts(journey: Journey) -> dict[str, float]:
    """Return the mean time of each part, over the requests that went through it."""
    parts = {
        "device_wait": journey.left_device_ms - journey.made_ms - journey.device_ms,
        "device": journey.device_ms,
        "up": journey.reached_server_ms - journey.left_device_ms,
        "queue_and_batch": journey.left_server_ms - journey.reached_server_ms - journey.server_ms,
        "server": np.where(np.isnan(journey.left_server_ms), np.nan, journey.server_ms),
        "down": journey.finished_ms - journey.left_server_ms - journey.finish_ms,
        "finish": np.where(journey.finish_ms > 0, journey.finish_ms, np.nan),
    }
    means: dict[str, float] = {}
    for name, values in parts.items():
        known = values[~np.isnan(values)]
        if known.size:
            means[name] = float(known.mean())
    return means


def _energy_mj(
    journey: Journey, up: Messages, down: Messages, machine: PlannedMachine, link: LinkRecord
) -> float | None:
    """Return the device's mean energy for a request: computing, waiting for the answer, and its radio."""
    power = machine.power
    if power is None:
        return None
    active_ms = journey.device_ms + journey.finish_ms
    waiting_ms = np.where(
        np.isnan(journey.finished_ms), 0.0, journey.finished_ms - journey.left_device_ms - journey.finish_ms
    )
    energy = power.active_w * active_ms + power.idle_w * np.maximum(waiting_ms, 0.0)
    if link.radio is not None:
        energy = energy + link.radio.transmit_w * up.serialisation_ms + link.radio.receive_w * down.serialisation_ms
    return float(energy.mean())
