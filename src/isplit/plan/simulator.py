"""Simulate many devices on one link and one server, whose requests wait for each other.

    request ─ device (first come first served) ─ uplink (shared or not) ─ server (batches, bounded queue) ─ downlink

There is no feedback from a later queue to an earlier one, so the queues are simulated one after the other in numpy
(`isplit.plan.queues`); only the server's batches and TCP messages that lose a packet run step by step. A link carries
messages one after the other. Refused requests are counted and not tried again.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isplit.errors import InputError
from isplit.plan import arrivals
from isplit.plan.controllers import Predict, choose_placements, states_at
from isplit.plan.links import load_link
from isplit.plan.messages import MessagePaths, TransferSampler, draw_from, send_messages
from isplit.plan.packets import TcpSettings
from isplit.plan.queues import Capacity, Served, departures_by_group, serve_batches
from isplit.plan.simulation_settings import SimulationSettings
from isplit.plan.summary import Journey, summarise
from isplit.plan.transfer import transfer_cost
from isplit.records import (
    LinkRecord,
    PlannedPlacement,
    PlanRecord,
    ScenarioResult,
    SimulationRecord,
    Transport,
    read_shared,
)
from isplit.records.paired import Z95

Values = NDArray[np.float64]
Indices = NDArray[np.intp]


def simulate(
    plan: PlanRecord | str | Path,
    *,
    placements: Sequence[str] = (),
    link: str | Path | LinkRecord | None = None,
    settings: SimulationSettings | None = None,
    sample_with: TransferSampler | None = None,
) -> SimulationRecord:
    """Simulate placements of a plan under load.

    Args:
        plan: A plan, its file, or the study's directory that holds plan.json.
        placements: The names of the placements. Without any, the plan's answer, local, and the fastest compressed image
            are simulated. A controller chooses among them.
        link: A link that replaces the plan's.
        settings: The devices, their requests and the server.
        sample_with: Another engine for messages. Their times and losses are drawn from its runs.

    Raises:
        InputError: a placement is unknown, or the settings are invalid.

    Examples:
        >>> simulate("study", settings=SimulationSettings(devices=50, deadline_ms=100))  # doctest: +SKIP

    """
    settings = settings or SimulationSettings()
    record = read_plan(plan)
    if sample_with is not None and settings.trace is not None:
        msg = "ns-3 runs links that stay as they are; a trace needs the engine isplit"
        raise InputError(msg)
    started = time.perf_counter()
    used = record.links[0] if link is None else load_link(link, name="link")
    chosen = [_placement(record, name) for name in placements or default_placements(record)]
    random = np.random.default_rng(settings.seed)
    requests = _requests(settings, random)
    transport = settings.transport or record.transport
    groups = _groups(chosen, used, requests, settings, transport=transport)
    results = tuple(
        _run(name, options, indices, record, used, requests, replace(settings, transport=transport), sample_with)
        for name, options, indices in groups
    )
    seconds = time.perf_counter() - started
    return SimulationRecord(
        isplit_version=version("isplit"),
        engine="isplit" if sample_with is None else "ns3",
        scenario=settings.scenario(used, transport),
        results=results,
        estimated=record.estimated or used.source == "estimated",
        seconds=seconds,
        requests_per_minute=60 * len(requests.time_ms) * len(results) / max(seconds, 1e-9),
    )


def _groups(
    chosen: Sequence[PlannedPlacement],
    link: LinkRecord,
    requests: arrivals.Requests,
    settings: SimulationSettings,
    *,
    transport: Transport,
) -> list[tuple[str, Sequence[PlannedPlacement], Indices]]:
    """Return the simulations to run, each as a title, placements, and the index of each request's placement."""
    if settings.controller is None:
        return [(placement.name, [placement], np.zeros(len(requests.time_ms), np.intp)) for placement in chosen]
    assert settings.trace is not None, "the settings refuse a controller without a trace"
    indices = choose_placements(
        settings.controller,
        settings.trace,
        predict_latencies(chosen, link, transport=transport, tcp=settings.tcp),
        time_ms=requests.time_ms,
        device=requests.device,
        settings=settings.controller_settings,
    )
    return [(f"{settings.controller} controller", chosen, indices)]


def default_placements(record: PlanRecord) -> list[str]:
    """Return the plan's answer, local, and the fastest compressed image."""
    names = [name for name in (record.answer.chosen, "local") if name is not None]
    images = [placement for placement in record.placements if placement.kind == "remote"]
    if images:
        names.append(min(images, key=lambda placement: placement.latency_ms).name)
    return list(dict.fromkeys(names))


