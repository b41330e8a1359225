"""isplit plan: where a model should run, on a device, over a link, under limits; in milliseconds."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from isplit.cli import console
from isplit.cli.plan_options import LimitOptions, MachineOptions
from isplit.errors import InputError
from isplit.plan.evaluate import Load
from isplit.plan.limit_words import broken_by_any
from isplit.plan.planner import PlanSettings
from isplit.plan.planner import plan as plan_study
from isplit.plan.recommend import milliseconds
from isplit.records import PlannedPlacement, PlanRecord, Transport, check_shared_path, write_shared
from isplit.report import check_report, write_report
from isplit.text import terminal_text

_MACHINES = "Machines and links"
_NEWEST_PLACES = 12


def plan(
    study: console.StudyArgument,
    machines: MachineOptions,
    limit_choice: LimitOptions,
    tier: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MACHINE@LINK",
            help="A further machine beyond the server, and the link to it: cloud.json@100Mbit/s,20ms. Repeatable.",
            rich_help_panel=_MACHINES,
        ),
    ] = None,
    transport: Annotated[
        str, typer.Option(metavar="tcp|udp", help="The transport of payloads.", rich_help_panel=_MACHINES)
    ] = "tcp",
    cold: Annotated[
        bool, typer.Option("--cold", help="Open a new connection for every request.", rich_help_panel=_MACHINES)
    ] = False,
    arrivals_per_s: Annotated[
        float,
        typer.Option(
            help="The requests per second that arrive at the server from all devices.", rich_help_panel=_MACHINES
        ),
    ] = 0.0,
    images_per_day: Annotated[
        float,
        typer.Option(help="The images of one device a day, which give its bytes a day.", rich_help_panel=_MACHINES),
    ] = 86_400.0,
    middle: Annotated[
        bool, typer.Option("--middle", help="Add placements that run the last layers on the device again.")
    ] = False,
    group: Annotated[
        str | None, typer.Option(help="A class subset of the study. By default, the study's own classes.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The plan to write. Default: plan.json in STUDY.")
    ] = None,
    all_placements: Annotated[
        bool, typer.Option("--all", help="Show every placement instead of the best ones only.")
    ] = False,
    wide: Annotated[
        bool, typer.Option("--wide", help="Also show the parts of the latency, the memory and the energy.")
    ] = False,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Say where the model of STUDY should run, how fast that is, and whether splitting is worth it.

    Run `isplit predict STUDY` first, so that there are splits to plan with. This verb does not need torch.

    Example: isplit plan study --device pi4 --link 4g --max-latency-ms 100
    """
    if out is not None:
        check_shared_path(out, PlanRecord)
    limits, objective = limit_choice.read()
    if not 0 <= arrivals_per_s <= 1e9 or not 0 < images_per_day <= 1e12:
        msg = (
            f"--arrivals-per-s is {arrivals_per_s} and --images-per-day {images_per_day}; give numbers of at least 0, "
            "and no more than 10^9 and 10^12"
        )
        raise InputError(msg)
    draws_report = out is None and (study / "report.html").exists()
    if draws_report:
        check_report(study, replaced=PlanRecord)
    record = plan_study(
        study,
        device=machines.device_profile(),
        link=machines.link,
        server=machines.server,
        limits=limits,
        settings=PlanSettings(
            objective=objective,
            load=Load(
                arrivals_per_s=arrivals_per_s,
                images_per_day=images_per_day,
                transport=read_transport(transport),
                warm=not cold,
            ),
            group=group,
            middle=middle,
            tiers=tuple(_tier(text) for text in tier or ()),
        ),
    )
    path = write_shared(record, out or study / PlanRecord.file_name)
    if draws_report:
        write_report(study)
    if json:
        typer.echo(record.to_json(), nl=False)
    elif not quiet:
        show_plan(record, every=all_placements, wide=wide)
        typer.echo(f"plan: {path}")
        typer.echo("")
        console.print_text(record.answer.text)


