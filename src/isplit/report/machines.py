"""Show the machines of a plan: what they are, how they were measured, and how long they take for the model's parts."""

from collections.abc import Sequence
from dataclasses import dataclass

from isplit.plan.recommend import milliseconds
from isplit.records import PlannedMachine, PlanRecord
from isplit.report.tables import NOTHING, Cell, Column, Row, Table
from isplit.report.text import minus

_MIB = 1024**2


@dataclass(frozen=True, kw_only=True)
class MachineWords:
    """A machine's name for people, its part in the plan ("device", "server 1"), and facts as phrases."""

    role: str
    title: str
    facts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MachinesView:
    """The machines of a plan in words, and a table of the times of the whole model and of each cut's parts."""

    machines: tuple[MachineWords, ...]
    table: Table


def machines_view(record: PlanRecord, *, cut_numbers: dict[str, int]) -> MachinesView | None:
    """Return the content of the section about the machines, None for a plan of a version that did not keep it."""
    if not record.machines or any(machine.whole_ms is None for machine in record.machines):
        return None
    servers = len(record.machines) - 1
    roles = ["device", *("server" if servers == 1 else f"server {number}" for number in range(1, servers + 1))]
    return MachinesView(
        machines=tuple(
            MachineWords(role=role, title=machine.title, facts=_facts(machine))
            for role, machine in zip(roles, record.machines, strict=True)
        ),
        table=_table(record.machines, roles, cut_numbers),
    )


def _facts(machine: PlannedMachine) -> tuple[str, ...]:
    """Say how a machine's times are known, what it is, and what else was measured on it."""
    scale = f", times {machine.scale:g}" if machine.scale != 1 else ""
    facts = [f"times are {machine.source}{scale} (profile {machine.name})"]
    if machine.machine is not None:
        facts.append(f"{machine.machine.processor} ({machine.machine.architecture})")
    if (execution := machine.execution) is not None:
        threads = f"{execution.threads} thread{'' if execution.threads == 1 else 's'}"
        facts.append(f"{threads} on {execution.provider}, {execution.runs:,} runs")
    if machine.whole_ms is not None:
        facts.append(f"the whole model in {milliseconds(machine.whole_ms)} ms")
    if (power := machine.power) is not None:
        how = "stated" if power.meter == "stated" else f"measured with {power.meter}"
        facts.append(f"{power.active_w:g} W while it computes and {power.idle_w:g} W while it waits, {how}")
    return tuple(facts)


def _table(machines: Sequence[PlannedMachine], roles: Sequence[str], cut_numbers: dict[str, int]) -> Table:
    """Return a row for the whole model, for each cut, and for the image alone where its memory or energy is known."""
    device, *servers = machines
    columns = [Column(title="Part", style="cut"), Column(title="Head", unit="device, ms", style="number")]
    columns += [Column(title="Tail", unit=f"{role}, ms", style="number") for role in roles[1:]]
    columns.append(Column(title="Times are"))
    columns.append(Column(title="Device memory", unit="MiB at the peak", style="number"))
    columns.append(Column(title="Device energy", unit="mJ an image", style="number"))
    memory_mib = {entry.placement: entry.peak_bytes / _MIB for entry in device.memory}
    energy_mj = {} if device.power is None else device.power.energy_mj

    def row(part: str, placement: str, times_ms: Sequence[float | None], sources: Sequence[str]) -> Row:
        words = " and ".join(dict.fromkeys(sources))
        cells = [Cell(text=part, value=part), *(_number(value, 2) for value in times_ms)]
        cells.append(Cell(text=words or NOTHING, value=words or None))
        cells += [_number(memory_mib.get(placement), 1), _number(energy_mj.get(placement), 1)]
        return Row(cells=tuple(cells), cut=cut_numbers.get(placement))

    whole_sources = [machine.source for machine in machines]
    rows = [row("whole model", "local", [machine.whole_ms for machine in machines], whole_sources)]
    for number, head in enumerate(device.cuts):
        tails = [server.cuts[number] for server in servers]
        times_ms = [head.head_ms, *(tail.tail_ms for tail in tails)]
        rows.append(row(head.cut, head.cut, times_ms, [head.head_source, *(tail.tail_source for tail in tails)]))
    if "remote" in memory_mib or "remote" in energy_mj:
        rows.append(row("image alone", "remote", [None] * len(machines), ()))
    empty = {len(columns) - 2} if not memory_mib else set[int]()
    empty |= {len(columns) - 1} if not energy_mj else set()
    return Table(columns=tuple(columns), rows=tuple(rows)).without(empty)


def _number(value: float | None, decimals: int) -> Cell:
    if value is None:
        return Cell(text=NOTHING, value=None)
    return Cell(text=minus(f"{value:,.{decimals}f}"), value=value)
