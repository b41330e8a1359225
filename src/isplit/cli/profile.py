"""isplit profile: measure the machine that it runs on, for `isplit plan`."""

from pathlib import Path
from typing import Annotated

import typer

from isplit.cli import console
from isplit.cli.options import Options
from isplit.cli.study_options import MovedOptions
from isplit.cli.tables import Column, print_table
from isplit.records import ModelPartTime, ProfileRecord, TimeFigure, check_shared_path, write_shared
from isplit.runtime.profile.settings import ProfileSettings
from isplit.workflows.profile import is_study
from isplit.workflows.profile import profile as measure

_Row = tuple[str, ModelPartTime | None, TimeFigure]
MeasurementOptions = Annotated[ProfileSettings, Options("Measurement")]


def profile(
    source: Annotated[
        Path,
        typer.Argument(metavar="BUNDLE|STUDY|PROFILE", help="A bundle, a study, or a profile to scale or rename."),
    ],
    settings: MeasurementOptions,
    inputs: MovedOptions,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The profile to write.")] = Path(
        "profile.json"
    ),
    name: Annotated[
        str | None, typer.Option(help="The profile's name. Default: the name of the file without .json.")
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="The machine's name for people. Default: the name of its processor.")
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE|DIR", help="Images to measure with. Repeatable. By default, images are drawn."),
    ] = None,
    scale: Annotated[float, typer.Option(help="A factor for all times, such as 1.3 for a slower machine.")] = 1.0,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Measure how fast this machine runs the parts of a model, and write a profile for `isplit plan`.

    A bundle is measured with onnxruntime alone; torch is not needed. Copy the bundle to the device, run this there,
    and copy the profile back. With a study, the times of all its cuts are measured, which needs torch.

    Example: isplit profile bundle -o pi4.json --title "Raspberry Pi 4"
    """
    check_shared_path(out, ProfileRecord)
    with console.progress_bars(quiet=quiet or json) as progress:
        record = measure(
            inputs.open(source) if is_study(source) else source,
            name=name or out.stem[:100] or "device",
            title=title,
            pictures=images or (),
            settings=settings,
            scale=scale,
            progress=progress,
        )
    path = write_shared(record, out)
    if json:
        typer.echo(record.to_json(), nl=False)
    elif not quiet:
        show_profile(record)
        typer.echo(f"profile: {path}")


def show_profile(record: ProfileRecord) -> None:
    """Print the times of the model's parts as a table, and in words what else was measured."""
    rows = [("whole model", None, record.whole), ("preprocessing", None, record.preprocess)]
    rows += [("request", None, record.request)]
    rows += [(f"head to {part.end}", part, part.time) for part in record.heads]
    rows += [(f"tail from {part.start}", part, part.time) for part in record.tails]
    shown = [(title, part, figure) for title, part, figure in rows if figure is not None]
    columns = [
        Column[_Row]("part", lambda row: row[0], words=True),
        Column[_Row]("budget", lambda row: (row[1].budget or "–") if row[1] else "–"),
        Column[_Row]("median ms", lambda row: f"{row[2].median_ms:.2f}"),
        Column[_Row]("p95 ms", lambda row: f"{row[2].p95_ms:.2f}"),
        Column[_Row]("MB", lambda row: _megabytes(row[1])),
    ]
    if record.correction is not None:
        typer.echo(
            f"The times of {len(record.segments)} segments between cuts give the time of every other head. On "
            f"{len(record.correction.checked_heads)} heads that were run to check it, this is off by at most "
            f"{record.correction.max_error_share:.1%}."
        )
    execution = record.execution
    how = "" if execution is None else f", {execution.threads} thread(s) on {execution.provider}, {execution.runs} runs"
    print_table(shown, columns, title=f"{record.title}: {record.source}{how}")
    for memory in record.memory:
        typer.echo(
            f"{memory.placement} takes {memory.peak_bytes / 1e6:.0f} MB at its peak "
            f"({memory.baseline_bytes / 1e6:.0f} MB before its model is loaded)."
        )
    if record.power is not None:
        how = "stated" if record.power.meter == "stated" else f"measured with {record.power.meter}"
        typer.echo(f"It draws {record.power.active_w:.1f} W, and {record.power.idle_w:.1f} W when idle ({how}).")
    for what, reason in record.not_measured.items():
        console.print_text(f"Not measured: {what}: {reason}.")


def _megabytes(part: ModelPartTime | None) -> str:
    return "" if part is None or part.weight_bytes is None else f"{part.weight_bytes / 1e6:.1f}"
