"""isplit data: how a data set is taken for a model, before any long work."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image
from rich import box
from rich.table import Table
from rich.text import Text

from isplit.cli import console
from isplit.cli.study_options import (
    ClassMapOption,
    DataArgument,
    DataOptions,
    ModelArgument,
    ModelOptions,
    SeedOption,
)
from isplit.errors import InputError, needs_extra
from isplit.records import ClassRow, DataCheckRecord, SampleImage
from isplit.text import terminal_text

_SHOWN_CLASSES = 20
_SAMPLE_COLUMNS = 24
_SAMPLES_IN_A_ROW = 3


def data(
    model: ModelArgument,
    data: DataArgument,
    model_choice: ModelOptions,
    data_choice: DataOptions,
    class_map: ClassMapOption = None,
    seed: SeedOption = 0,
    page: Annotated[
        Path | None, typer.Option("--page", "-o", metavar="FILE.html", help="Write the same to an HTML page.")
    ] = None,
    json: console.JsonOption = False,
) -> None:
    """Show how DATA is taken for MODEL: parts, classes beside the model's outputs, and nine images.

    The images are shown as the model sees them. Check the labels here before a long analysis.

    Example: isplit data torchvision:resnet50 photos.zip
    """
    with needs_extra("design"):
        from isplit import api

    dataset = data_choice.open(data, seed=seed)
    loaded = model_choice.load(model)
    check = api.check_data(loaded, dataset, class_map=class_map, seed=seed)
    if page is not None:
        from isplit.report.data_page import data_html

        try:
            page.write_text(data_html(check), encoding="utf-8")
        except OSError as error:
            msg = f"cannot write {page}: {error.strerror or error}"
            raise InputError(msg) from error
    if json:
        typer.echo(check.to_json(), nl=False)
        return
    _show(check)
    if page is not None:
        typer.echo(f"page: {page}")


def _show(check: DataCheckRecord) -> None:
    for notice in check.notices:
        console.say(f"warning: {console.record_text(notice)}", quiet=False)
    parts = ", ".join(f"{part} {count:,}" for part, count in check.part_images.items())
    typer.echo(f"images: {parts} ({check.part_rule})")
    typer.echo(f"{len(check.classes)} classes and {check.num_outputs} outputs, matched {check.match_rule}")
    output = console.output()
    output.print(_class_table(check.classes), markup=False)
    if len(check.classes) > _SHOWN_CLASSES:
        typer.echo(f"({len(check.classes) - _SHOWN_CLASSES} more classes: see --page or --json)")
    height, width = check.preprocessing.image_size
    typer.echo(f"{len(check.samples)} images as the model sees them, {width} × {height}:")
    if output.is_terminal:
        output.print(_sample_grid(check.samples))
    for sample in check.samples:
        answer = sample.answer or "none of these classes"
        typer.echo(
            f"  {terminal_text(sample.title)}: the model says {terminal_text(answer)} ({terminal_text(sample.name)})"
        )


def _class_table(rows: Sequence[ClassRow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    parts = list(rows[0].part_images)
    for name in ("class", "output", "the model calls it", *parts):
        table.add_column(name, justify="left" if name.startswith(("class", "the")) else "right", overflow="fold")
    for row in rows[:_SHOWN_CLASSES]:
        name = row.name if row.title == row.name else f"{row.name} ({row.title})"
        counts = [str(row.part_images[part]) for part in parts]  # type: ignore[index] - the keys are the record's own
        table.add_row(terminal_text(name), str(row.output), terminal_text(row.output_name or ""), *counts)
    return table


def _sample_grid(samples: Sequence[SampleImage]) -> Table:
    """Draw the images with half blocks, two pixels in each character."""
    grid = Table.grid(padding=(0, 1))
    pictures = [_half_blocks(sample) for sample in samples]
    for start in range(0, len(pictures), _SAMPLES_IN_A_ROW):
        grid.add_row(*pictures[start : start + _SAMPLES_IN_A_ROW])
    return grid


def _half_blocks(sample: SampleImage) -> Text:
    image = Image.open(io.BytesIO(base64.b64decode(sample.png_base64))).convert("RGB")
    rows = max(1, round(image.height * _SAMPLE_COLUMNS / image.width / 2))
    small = image.resize((_SAMPLE_COLUMNS, 2 * rows))
    text = Text()
    for row in range(rows):
        for column in range(_SAMPLE_COLUMNS):
            upper, lower = (
                "#{:02x}{:02x}{:02x}".format(*small.getpixel((column, 2 * row + half)))  # type: ignore[misc] - RGB
                for half in (0, 1)
            )
            text.append("▀", style=f"{upper} on {lower}")
        text.append("\n")
    text.append(terminal_text(sample.title)[:_SAMPLE_COLUMNS])
    return text
