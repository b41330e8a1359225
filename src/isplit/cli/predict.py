"""isplit predict: how accurate each split will be, before anything is trained."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from isplit.cli import console
from isplit.cli.options import Options
from isplit.cli.study_options import CutOptions, GroupOption, MovedOptions, given_budgets
from isplit.cli.tables import Column, print_table
from isplit.cli.wording import count_with_unit, percent_with_interval, points_with_error
from isplit.design.budgets import DEFAULT_BUDGETS
from isplit.design.settings import PredictSettings
from isplit.errors import InputError, needs_extra
from isplit.plan import verdict
from isplit.records import (
    Accuracy,
    Budget,
    Prediction,
    PredictionsRecord,
    RemoteImage,
)
from isplit.report import placements
from isplit.report.placements import SplitRow

_BUDGET_PANEL = "Cuts and budget"


def predict(
    study: console.StudyArgument,
    cut_choice: CutOptions,
    settings: Annotated[PredictSettings, Options("Measurement", without=("weighted",))],
    inputs: MovedOptions,
    bytes: Annotated[
        list[int] | None,
        typer.Option(
            "--bytes",
            metavar="N",
            help="Mean payload of an image in bytes, header included. Repeatable.",
            rich_help_panel=_BUDGET_PANEL,
        ),
    ] = None,
    ratio: Annotated[
        list[float] | None,
        typer.Option(
            "--ratio",
            metavar="R",
            help="Send one in R of the tensor's elements, with 8 bits each. Repeatable.",
            rich_help_panel=_BUDGET_PANEL,
        ),
    ] = None,
    design: Annotated[
        str,
        typer.Option(
            metavar="linear|pca",
            help="The bottleneck: linear is weighted by importance, and pca serves for comparison.",
        ),
    ] = "linear",
    settle: Annotated[
        bool,
        typer.Option(
            "--settle",
            help="Measure on more images until it is settled which splits stay within 1 and 3 points of the whole.",
        ),
    ] = False,
    group: GroupOption = None,
    wide: console.WideOption = False,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Measure every cut of STUDY before any training: accuracy and bytes.

    Each cut gets a bottleneck in closed form for every budget; without --bytes and --ratio the budgets are 128, 512 and
    2048 bytes. Compressed images and the whole model are measured beside them.

    Example: isplit predict study --bytes 256 --bytes 1024
    """
    with needs_extra("design"):
        from isplit import api

    budgets = given_budgets(bytes or (), ratio or ())
    if design not in ("linear", "pca"):
        msg = f"--design is {design!r}; choose linear or pca"
        raise InputError(msg)
    settings = replace(settings, weighted=design == "linear")
    console.say_device(settings.device, quiet=quiet or json)
    opened = inputs.open(study)
    names = cut_choice.names(opened, group=group)
    with console.progress_bars(quiet=quiet or json) as progress:
        record = api.predict(
            opened,
            budgets or DEFAULT_BUDGETS,
            cuts=names,
            group=group,
            settings=settings,
            settle=settle,
            progress=progress,
            announce=None if quiet or json else progress.say,
        )
    if json:
        typer.echo(record.to_json(), nl=False)
    elif not quiet:
        tags = {budget.tag for budget in budgets or DEFAULT_BUDGETS}
        chosen = {cut.name for cut in opened.cuts(names)}
        classes = opened.view(group).name
        shown = [
            prediction
            for prediction in record.predictions
            if (prediction.group, prediction.design) == (classes, design)
            and prediction.budget.tag in tags
            and prediction.cut in chosen
        ]
        show_predictions(record, shown, group=classes, wide=wide)
        typer.echo(f"Report: {study / 'report.html'}")
        typer.echo(f"Next, find out where it should run: isplit plan {study} --device pi4 --link 4g")


def show_predictions(
    record: PredictionsRecord, predictions: Sequence[Prediction], *, group: str, wide: bool = False
) -> None:
    """Print splits and the whole model, then compressed images, and whether splitting is worth it."""
    _show_splits(record, predictions, wide=wide)
    _show_images(record, group=group, wide=wide)
    for text in record.warnings:
        typer.echo(f"warning: {console.record_text(text)}", err=True)
    for text in verdict.verdict_texts(record, group=group):
        console.output().print(text, markup=False, highlight=False)