def read_plan(plan: PlanRecord | str | Path) -> PlanRecord:
    """Return a plan, which may be given as a record, as its file, or as its study's directory."""
    if isinstance(plan, PlanRecord):
        return plan
    path = Path(plan)
    return read_shared(PlanRecord, path / PlanRecord.file_name if path.is_dir() else path, command="isplit plan")


def _placement(record: PlanRecord, name: str) -> PlannedPlacement:
    try:
        return record.placement(name)
    except KeyError:
        known = ", ".join(placement.name for placement in record.placements[:12])
        msg = f"the plan has no placement {name!r}; it has {known}{' …' if len(record.placements) > 12 else ''}"
        raise InputError(msg) from None


def _requests(settings: SimulationSettings, random: np.random.Generator) -> arrivals.Requests:
    if settings.arrivals == "trace":
        return arrivals.at_times(np.array(settings.times_s), devices=settings.devices, random=random)
    make = arrivals.periodic if settings.arrivals == "periodic" else arrivals.poisson
    return make(devices=settings.devices, period_ms=settings.period_ms, duration_s=settings.duration_s, random=random)


def predict_latencies(
    placements: Sequence[PlannedPlacement], link: LinkRecord, *, transport: Transport, tcp: TcpSettings
) -> Predict:
    """Return a function from rates and round trips to the planned latencies of placements, n x placements."""
    computed = np.array(
        [placement.latency_ms - placement.latency.up - placement.latency.down for placement in placements]
    )
    up = np.array([placement.wire_up_bytes for placement in placements])
    down = np.array([placement.wire_down_bytes for placement in placements])
    sends = np.array([placement.kind not in ("local", "segmented") for placement in placements])
    ratio = link.down_bits_per_s / link.up_bits_per_s
    no_trip = link.model_copy(update={"rtt_ms": 0.0})

    def predict(rates: Values, round_trips: Values) -> Values:
        rate = rates[:, None]
        going = transfer_cost(up, no_trip, transport=transport, settings=tcp, rate_bits_per_s=rate).median_ms
        coming = transfer_cost(
            down, no_trip, up=False, transport=transport, settings=tcp, rate_bits_per_s=rate * ratio
        ).median_ms
        return computed + np.where(sends, going + coming + round_trips[:, None], 0.0)

    return predict


@dataclass(frozen=True, kw_only=True)
class _Work:
    """Hold the cost of each request at each place, in milliseconds and bytes, in the order of requests."""

    device_ms: Values
    server_ms: Values
    finish_ms: Values
    up_bytes: Values
    down_bytes: Values
    needs_whole: NDArray[np.bool_]
    sends: NDArray[np.bool_]


def _work(
    options: Sequence[PlannedPlacement],
    indices: Indices,
    record: PlanRecord,
    settings: SimulationSettings,
    random: np.random.Generator,
) -> _Work:
    def column(values: Sequence[float]) -> Values:
        return np.array(values, float)[indices]

    def noise(spread: float) -> Values:
        return np.exp(np.log(max(spread, 1.0)) / Z95 * random.standard_normal(len(indices)))

    parts = [placement.latency for placement in options]
    sends = column([placement.kind not in ("local", "segmented") for placement in options]).astype(bool)
    exits = random.random(len(indices)) < settings.early_exit_share
    server = column([part.decode + part.tail + part.middle for part in parts])
    servers_spread = next((machine.spread for machine in record.machines[1:]), 1.0)
    return _Work(
        device_ms=column([part.preprocess + part.head + part.encode for part in parts])
        * noise(record.machines[0].spread),
        server_ms=server * noise(servers_spread),
        finish_ms=column([part.finish for part in parts]),
        up_bytes=column([placement.wire_up_bytes for placement in options]),
        down_bytes=column([placement.wire_down_bytes for placement in options]),
        needs_whole=column([placement.kind == "remote" for placement in options]).astype(bool),
        sends=sends & ~exits,
    )


