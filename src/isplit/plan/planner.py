"""Plan a study: evaluate every placement on given machines and links, and give one answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isplit.errors import InputError
from isplit.plan import choose
from isplit.plan.advice import training_advice
from isplit.plan.compute import MachineTimes, ModelShape, machine_times
from isplit.plan.costs import Costs, price
from isplit.plan.devices import THIS_MACHINE, load_device
from isplit.plan.evaluate import Evaluation, Load, evaluate
from isplit.plan.limits import make_limits, with_default_loss
from isplit.plan.links import load_link
from isplit.plan.machines import planned_machine
from isplit.plan.recommend import Choice, recommend
from isplit.plan.rows import PlacementRow, placement_rows
from isplit.plan.special_rows import segmented_row, tier_rows
from isplit.plan.study_facts import StudyFacts, load_facts
from isplit.plan.switching import switching_points
from isplit.records import (
    LatencyParts,
    LimitName,
    Limits,
    LinkRecord,
    Objective,
    PlacedSegment,
    PlannedPlacement,
    PlanRecord,
    ProfileRecord,
    Throughput,
)
from isplit.setting_checks import check_types

Mask = NDArray[np.bool_]


class HasDirectory(Protocol):
    """Anything that knows the directory of its study, such as what `isplit.open_study` returns."""

    @property
    def directory(self) -> Path:
        """The study's directory."""
        ...


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """Set the objective, the load and the further machines of a plan.

    `tiers` are further machines beyond the server, each with the link to it. `middle` adds placements whose last layers
    run on the device again. `group` is a class subset of the study; None takes the study's own classes.
    """

    objective: Objective = "latency"
    load: Load = field(default_factory=Load)
    group: str | None = None
    middle: bool = False
    tiers: tuple[tuple[str | Path | ProfileRecord, str | Path | LinkRecord], ...] = ()

    def __post_init__(self) -> None:
        check_types(self)


def plan(
    study: str | Path | HasDirectory | StudyFacts,
    *,
    device: str | Path | ProfileRecord = "pi4",
    link: str | Path | LinkRecord = "4g",
    server: str | Path | ProfileRecord = THIS_MACHINE,
    limits: Limits | Mapping[str, object] | None = None,
    settings: PlanSettings | None = None,
) -> PlanRecord:
    """Plan where the model of a study should run, and say it in one paragraph (`record.answer.text`).

    A study on which `isplit predict` was not run has no splits, and the plan compares the other placements. Where
    neither an accuracy nor a loss is limited, placements may lose one point.

    Args:
        study: The study, its directory, or the facts that were read from it.
        device: The name of a preset ("pi4"), a file that `isplit profile` wrote, or a profile.
        link: The name of a preset ("4g"), a file that `isplit probe` wrote, figures ("4Mbit/s,50ms"), or a link.
        server: The server, in any form that `device` takes. "this-machine" is estimated on the spot.
        limits: The limits of placements, as a record or by name (`{"max_latency_ms": 100}`).
        settings: The objective, the load, the classes and further machines.

    Raises:
        StudyError: the directory is not a study.
        InputError: a device, link or limit is invalid.

    Examples:
        >>> record = plan("study", device="pi4", link="4g", limits={"max_latency_ms": 100})  # doctest: +SKIP
        >>> print(record.answer.text)  # doctest: +SKIP

    """
    settings = settings or PlanSettings()
    facts = study if isinstance(study, StudyFacts) else _facts(study, group=settings.group)
    shape = ModelShape.from_graph(facts.graph)
    specs = [(device, "device"), (server, "server"), *((machine, "tier") for machine, _ in settings.tiers)]
    profiles = [load_device(spec, name=name) for spec, name in specs]
    links = [load_link(link, name="link"), *(load_link(spec, name="tier") for _, spec in settings.tiers)]
    machines = [machine_times(profile, shape, model_fingerprint=facts.model_fingerprint) for profile in profiles]
    given_limits = make_limits(dict(limits or {}), where="limits")
    checked_limits = with_default_loss(given_limits)

    rows = list(placement_rows(facts, shape, middle=settings.middle or checked_limits.hide_answer))
    if checked_limits.max_device_memory_bytes is not None:
        segmented = segmented_row(facts, machines[0], max_memory_bytes=checked_limits.max_device_memory_bytes)
        rows += [segmented] if segmented else []
    if settings.tiers:
        rows += tier_rows(facts, machines, links, settings.load)
    costs = price(rows, facts, device=machines[0], server=machines[1])
    default_loss = given_limits.max_accuracy_loss != checked_limits.max_accuracy_loss
    return _record(facts, costs, machines, links, checked_limits, settings, default_loss=default_loss)


