"""isplit simulate: what many devices that share a link and a server would see."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from isplit.cli import console
from isplit.cli.plan import read_transport
from isplit.errors import InputError
from isplit.plan.arrivals import read_times
from isplit.plan.controllers import ControllerName
from isplit.plan.links import read_trace
from isplit.plan.packets import LINUX_TCP, TcpSettings
from isplit.plan.recommend import milliseconds
from isplit.plan.simulation_settings import SimulationSettings
from isplit.plan.simulator import read_plan
from isplit.plan.simulator import simulate as run_simulation
from isplit.plan.units import parse_duration
from isplit.records import ScenarioResult, SimulationRecord, check_shared_path, write_shared
from isplit.records.simulation import Arrivals
from isplit.text import terminal_text

_SHORTEST_RTO_MS = 0.1
_LINK, _SERVER, _LOSS = "Link", "Server", "Accuracy under loss"


def simulate(
    plan: Annotated[
        Path, typer.Argument(metavar="STUDY|PLAN", help="A study with plan.json, or a file of `isplit plan`.")
    ],
    placement: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A placement by its name in the plan. Repeatable. Default: the answer, local, and an image.",
        ),
    ] = None,
    devices: Annotated[int, typer.Option(help="The number of devices that make requests.")] = 1,
    arrivals: Annotated[
        str, typer.Option(help="When requests come: periodic, poisson, or a file with one time in seconds a line.")
    ] = ("poisson"),
    period: Annotated[str, typer.Option(metavar="TIME", help="The mean time between two requests of a device.")] = "1s",
    duration: Annotated[str, typer.Option(metavar="TIME", help="The time during which requests are made.")] = "60s",
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="Answers that take longer count as missed.")
    ] = None,
    early_exit_share: Annotated[
        float, typer.Option(help="The share of requests that an early exit on the device answers.")
    ] = 0.0,
    link: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE|RATE,RTT", help="The link to simulate. Default: the plan's.", rich_help_panel=_LINK
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="A link that changes over time, with columns time_s,bits_per_s,rtt_ms,loss.",
            rich_help_panel=_LINK,
        ),
    ] = None,
    controller: Annotated[
        str | None,
        typer.Option(
            help="With --trace: how placements are chosen; static, oracle or adaptive.", rich_help_panel=_LINK
        ),
    ] = None,
    transport: Annotated[
        str | None,
        typer.Option(metavar="tcp|udp", help="The transport of payloads. Default: the plan's.", rich_help_panel=_LINK),
    ] = None,
    rto: Annotated[
        str | None, typer.Option(metavar="TIME", help="A fixed retransmission timeout for TCP.", rich_help_panel=_LINK)
    ] = None,
    packet_bytes: Annotated[
        int | None, typer.Option(help="The size of an IP packet. Default: the link's.", rich_help_panel=_LINK)
    ] = None,
    separate_links: Annotated[
        bool,
        typer.Option(
            "--separate-links", help="Give each device a link of its own instead of sharing one.", rich_help_panel=_LINK
        ),
    ] = False,
    engine: Annotated[
        str,
        typer.Option(help="What simulates the link: isplit or ns3 (pip install 'isplit[ns3]').", rich_help_panel=_LINK),
    ] = "isplit",
    workers: Annotated[
        int, typer.Option(help="The number of batches that the server runs at a time.", rich_help_panel=_SERVER)
    ] = 1,
    max_batch: Annotated[
        int, typer.Option(help="The largest number of requests in a batch.", rich_help_panel=_SERVER)
    ] = 8,
    batch_gain: Annotated[
        float, typer.Option(help="The share of a request's time that a batch saves.", rich_help_panel=_SERVER)
    ] = 0.0,
    queue_capacity: Annotated[
        int, typer.Option(help="The largest number of requests that wait.", rich_help_panel=_SERVER)
    ] = 64,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="With --images: measure splits whose latents lose packets.", rich_help_panel=_LOSS
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder with a subfolder of images for each class.", rich_help_panel=_LOSS),
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed; the same seed repeats the same simulation.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the record to this file.")
    ] = None,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Simulate the placements of a plan with many devices, queues, packets and losses.

    Run `isplit plan STUDY` first.

    Example: isplit simulate study --devices 50 --period 500ms --deadline 200ms
    """
    if engine not in ("isplit", "ns3"):
        msg = f"--engine is {engine!r}; choose isplit or ns3"
        raise InputError(msg)
    if (bundle is None) != (images is None):
        missing = "--bundle" if bundle is None else "--images"
        msg = f"{missing} is missing: accuracy under loss needs both --bundle and --images"
        raise InputError(msg)
    if out is not None:
        check_shared_path(out, SimulationRecord)
    kind, times = _arrivals(arrivals)
    settings = SimulationSettings(
        devices=devices,
        arrivals=kind,
        times_s=times,
        period_ms=parse_duration(period, name="--period"),
        duration_s=parse_duration(duration, name="--duration") / 1e3,
        deadline_ms=None if deadline is None else parse_duration(deadline, name="--deadline"),
        transport=None if transport is None else read_transport(transport),
        tcp=LINUX_TCP if rto is None else _fixed_timeout(parse_duration(rto, name="--rto")),
        packet_bytes=packet_bytes,
        shared_uplink=not separate_links,
        max_batch=max_batch,
        queue_capacity=queue_capacity,
        workers=workers,
        batch_gain=batch_gain,
        early_exit_share=early_exit_share,
        trace=None if trace is None else read_trace(trace),
        controller=_controller(controller),
        seed=seed,
    )
    if engine == "ns3":
        from isplit.plan.ns3_engine import simulate_with_ns3

        record = simulate_with_ns3(plan, placements=placement or (), link=link, settings=settings)
    else:
        record = run_simulation(plan, placements=placement or (), link=link, settings=settings)
    if bundle is not None and images is not None:
        from isplit.cli.lost_latents import with_loss_accuracy

        record = with_loss_accuracy(record, bundle, images, cuts=split_cuts(plan))
    if out is not None:
        write_shared(record, out)
    if json:
        typer.echo(record.to_json(), nl=False)
    elif not quiet:
        show_simulation(record)