def _run(
    name: str,
    options: Sequence[PlannedPlacement],
    indices: Indices,
    record: PlanRecord,
    link: LinkRecord,
    requests: arrivals.Requests,
    settings: SimulationSettings,
    sample_with: TransferSampler | None,
) -> ScenarioResult:
    """Simulate one set of requests from end to end."""
    # Every placement sees the same random numbers, so that differences between placements are not due to chance.
    random = np.random.default_rng([settings.seed, 1])
    work = _work(options, indices, record, settings, random)
    left_device = departures_by_group(requests.time_ms, work.device_ms, requests.device)
    samples = None if sample_with is None else draw_from(sample_with, link, settings)
    way_up = _paths(link, settings, requests, left_device, up=True)
    up = send_messages(left_device, work.up_bytes, way_up, work.sends, random, samples=samples)
    whole_enough = np.where(work.needs_whole, up.packets_lost == 0, up.packets_lost < up.packets)
    reaches = work.sends & (whole_enough if settings.transport == "udp" else True)
    served, order = _serve(up.arrival_ms, work, indices, reaches, settings)
    ended = np.full(len(indices), np.nan)
    ended[order] = served.end_ms
    answered_by_server = ~np.isnan(ended)
    down = send_messages(
        np.where(answered_by_server, ended, np.inf),
        work.down_bytes,
        _paths(link, settings, requests, left_device, up=False),
        answered_by_server,
        random,
        samples=samples,
    )
    comes_back = answered_by_server & ((down.packets_lost == 0) if settings.transport == "udp" else True)
    finished = np.where(work.sends, np.where(comes_back, down.arrival_ms + work.finish_ms, np.nan), left_device)
    journey = Journey(
        made_ms=requests.time_ms,
        device_ms=work.device_ms,
        finish_ms=work.finish_ms,
        left_device_ms=left_device,
        reached_server_ms=up.arrival_ms,
        server_ms=work.server_ms,
        left_server_ms=ended,
        finished_ms=finished,
        sends=work.sends,
        reaches=reaches,
    )
    result = summarise(
        name, journey, up=up, down=down, served=served, settings=settings, machine=record.machines[0], link=link
    )
    counts = np.bincount(indices, minlength=len(options))
    switches = int(((np.diff(indices) != 0) & (np.diff(requests.device) == 0)).sum())
    return result.model_copy(
        update={
            "placements": {option.name: int(count) for option, count in zip(options, counts, strict=True)},
            "switches": switches,
        }
    )


def _paths(
    link: LinkRecord, settings: SimulationSettings, requests: arrivals.Requests, when: Values, *, up: bool
) -> MessagePaths:
    """Describe one direction of the link for every request."""
    count = len(when)
    finite = when[np.isfinite(when)]
    until_ms = float(finite.max(initial=1.0)) * 1.5 + 1e4
    rate = link.up_bits_per_s if up else link.down_bits_per_s
    trace = settings.trace
    if trace is None:
        capacity = Capacity.constant(rate, until_ms=until_ms)
        rtt_ms, loss = np.full(count, link.rtt_ms), np.full(count, link.loss_up if up else link.loss_down)
        rates = np.full(count, rate)
    else:
        points = trace.points
        changing = np.array([point.up_bits_per_s if up else point.down_bits_per_s for point in points])
        capacity = Capacity.changing(
            np.array([point.time_s for point in points]), changing, seconds=trace.seconds, until_ms=until_ms
        )
        states = states_at(trace, np.where(np.isfinite(when), when, 0.0))
        rtt_ms, loss = states.rtt_ms, states.loss
        rates = np.maximum(states.up_bits_per_s, 1e3)
    return MessagePaths(
        up=up,
        capacity=capacity,
        shared=settings.shared_uplink,
        device=requests.device,
        rtt_ms=rtt_ms,
        jitter_ms=link.jitter_ms,
        loss=loss,
        rates=rates,
        transport=settings.transport or "tcp",
        packet_bytes=settings.packet_bytes or link.mtu_bytes,
        tcp=settings.tcp,
    )


def _serve(
    arrival_ms: Values, work: _Work, kind: Indices, reaches: NDArray[np.bool_], settings: SimulationSettings
) -> tuple[Served, Indices]:
    """Serve the requests that reach the server in the order of arrival; return the results and these requests."""
    who = np.flatnonzero(reaches)
    order = who[np.argsort(arrival_ms[who], kind="stable")]
    served = serve_batches(
        arrival_ms[order],
        work.server_ms[order],
        kind[order],
        workers=settings.workers,
        max_batch=settings.max_batch,
        queue_capacity=settings.queue_capacity,
        batch_gain=settings.batch_gain,
    )
    return served, order
