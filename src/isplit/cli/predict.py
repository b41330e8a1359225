"""isplit predict: how accurate each split will be, before anything is trained."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from isplit.cli import console
from isplit.errors import InputError, needs_extra
from isplit.plan import verdict
from isplit.records import Accuracy, Budget, Paired, Prediction, PredictionsRecord, RemoteImage
from isplit.report import placements


def predict(
    study: console.StudyArgument,
    bytes: Annotated[
        list[int] | None,
        typer.Option("--bytes", metavar="N", help="Mean payload per image, header included. Repeatable."),
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option("--ratio", metavar="R", help="One in R of the tensor's elements, 8 bits each. Repeatable."),
    ] = None,
    cuts: Annotated[str | None, typer.Option("--cuts", metavar="A,B", help="Only these cuts.")] = None,
    cut: Annotated[list[str] | None, typer.Option("--cut", metavar="C", help="Only this cut. Repeatable.")] = None,
    group: Annotated[
        str | None, typer.Option(help="A class subset of the study. Default: the study's classes.")
    ] = None,
    images: Annotated[str, typer.Option(metavar="N|all", help="Images of the select part to measure on.")] = "500",
    statistics_images: Annotated[int, typer.Option(help="Images of the fit part for the closed form.")] = 640,
    remote_images: Annotated[
        str, typer.Option(metavar="N|all", help="Images for JPEG and WebP; 0 leaves them out.")
    ] = "200",
    design: Annotated[str, typer.Option(help="linear (weighted by importance), or pca for comparison.")] = "linear",
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16; bottlenecks compute in float32.")] = "auto",
    weights: Annotated[str | None, typer.Option(help="Where the weights are now, if they have moved.")] = None,
    data: Annotated[str | None, typer.Option(help="Where the data are now, if they have moved.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Where torchvision's data sets are.")] = None,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Measure every cut of STUDY before any training: accuracy and bytes.

    Each cut gets a bottleneck in closed form for every budget; without --bytes and --ratio the budgets are 128, 512 and
    2048 bytes. Compressed images and the whole model are measured beside them.
    """
    with needs_extra("design"):
        from isplit import api

    budgets = [Budget(payload_bytes=count) for count in bytes or ()]
    budgets += [Budget(element_ratio=one) for one in ratio or ()]
    if design not in ("linear", "pca"):
        msg = f"--design is {design!r}; choose linear or pca"
        raise InputError(msg)
    settings = api.PredictSettings(
        statistics_images=statistics_images,
        images=console.parse_count(images, "--images"),
        remote_images=console.parse_count(remote_images, "--remote-images"),
        weighted=design == "linear",
        precision=precision,  # type: ignore[arg-type] - the settings check it
    )
    opened = api.open_study(study, weights=weights, data=data, data_root=data_root)
    names = [*(name.strip() for name in (cuts or "").split(",") if name.strip()), *(cut or ())]
    with console.progress_bars(quiet=quiet or json) as progress:
        record = api.predict(
            opened,
            budgets or api.DEFAULT_BUDGETS,
            cuts=names,
            group=group,
            settings=settings,
            progress=progress,
        )
    if json:
        typer.echo(record.to_json(), nl=False)
        return
    if quiet:
        return
    tags = {budget.tag for budget in budgets or api.DEFAULT_BUDGETS}
    chosen = {one.name for one in opened.cuts(tuple(names))}
    classes = opened.view(group).name
    shown = [
        one
        for one in record.predictions
        if one.group == classes and one.budget.tag in tags and one.cut in chosen and one.design == design
    ]
    show_predictions(record, shown, group=classes)
    typer.echo(f"report: {study / 'report.html'}")


def show_predictions(record: PredictionsRecord, shown: list[Prediction], *, group: str) -> None:
    """Print splits, the whole model and compressed images as one table, and whether splitting is worth it."""
    calibrated = record.calibration is not None
    images = placements.efficient([one for one in record.remote if one.group == group])
    table = _table(f"Before any training, on {record.images:,} images of the select part", calibrated=calibrated)
    rows = sorted(placements.split_rows(shown), key=lambda row: row.prediction.budget.order)
    for number, row in enumerate(rows):
        last = number + 1 == len(rows) or rows[number + 1].prediction.budget != row.prediction.budget
        table.add_row(*_split_cells(row, calibrated=calibrated), end_section=last)
    if shown:
        table.add_row("local: all on the device", "", "100%", "0", "0", _share(shown[0].measurement.whole), "0.0")
    for one in images:
        table.add_row(*_image_cells(one))
    output = console.output()
    output.print(table, markup=False)
    if images:
        tried = sum(one.group == group for one in record.remote)
        output.print(
            f"remote: of {tried} image settings the {len(images)} that no other beats, on "
            f"{images[0].payload_bytes.images:,} images",
            markup=False,
        )
    if calibrated:
        text = f"after training: fitted to {record.calibration}; a dash where none of them lost as much before"
        output.print(text, markup=False)
    else:
        output.print("accuracy after training: not calibrated; training mostly adds to this", markup=False)
    for text in verdict.verdict_texts(record, group=group):
        output.print(text, markup=False)


def _table(title: str, *, calibrated: bool) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    columns = ["split right after", "budget", "device MACs", "bytes", "p95", "accuracy (95 %)", "against whole"]
    columns += ["after training"] if calibrated else []
    for name in (*columns, "rank", "by CUI", "by size"):
        table.add_column(name, justify="left" if name == "split right after" else "right", no_wrap=True)
    return table


def _split_cells(row: placements.SplitRow, *, calibrated: bool) -> list[str]:
    one, measured = row.prediction, row.prediction.measurement
    after = []
    if calibrated:
        known, spread = one.predicted_accuracy, one.predicted_stderr
        after = ["–" if known is None else f"{known:.1%}" + (f" ± {100 * spread:.1f}" if spread is not None else "")]
    return [
        one.cut,
        f"{one.budget.payload_bytes:,}" if one.budget.payload_bytes is not None else one.budget.tag,
        f"{measured.head_mac_share:.0%}",
        f"{measured.payload_bytes.mean:,.0f}",
        f"{measured.payload_bytes.p95:,.0f}",
        _share(measured.accuracy),
        _points(measured.against_whole),
        *after,
        str(row.accuracy_rank),
        "–" if row.cui_rank is None else str(row.cui_rank),
        str(row.size_rank),
    ]


def _image_cells(one: RemoteImage) -> list[str]:
    payload = one.payload_bytes
    name = f"remote: {verdict.image_setting(one)}"
    return [
        name,
        "",
        "0%",
        f"{payload.mean:,.0f}",
        f"{payload.p95:,.0f}",
        _share(one.accuracy),
        _points(one.against_whole),
    ]


def _share(found: Accuracy) -> str:
    return f"{found.accuracy:.1%} ({100 * found.low:.1f}–{100 * found.high:.1f})"


def _points(against: Paired) -> str:
    return f"{100 * against.difference:+.1f} ± {100 * against.stderr:.1f}".replace("-", "−")