def _show_splits(record: PredictionsRecord, predictions: Sequence[Prediction], *, wide: bool) -> None:
    calibrated = record.calibration is not None
    columns = [
        Column[SplitRow]("split right after", lambda row: row.prediction.cut, words=True),
        Column[SplitRow]("budget", lambda row: _budget(row.prediction.budget)),
        Column[SplitRow]("bytes", lambda row: f"{row.prediction.measurement.payload_bytes.mean:,.0f}"),
        Column[SplitRow]("wire\nup", lambda row: f"{row.prediction.measurement.wire_bytes.up:,.0f}"),
        Column[SplitRow]("p95", lambda row: f"{row.prediction.measurement.payload_bytes.p95:,.0f}", wide=True),
        Column[SplitRow]("device\nMACs", lambda row: f"{row.prediction.measurement.head_mac_share:.0%}"),
        Column[SplitRow](
            "encoder\nMACs", lambda row: count_with_unit(row.prediction.measurement.encoder_macs), wide=True
        ),
        Column[SplitRow](
            "encoder\nparams", lambda row: count_with_unit(row.prediction.measurement.encoder_parameters), wide=True
        ),
        Column[SplitRow]("encoder\nKiB", lambda row: f"{_encoder_kib(row.prediction):,.0f}", wide=True),
        Column[SplitRow]("accuracy (95 %)", lambda row: percent_with_interval(row.prediction.measurement.accuracy)),
        Column[SplitRow](
            "against whole", lambda row: points_with_error(row.prediction.measurement.against_whole), wide=calibrated
        ),
        *([Column[SplitRow]("after\ntraining", lambda row: _after_training(row.prediction))] if calibrated else []),
        Column[SplitRow]("rank", lambda row: str(row.accuracy_rank), wide=True),
        Column[SplitRow]("by CUI", lambda row: "–" if row.cui_rank is None else str(row.cui_rank), wide=True),
        Column[SplitRow]("by size", lambda row: str(row.size_rank), wide=True),
    ]
    rows = sorted(placements.split_rows(predictions), key=lambda row: row.prediction.budget.order)
    print_table(
        rows,
        columns,
        title=f"Before any training, on {record.images:,} images of the select part",
        wide=wide,
        section=lambda row: row.prediction.budget,
    )
    if predictions:
        whole: Accuracy = predictions[0].measurement.whole
        typer.echo(f"The whole model on these images: {percent_with_interval(whole)}.")
        back = f"{predictions[0].measurement.wire_bytes.down:,.0f} come back"
        typer.echo(f"Bytes are of payloads; the protocol adds to them up the wire, and {back}.")
    if calibrated:
        text = (
            f"After training: estimated from {record.calibration}, with the interval of 90 % of such splits; never "
            "above the whole model, though its interval may be; –: outside the calibrated range.\n"
        )
    else:
        text = "Accuracy after training is not estimated; training mostly adds to these figures.\n"
    console.output().print(text, markup=False, highlight=False)


def _show_images(record: PredictionsRecord, *, group: str, wide: bool) -> None:
    settings = [image for image in record.remote if image.group == group]
    if not settings:
        return
    skipped = [image for image in record.remote_skipped if image.group == group]
    efficient = placements.efficient(settings)
    overhead = record.wire_overhead(group)
    columns = [
        Column[RemoteImage]("remote: compressed image", verdict.image_setting, words=True),
        Column[RemoteImage]("bytes", lambda image: f"{image.payload_bytes.mean:,.0f}"),
        Column[RemoteImage](
            "wire\nup", lambda image: f"{overhead.of_image(image.payload_bytes.mean).up:,.0f}", wide=True
        ),
        Column[RemoteImage]("p95", lambda image: f"{image.payload_bytes.p95:,.0f}", wide=True),
        Column[RemoteImage]("accuracy (95 %)", lambda image: percent_with_interval(image.accuracy)),
        Column[RemoteImage]("against whole", lambda image: points_with_error(image.against_whole)),
    ]
    verb = "is" if len(efficient) == 1 else "are"
    title = (
        f"{len(efficient)} of {len(settings) + len(skipped)} JPEG/WebP settings {verb} Pareto-optimal "
        f"({efficient[0].payload_bytes.images:,} images of the select part)"
    )
    print_table(efficient, columns, title=title, wide=wide)
    if skipped:
        typer.echo(f"{len(skipped)} settings that cannot need the fewest bytes were not measured on all images.")


def _encoder_kib(prediction: Prediction) -> float:
    """Return the memory that the encoder's parameters take on the device, as float32."""
    return 4 * prediction.measurement.encoder_parameters / 2**10


def _budget(budget: Budget) -> str:
    return budget.tag if budget.payload_bytes is None else f"{budget.payload_bytes:,}"


def _after_training(prediction: Prediction) -> str:
    if prediction.predicted_accuracy is None:
        return "–"
    low, high = prediction.predicted_low, prediction.predicted_high
    interval = "" if low is None or high is None else f" ({100 * low:.0f}–{100 * high:.0f})"
    return f"{prediction.predicted_accuracy:.1%}{interval}"