def _tier(text: str) -> tuple[str, str]:
    machine, at, link = text.partition("@")
    if not at or not machine or not link:
        msg = f"--tier is {text!r}; give MACHINE@LINK, for example cloud.json@100Mbit/s,20ms"
        raise InputError(msg)
    return machine, link


def read_transport(text: str) -> Transport:
    """Read --transport.

    Raises:
        InputError: it is neither tcp nor udp.

    """
    if text == "tcp":
        return "tcp"
    if text == "udp":
        return "udp"
    msg = f"--transport is {text!r}; choose tcp or udp"
    raise InputError(msg)


def show_plan(record: PlanRecord, *, every: bool = False, wide: bool = False) -> None:
    """Print placements as a table of at most 80 columns; more with `wide`."""
    shown = list(record.placements) if every else _worth_showing(record)
    estimated = ", estimated" if record.estimated else ""
    title = f"{len(shown)} of {len(record.placements)} placements{estimated}; * Pareto-optimal, <= the answer"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("placement", no_wrap=False, overflow="fold", min_width=16, max_width=None if wide else 28)
    columns = ["ms", "p95", "acc. %", "loss", "B up", "B down"]
    if wide:
        columns += ["payload", "head", "encode", "up", "queue", "server", "down", "MB", "mJ", "img/s", "MACs"]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", justify="left", no_wrap=True)
    for placement in sorted(shown, key=lambda placement: placement.latency_ms):
        table.add_row(terminal_text(placement.name), *_cells(placement, wide=wide), _mark(placement, record))
    console.output().print(table, markup=False)
    if broken := broken_by_any(shown, record.limits):
        console.print_text(
            f"! breaks {'this limit' if len(broken) == 1 else 'one of these limits'}: {'; '.join(broken)}."
        )


def _worth_showing(record: PlanRecord) -> list[PlannedPlacement]:
    """Return the answer, local, the fastest image, and the fastest of the front that keep the limits."""
    wanted = {record.answer.chosen, record.answer.nearest, "local"}
    first = [placement for placement in record.placements if placement.name in wanted]
    others = [placement for placement in record.placements if placement.name not in wanted]
    others.sort(key=lambda placement: (bool(placement.violates), not placement.on_front, placement.latency_ms))
    images = [placement for placement in others if placement.kind == "remote"][:1]
    rest = [placement for placement in others if placement not in images]
    return [*first, *images, *rest[: max(_NEWEST_PLACES - len(first) - len(images), 0)]]


def _cells(placement: PlannedPlacement, *, wide: bool) -> list[str]:
    accuracy, latency = placement.accuracy, placement.latency
    loss = accuracy.difference if accuracy else None
    cells = [
        milliseconds(placement.latency_ms),
        milliseconds(placement.latency_p95_ms),
        "" if accuracy is None else f"{100 * accuracy.accuracy:.1f}",
        "" if loss is None else f"{-100 * loss + 0.0:.1f}",
        f"{placement.wire_up_bytes:,.0f}",
        f"{placement.wire_down_bytes:,.0f}",
    ]
    if wide:
        memory, energy = placement.device_memory_bytes, placement.device_energy_mj
        cells += [
            f"{placement.payload_bytes:,.0f}",
            milliseconds(latency.preprocess + latency.head),
            milliseconds(latency.encode),
            milliseconds(latency.up),
            milliseconds(latency.queue),
            milliseconds(latency.decode + latency.tail + latency.middle),
            milliseconds(latency.down + latency.finish),
            "" if memory is None else f"{memory / 1e6:,.0f}",
            "" if energy is None else f"{energy:,.0f}",
            f"{placement.throughput.images_per_s:,.1f}",
            f"{placement.device_mac_share:.0%}",
        ]
    return cells


def _mark(placement: PlannedPlacement, record: PlanRecord) -> str:
    if placement.name == record.answer.chosen:
        return "<="
    return ("*" if placement.on_front else "") + ("!" if placement.violates else "")
