"""isplit export: from a study's splits to a bundle that a device and a server run."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import typer

from isplit.cli import console
from isplit.cli.fit import show_trained_verdict
from isplit.cli.options import Options
from isplit.cli.study_options import BudgetOptions, CutChoice, CutOptions, GroupOption, MovedInputs, MovedOptions
from isplit.cli.tables import Column, print_table
from isplit.cli.wording import percent_with_interval, points_with_error
from isplit.design.export_settings import ExportSettings
from isplit.errors import InputError, needs_extra
from isplit.records import (
    Accuracy,
    BundleRecord,
    Design,
    ExportCheck,
    ImageSetting,
    Int8Cost,
    Paired,
    PartName,
    SplitRecord,
    TrainedOpponent,
    WireBytes,
    WireOverhead,
    wire_overhead,
)
from isplit.records.split_files import split_records


def export(
    study: console.StudyArgument,
    cut_choice: CutOptions,
    budget_choice: BudgetOptions,
    settings: Annotated[ExportSettings, Options("Bundle")],
    inputs: MovedOptions,
    design: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE:CLASS",
            help=f"Take the split of this design: {', '.join(get_args(Design))}, or your own class, whose code is run.",
            rich_help_panel="Cuts and budget",
        ),
    ] = None,
    closed_form: Annotated[
        bool,
        typer.Option(
            "--closed-form",
            help="Take the closed form even where there is a trained split.",
            rich_help_panel="Cuts and budget",
        ),
    ] = False,
    segments: Annotated[
        bool,
        typer.Option(
            "--segments",
            help="Write the whole model in the segments of `isplit plan STUDY --max-device-memory SIZE`, which a small "
            "device runs one after the other (`isplit run --placement segmented`).",
        ),
    ] = False,
    group: GroupOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="BUNDLE", help="The directory to write.")] = Path(
        "bundle"
    ),
    wide: console.WideOption = False,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Write splits of STUDY and the whole model as a bundle that runs without torch.

    Of each cut the trained split is taken if there is one, else the closed form. Every file is run beside torch first;
    where their answers differ, nothing is written.

    Several cuts share their weights in one file, so that a bundle of all cuts is not much larger than one of a single
    cut: `isplit run --placement C` and `isplit profile` then choose among them.

    Example: isplit export study --cut layer2.3 --bytes 512 -o bundle
    """
    if segments:
        _export_segments(study, out, cut_choice, inputs, settings=settings, group=group, json=json, quiet=quiet)
        return
    cut_choice.require()
    cut_choice, budget_choice = cut_choice.planned(study, budget_choice)
    with needs_extra("design"):
        from isplit import api

    split_filter = api.SplitFilter(budget=budget_choice.read(), design=_design(design), closed_form=closed_form)
    opened = inputs.open(study)
    names = cut_choice.names(opened, group=group)
    with console.progress_bars(quiet=quiet or json) as progress:
        record = api.export(
            opened, names, out=out, group=group, split_filter=split_filter, settings=settings, progress=progress
        )
    if json:
        typer.echo(record.to_json(), nl=False)
    elif not quiet:
        show_bundle(record, wide=wide)
        show_trained_verdict(study, _trained_splits(study, record), group=opened.view(group).name)
        typer.echo(f"Bundle: {out}")
        typer.echo(f"Next, answer devices with it: isplit serve {out}")


