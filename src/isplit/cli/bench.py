"""isplit bench: measure every placement of a bundle on labelled images, beside the plan."""

from pathlib import Path
from typing import Annotated

import typer

from isplit.cli import console
from isplit.cli.options import Options
from isplit.cli.server_access import AccessChoice
from isplit.cli.tables import Column, print_table
from isplit.cli.wording import percent_with_interval
from isplit.errors import InputError
from isplit.records import (
    BundleRecord,
    PlacementRun,
    PlanRecord,
    ProfileRecord,
    RunsRecord,
    check_shared_path,
    read_shared,
    write_shared,
)
from isplit.report import check_report, write_report
from isplit.runtime.bundle import Bundle
from isplit.runtime.edge.security import check_address
from isplit.workflows.bench import BenchSettings, ServerAccess
from isplit.workflows.bench import bench as measure
from isplit.workflows.correct import check_profile, corrected_profile

_SERVER = "Server and link"


def bench(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The directory that `isplit export` wrote.")],
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder with a subfolder of images for each class.")
    ],
    settings: Annotated[BenchSettings, Options("Measurement")],
    *,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The address of `isplit serve`. By default, a server is started on this machine.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    link: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE|RATE,RTT",
            help="Make the network as slow as this: 1Mbit/s,50ms, a preset, or a file of `isplit probe`.",
            rich_help_panel=_SERVER,
        ),
    ] = None,
    access: Annotated[AccessChoice, Options(_SERVER)],
    placement: Annotated[
        list[str] | None, typer.Option(help="A placement to measure: a cut, remote or local. Repeatable. Default: all.")
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(metavar="STUDY", help="Compare with the plan of this study, and add the result to its report."),
    ] = None,
    plan: Annotated[Path | None, typer.Option(metavar="FILE", help="Compare with the plan in this file.")] = None,
    profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Replace the times in this profile of the device by the measured ones."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The record to write. Default: runs.json, in STUDY if one is given."
        ),
    ] = None,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Measure every placement of BUNDLE on labelled images: accuracy, latency, bytes, processor and memory.

    Each placement is run from a process of its own. With --link and without --server, both sides run on this machine,
    joined by a link of that rate and delay; the result says how the link was made.

    Example: isplit bench bundle photos/test --link 1Mbit/s,50ms --study study
    """
    if study is not None and plan is None and (study / PlanRecord.file_name).is_file():
        plan = study / PlanRecord.file_name
    before = None if profile is None else read_shared(ProfileRecord, profile, command="isplit profile")
    if study is not None and not study.is_dir():
        msg = f"--study is {study}, which is no directory: give what `isplit analyze` wrote"
        raise InputError(msg)
    if before is not None:
        check_profile(before, Bundle.open(bundle).record)  # before the measurement, which takes minutes
    record_file = out or (study or Path()) / RunsRecord.file_name
    check_shared_path(record_file, RunsRecord)
    redrawn = study if study is not None and out is None and (study / "report.html").exists() else None
    if redrawn is not None:
        check_report(redrawn, replaced=RunsRecord)
    running = None
    if server is not None:
        check_address(server)
        running = ServerAccess(
            address=server, token=access.read_token(), tls=access.tls_files(), insecure=access.insecure
        )
    with console.progress_bars(quiet=quiet or json) as progress:
        record = measure(
            bundle,
            folder,
            server=running,
            link=link,
            placements=placement or (),
            plan=plan,
            settings=settings,
            progress=progress,
        )
    path = write_shared(record, record_file)
    if redrawn is not None:
        write_report(redrawn)
    if before is not None and profile is not None:
        write_shared(corrected_profile(before, record, BundleRecord.load(bundle)), profile)
    if json:
        typer.echo(record.to_json(), nl=False)
    elif not quiet:
        show_runs(record)
        typer.echo(f"record: {path}")
        if profile is not None:
            typer.echo(f"corrected: {profile}")


def show_runs(record: RunsRecord) -> None:
    """Print every placement's figures, and predicted beside measured milliseconds."""
    columns = [
        Column[PlacementRun]("placement", lambda run: run.placement, words=True),
        Column[PlacementRun]("accuracy\n(95 %)", _accuracy),
        Column[PlacementRun]("bytes\nup", lambda run: _number(run.wire_up_bytes)),
        Column[PlacementRun]("bytes\ndown", lambda run: _number(run.wire_down_bytes)),
        Column[PlacementRun]("planned\nms", lambda run: "–" if run.predicted_ms is None else f"{run.predicted_ms:.1f}"),
        Column[PlacementRun]("measured\nms", lambda run: f"{run.from_picture_median_ms or run.total_median_ms:.1f}"),
        Column[PlacementRun]("p95\nms", lambda run: f"{run.from_picture_p95_ms or run.total_p95_ms:.1f}"),
        Column[PlacementRun]("CPU\nms", lambda run: f"{run.device_cpu_ms or 0.0:.1f}"),
        Column[PlacementRun]("MB", lambda run: f"{(run.device_peak_bytes or 0) / 1e6:.0f}"),
    ]
    print_table(record.runs, columns, title=f"{record.runs[0].images} images, {record.link}")
    for run in record.runs:
        if run.predicted_ms is not None and run.from_picture_median_ms:
            error = run.predicted_ms / run.from_picture_median_ms - 1
            text = (
                f"{run.placement}: predicted {run.predicted_ms:.1f} ms, measured {run.from_picture_median_ms:.1f} ms "
                f"({error:+.0%})."
            )
            console.print_text(text)
        failed = run.sources.get("failed", 0)
        if failed:
            text = f"{run.placement}: {failed} of {run.images} images were not answered."
            console.print_text(text)


def _accuracy(run: PlacementRun) -> str:
    return "–" if run.accuracy is None else percent_with_interval(run.accuracy)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