def _facts(study: str | Path | HasDirectory, *, group: str | None) -> StudyFacts:
    directory = Path(study) if isinstance(study, (str, Path)) else study.directory
    return load_facts(directory, group=group)


def _record(
    facts: StudyFacts,
    costs: Costs,
    machines: Sequence[MachineTimes],
    links: Sequence[LinkRecord],
    limits: Limits,
    settings: PlanSettings,
    *,
    default_loss: bool,
) -> PlanRecord:
    load, objective = settings.load, settings.objective
    results = evaluate(costs, links[0], load)
    checks = choose.measures(costs, results, limits, load)
    considered = choose.considered(costs)
    scores = choose.score(costs, results, objective)
    if objective == "energy" and np.all(np.isnan(results.energy_mj)):
        msg = f"the profile {machines[0].profile.name!r} has no power: energy cannot be the objective; state watts"
        raise InputError(msg)
    keeps = choose.allowed(costs, checks, results.total_ms.shape) & considered
    chosen = int(choose.best(scores, keeps))
    front = choose.pareto_front(results.total_ms, costs.up_bytes + costs.down_bytes, costs.loss)
    placements = _placements(costs, results, checks, front, considered, machines, load)
    planned = tuple(planned_machine(machine) for machine in machines)
    switching = switching_points(costs, links[0], limits, load, objective)
    answer = recommend(
        placements,
        choice=Choice(
            chosen=placements[chosen] if chosen >= 0 else None,
            closest=placements[choose.nearest(checks, considered)],
            alternatives=_alternatives(placements, costs, checks, scores, considered, chosen),
            objective=objective,
        ),
        machines=planned,
        links=links,
        switching=switching,
        excluded_by=choose.exclusions(costs, checks, considered),
        default_loss=default_loss,
        train=training_advice(placements, checks, scores, considered, chosen, limits, facts.directory),
    )
    return PlanRecord(
        isplit_version=version("isplit"),
        model=facts.model,
        model_fingerprint=facts.model_fingerprint,
        group=facts.group,
        machines=planned,
        links=tuple(links),
        transport=load.transport,
        warm_connection=load.warm,
        wire_overhead=facts.wire_overhead,
        limits=limits,
        objective=objective,
        images_per_day=load.images_per_day,
        arrivals_per_s=load.arrivals_per_s,
        estimated=answer.estimated,
        assumptions=_assumptions(facts, machines, load),
        placements=tuple(placements),
        answer=answer,
    )


def _assumptions(facts: StudyFacts, machines: Sequence[MachineTimes], load: Load) -> tuple[str, ...]:
    """List the assumptions behind the figures."""
    sentences = [f"Wire bytes are payload bytes and what the protocol adds: {facts.wire_overhead.source}."]
    if not machines[0].profile.memory:
        sentences.append(
            "Device memory is estimated: the process itself, weights once in float32, and live activations; "
            "onnxruntime may hold weights twice while it loads them."
        )
    if load.transport == "udp":
        sentences.append("Over UDP nothing is repeated: `delivery_share` is the probability that an answer comes.")
    else:
        sentences.append(
            "A warm TCP connection begins with the initial window of 10 segments."
            if load.warm
            else "Every request opens a connection of its own: its handshake is part of `up`."
        )
    sentences.append("The 95th percentile adds the parts' own spreads as if they were independent.")
    return tuple(sentences)