def _export_segments(
    study: Path,
    out: Path,
    cut_choice: CutChoice,
    inputs: MovedInputs,
    *,
    settings: ExportSettings,
    group: str | None,
    json: bool,
    quiet: bool,
) -> None:
    """Write and show a bundle of segments."""
    if cut_choice.words:
        msg = f"--segments and --cut {', '.join(cut_choice.words)} are two kinds of bundle: give one of them"
        raise InputError(msg)
    with needs_extra("design"):
        from isplit.design.export_segments import export_segments, planned_segments

    planned_segments(study)  # before the model is loaded
    with console.progress_bars(quiet=quiet or json) as progress:
        record = export_segments(inputs.open(study), out, group=group, settings=settings, progress=progress)
    segmented = record.segmented
    assert segmented is not None
    if json:
        typer.echo(record.to_json(), nl=False)
    elif not quiet:
        size = sum(file.bytes for file in record.files.values())
        typer.echo(f"{record.name}: {len(segmented.segments)} segments, {size / 2**20:.1f} MiB")
        typer.echo(f"Divided after: {', '.join(segmented.bounds) or 'nothing, because the whole model fits'}")
        if segmented.divided:
            layers = ", ".join(f"{layer.name} in {layer.count} blocks" for layer in segmented.divided)
            typer.echo(f"Layers that run in blocks of output channels: {layers}")
        planned_mb = (segmented.planned_peak_bytes or 0) / 1e6
        typer.echo(
            f"Between them cross {segmented.crossing_bytes:,} bytes of an image; the process is planned to take "
            f"{planned_mb:,.0f} MB."
        )
        typer.echo(f"Bundle: {out}")
        typer.echo(f"Next, on the device: isplit run {out} IMAGES --placement segmented")


def _trained_splits(study: Path, record: BundleRecord) -> list[SplitRecord]:
    """Return the records of the trained splits that are in a bundle as they were measured: not with an int8 head."""
    wanted = {cut.name: cut for cut in record.cuts if not cut.int8}
    return [
        split
        for split in split_records(study).values()
        if split.training is not None
        and split.cut in wanted
        and (split.group, split.budget) == (record.group.name, wanted[split.cut].budget)
        and split.measurement.accuracy == wanted[split.cut].accuracy
    ]


def _design(text: str | None) -> str | None:
    if text is not None and ":" not in text and text not in get_args(Design):
        msg = f"--design is {text!r}; choose one of {', '.join(get_args(Design))}, or name your own as ./file.py:Name"
        raise InputError(msg)
    return text


@dataclass(frozen=True)
class _Placement:
    """What a row of the table shows."""

    name: str
    accuracy: Accuracy | None
    part: PartName | None
    against_whole: Paired | None
    payload_bytes: float
    wire_bytes: WireBytes
    head_mac_share: float
    check: ExportCheck | None
    has_latents: bool = False


def show_bundle(record: BundleRecord, *, wide: bool = False) -> None:
    """Print a bundle's placements, one table for each set of images that accuracies were measured on."""
    size = sum(file.bytes for file in record.files.values())
    typer.echo(f"{record.name}: {len(record.group.classes)} classes, {size / 2**20:.1f} MiB")
    tables: dict[str, list[_Placement]] = defaultdict(list)
    for placement in _placements(record):
        tables[_images(placement)].append(placement)
    columns = [
        Column[_Placement]("placement", lambda placement: placement.name, words=True),
        Column[_Placement](
            "accuracy (95 %)",
            lambda placement: "–" if placement.accuracy is None else percent_with_interval(placement.accuracy),
        ),
        Column[_Placement](
            "against whole",
            lambda placement: "–" if placement.against_whole is None else points_with_error(placement.against_whole),
            wide=True,
        ),
        Column[_Placement]("bytes", lambda placement: f"{placement.payload_bytes:,.0f}"),
        Column[_Placement]("wire\nup", lambda placement: f"{placement.wire_bytes.up:,.0f}"),
        Column[_Placement]("wire\ndown", lambda placement: f"{placement.wire_bytes.down:,.0f}"),
        Column[_Placement]("device\nMACs", lambda placement: f"{placement.head_mac_share:.0%}"),
        Column[_Placement]("largest logit\ndifference", lambda placement: _logits(placement.check), wide=True),
        Column[_Placement]("symbols\nthat differ", _symbols, wide=True),
    ]
    for title, placements in tables.items():
        print_table(placements, columns, title=title, wide=wide)
    if _only_in_study(record):
        typer.echo(
            "Networks trained on compressed images stay in the study; `--remote-network SETTING` exports one of them."
        )
    for cut in record.cuts:
        if cut.int8_cost:
            console.output().print(_int8(cut.name, cut.int8_cost), markup=False, highlight=False)
    if record.check and record.check.classes_answered == 1:
        typer.echo(
            "warning: the model gives every image the same answer, so it says little that the files do too", err=True
        )