def split_cuts(plan: Path) -> dict[str, str]:
    """Return the cut of each split of a plan by the name of its placement."""
    placements = read_plan(plan).placements
    return {entry.name: entry.cut for entry in placements if entry.kind == "split" and entry.cut is not None}


def _arrivals(text: str) -> tuple[Arrivals, tuple[float, ...]]:
    if text == "periodic":
        return "periodic", ()
    if text == "poisson":
        return "poisson", ()
    if not text or not Path(text).exists():
        msg = f"--arrivals is {text!r}; choose periodic, poisson, or a file with one time in seconds a line"
        raise InputError(msg)
    return "trace", tuple(read_times(Path(text)).tolist())


def _controller(text: str | None) -> ControllerName | None:
    names: dict[str, ControllerName] = {"static": "static", "oracle": "oracle", "adaptive": "adaptive"}
    if text is not None and text not in names:
        msg = f"--controller is {text!r}; choose static, oracle or adaptive"
        raise InputError(msg)
    return None if text is None else names[text]


def _fixed_timeout(timeout_ms: float) -> TcpSettings:
    if timeout_ms < _SHORTEST_RTO_MS:
        msg = f"--rto is {timeout_ms:g} ms; give a time of at least {_SHORTEST_RTO_MS:g} ms, for example 200ms"
        raise InputError(msg)
    return TcpSettings(rto_floor_ms=timeout_ms, rto_base_ms=timeout_ms, rto_round_trips=0.0, rack=False)


def show_simulation(record: SimulationRecord) -> None:
    """Print the results as a table of at most 80 columns, and what else there is to say in lines below it."""
    scenario = record.scenario
    estimated = ", estimated" if record.estimated else ""
    number = f"{scenario.devices:,} device{'s' if scenario.devices > 1 else ''}"
    title = f"{number} over {scenario.transport.upper()}, {scenario.duration_s:g} s{estimated}; milliseconds"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("placement", overflow="fold", max_width=20)
    for name in ("mean", "p50", "p95", "missed", "refused", "lost", "busiest"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in record.results:
        table.add_row(terminal_text(result.placement), *_cells(result))
    output = console.output()
    output.print(table, markup=False)
    for result in record.results:
        if len(result.placements) > 1:
            shares = ", ".join(f"{name} {count / result.requests:.0%}" for name, count in result.placements.items())
            console.print_text(f"{result.placement}: {shares}; {result.switches:,} switches")
        for entry in result.accuracy_under_loss:
            text = f"{result.placement}: {entry.packet_loss:.0%} of packets lost: {100 * entry.accuracy:.1f} %"
            console.print_text(f"{text} of {entry.images:,} images right")
    total = sum(result.requests for result in record.results)
    console.print_text(f"{total:,} requests in {record.seconds:.2f} s")


def _cells(result: ScenarioResult) -> list[str]:
    latency, used = result.latency, result.utilisation
    times = (latency.mean_ms, latency.p50_ms, latency.p95_ms)
    loads = {"device": used.device, "up": used.up, "server": used.server, "down": used.down}
    busiest = max(loads, key=lambda name: loads[name])
    share = max(result.requests, 1)
    return [
        *("–" if value is None else milliseconds(value) for value in times),
        f"{result.deadline_misses / share:.1%}",
        f"{result.dropped / share:.1%}",
        f"{result.lost / share:.1%}",
        f"{busiest} {loads[busiest]:.0%}",
    ]