def _placements(
    costs: Costs,
    results: Evaluation,
    checks: Sequence[choose.Measure],
    front: Mask,
    considered: Mask,
    machines: Sequence[MachineTimes],
    load: Load,
) -> list[PlannedPlacement]:
    broken: dict[LimitName, Mask] = {check.name: check.broken for check in checks}
    placements: list[PlannedPlacement] = []
    for index, row in enumerate(costs.rows):
        energy, memory = float(results.energy_mj[index]), float(costs.memory_bytes[index])
        up, down = float(costs.up_bytes[index]), float(costs.down_bytes[index])
        placements.append(
            PlannedPlacement(
                name=row.name,
                kind=row.kind,
                segments=_segments(row, machines),
                cut=row.split.cut if row.split else None,
                second_cut=row.second.cut if row.second else None,
                budget=row.split.budget if row.split else None,
                design=row.split.design if row.split else None,
                compression=row.image.compression if row.image else None,
                latency=_parts(costs, results, index),
                latency_ms=float(results.total_ms[index]),
                latency_p95_ms=float(results.total_p95_ms[index]),
                throughput=_throughput(results, index, sends=bool(costs.sends[index])),
                device_mac_share=float(costs.device_mac_share[index]),
                device_memory_bytes=int(memory),
                device_energy_mj=None if np.isnan(energy) else energy,
                payload_bytes=float(costs.payload_bytes[index]),
                wire_up_bytes=up,
                wire_down_bytes=down,
                bytes_per_day=(up + down) * load.images_per_day,
                accuracy=row.accuracy,
                violates=tuple(name for name, mask in broken.items() if mask[index]),
                delivery_share=float(results.delivery_share[index]),
                worth_considering=bool(considered[index]),
                on_front=bool(front[index]),
                source=costs.sources[index],
            )
        )
    return placements


def _parts(costs: Costs, results: Evaluation, index: int) -> LatencyParts:
    return LatencyParts(
        preprocess=float(costs.preprocess_ms[index]),
        head=float(costs.head_ms[index]),
        encode=float(costs.encode_ms[index]),
        up=float(results.up_ms[index]),
        queue=float(results.queue_ms[index]),
        decode=float(costs.decode_ms[index]),
        tail=float(costs.tail_ms[index]),
        middle=float(costs.middle_ms[index]),
        down=float(results.down_ms[index]),
        finish=float(costs.finish_ms[index]),
    )


def _throughput(results: Evaluation, index: int, *, sends: bool) -> Throughput:
    rates = {
        "device": float(results.device_per_s[index]),
        "up": float(results.up_per_s[index]),
        "server": float(results.server_per_s[index]),
        "down": float(results.down_per_s[index]),
    }
    known = {name: rate for name, rate in rates.items() if np.isfinite(rate) and (sends or name == "device")}
    slowest = min(known, key=lambda name: known[name])
    return Throughput(
        device=known.get("device"),
        up=known.get("up"),
        server=known.get("server"),
        down=known.get("down"),
        bottleneck=slowest,  # type: ignore[arg-type]
        images_per_s=known[slowest],
    )


def _segments(row: PlacementRow, machines: Sequence[MachineTimes]) -> tuple[PlacedSegment, ...]:
    shape = machines[0].shape
    cut = shape.index(row.split.cut) if row.split else 0
    parts = row.parts
    if not parts:
        whole = (0, 0, shape.end) if row.kind == "local" else (1, 0, shape.end)
        parts = (whole,) if row.split is None else ((0, 0, cut), (1, cut, shape.end))
        if row.second is not None:
            back = shape.index(row.second.cut)
            parts = ((0, 0, cut), (1, cut, back), (0, back, shape.end))
    return tuple(
        PlacedSegment(
            machine=machines[machine].profile.name,
            start=shape.names[start],
            end=shape.names[end],
            mac_share=float((shape.macs[end] - shape.macs[start]) / shape.whole_macs),
            layer=row.blocks[start][0] if start in row.blocks else None,
            blocks=row.blocks[start][1] if start in row.blocks else 1,
        )
        for machine, start, end in parts
    )


def _alternatives(
    placements: Sequence[PlannedPlacement],
    costs: Costs,
    checks: Sequence[choose.Measure],
    scores: NDArray[np.float64],
    considered: Mask,
    chosen: int,
) -> list[PlannedPlacement]:
    """Return the best of each other main kind, held to the limits of accuracy and of what may be seen alone."""
    kept: tuple[LimitName, ...] = ("min_accuracy", "max_accuracy_loss", "hide_image", "hide_answer", "link_message")
    mask = considered.copy()
    for check in checks:
        if check.name in kept:
            mask &= ~check.broken
    kinds = np.array([row.kind for row in costs.rows])
    others: list[PlannedPlacement] = []
    for kind in ("split", "remote", "local"):
        index = int(choose.best(scores, mask & (kinds == kind)))
        if index >= 0 and (chosen < 0 or kind != costs.rows[chosen].kind):
            others.append(placements[index])
    return others