def _images(placement: _Placement) -> str:
    """Say which images an accuracy is of; placements with the same ones stand in a table."""
    if placement.accuracy is None:
        return "Accuracy not measured"
    part = "" if placement.part is None else f" of the {placement.part} part"
    return f"Accuracy on {placement.accuracy.images:,} images{part}"


def _placements(record: BundleRecord) -> Sequence[_Placement]:
    placements: list[_Placement] = []
    overhead = wire_overhead(len(record.group.classes))
    if record.local:
        whole = record.local
        nothing = WireBytes(up=0, down=0)
        placements.append(_Placement("local", whole.accuracy, whole.part, None, 0, nothing, 1, record.check))
    for cut in record.cuts:
        name = f"{cut.name} (int8)" if cut.int8 else cut.name
        placements.append(
            _Placement(
                name,
                cut.accuracy,
                cut.part,
                cut.against_whole,
                cut.payload_bytes_mean,
                overhead.of_split(cut.payload_bytes_mean),
                cut.head_mac_share,
                cut.check,
                has_latents=True,
            )
        )
    if record.remote:
        remote = record.remote
        check = remote.check or record.check
        placements.append(_of_image(remote.recommended, overhead, check=check, trained=remote.trained))
    placements.extend(_of_image(opponent, overhead, trained=True) for opponent in _only_in_study(record))
    return placements


def _only_in_study(record: BundleRecord) -> list[TrainedOpponent]:
    """Return the networks trained on compressed images that are described in a bundle and not part of it."""
    served = record.remote.recommended if record.remote and record.remote.trained else None
    return [
        opponent
        for opponent in record.opponents
        if served is None or ImageSetting(**opponent.model_dump(include=set(ImageSetting.model_fields))) != served
    ]


def _of_image(
    setting: ImageSetting, overhead: WireOverhead, *, check: ExportCheck | None = None, trained: bool = False
) -> _Placement:
    scale = "" if setting.scale == 1 else f", side × {setting.scale:g}"
    name = f"remote ({setting.format} {setting.quality or 'lossless'}{scale})"
    return _Placement(
        f"{name}, trained on such images" if trained else name,
        setting.accuracy,
        setting.part,
        setting.against_whole,
        setting.payload_bytes_mean,
        overhead.of_image(setting.payload_bytes_mean),
        0,
        check,
    )


def _logits(check: ExportCheck | None) -> str:
    return "–" if check is None else f"{check.logits_difference_max:.1e}"


def _symbols(placement: _Placement) -> str:
    if placement.check is None or not placement.has_latents:
        return "–"
    return f"{placement.check.latents_different_share:.3%}"


def _int8(cut: str, cost: Int8Cost) -> str:
    before, after = cost.float32_accuracy, cost.accuracy
    return (
        f"The int8 head of {cut} is right on {percent_with_interval(after)} of {after.images:,} images instead of "
        f"{before.accuracy:.1%} (difference {cost.against_float32.difference:+.1%}, standard error "
        f"{cost.against_float32.stderr:.1%}); {cost.agreement:.1%} of the answers are the same. It sends "
        f"{cost.payload_bytes_mean:,.0f} bytes instead of {cost.float32_payload_bytes_mean:,.0f}, and its weights take "
        f"{cost.head_bytes / 2**20:.1f} MiB instead of {cost.float32_head_bytes / 2**20:.1f} MiB."
    )
