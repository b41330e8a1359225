"""isplit fit: train splits of a study, and say what it brought."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from isplit.cli import console
from isplit.cli.options import Options
from isplit.cli.study_options import BudgetChoice, BudgetOptions, CutOptions, GroupOption, MovedOptions, RayOptions
from isplit.cli.wording import percent_with_interval, points_with_error
from isplit.design.settings import FitSettings
from isplit.errors import InputError, needs_extra
from isplit.plan.opponent import trained_verdict_texts
from isplit.records import PredictionsRecord, Record, SplitRecord, TrainedRemote, remote_records, wire_overhead
from isplit.report import check_report

_SIDES = ("encoder", "decoder", "tail")
_TRAINING_PANEL = "Training"


def fit(
    study: console.StudyArgument,
    ray_choice: RayOptions,
    cut_choice: CutOptions,
    budget_choice: BudgetOptions,
    settings: Annotated[
        FitSettings, Options(_TRAINING_PANEL, without=("train_encoder", "train_decoder", "train_tail"))
    ],
    inputs: MovedOptions,
    design: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE:CLASS",
            help="The bottleneck: linear (the default), undercomplete, identity, or your own class, such as "
            "./file.py:Name.",
            rich_help_panel=_TRAINING_PANEL,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="closed-form|random",
            help="Where training starts. By default, closed-form for linear and random for other designs.",
            rich_help_panel=_TRAINING_PANEL,
        ),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            metavar="encoder|decoder|tail",
            help="A side that does not learn. Repeatable.",
            rich_help_panel=_TRAINING_PANEL,
        ),
    ] = None,
    remote: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT:QUALITY[@SCALE]",
            help="Train the model on images compressed like this instead of a split: webp:50@0.5. With --cut, only the "
            "layers after it learn. Repeatable.",
            rich_help_panel=_TRAINING_PANEL,
        ),
    ] = None,
    group: GroupOption = None,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Train the split of STUDY at one cut or several, and measure it on the test part.

    A run that was stopped continues after its last complete epoch. A split that was trained with the same settings is
    not trained again.

    With --remote the model is trained on compressed images instead, for as long as a split. This network is the fair
    comparison for trained splits.

    Example: isplit fit study --cut layer2.3 --bytes 512
    """
    if remote:
        given = {
            "--ray": ray_choice.ray,
            "--bytes": budget_choice.bytes is not None,
            "--ratio": budget_choice.ratio is not None,
            "--design": design is not None,
            "--start": start is not None,
            "--freeze": bool(freeze),
        }
        _refuse_of_splits([name for name, is_given in given.items() if is_given])
        options = _RemoteOptions(remote, cut_choice, settings, group=group, json=json, quiet=quiet)
        _fit_remotes(study, inputs, options)
        return
    cut_choice.require()
    cut_choice, budget_choice = cut_choice.planned(study, budget_choice, to_train=True)
    budget = budget_choice.require()
    settings, design = _with_frozen_sides(settings, freeze or ()), design or "linear"
    with needs_extra("design"):
        from isplit import api

    silent = quiet or json
    if not ray_choice.ray:
        console.say_device(settings.device, quiet=silent)
    opened = inputs.open(study)
    names = cut_choice.names(opened, group=group)
    records: list[SplitRecord] = []
    if ray_choice.ray:
        request = api.FitRequest(
            directory=study.absolute(),
            budget=budget,
            settings=settings,
            **inputs.arguments,
            group=group,
            design=design,
            start=start,  # type: ignore[arg-type] - fit checks it
        )
        check_report(study)
        with console.progress_bars(quiet=silent) as progress:
            records.extend(api.fit_on_ray(request, names, address=ray_choice.ray_address, progress=progress))
        api.write_report(study)
        _show(records, quiet=silent)
    else:
        for name in names:
            # Each cut has bars of its own, so that its result stands below them as soon as it is known.
            with console.progress_bars(quiet=silent) as progress:
                record = api.fit(
                    opened,
                    name,
                    budget,
                    group=group,
                    design=design,
                    start=start,  # type: ignore[arg-type] - fit checks it
                    settings=settings,
                    progress=progress,
                )
            records.append(record)
            _show([record], quiet=silent)
    if json:
        _print_json(records)
    elif not quiet:
        show_trained_verdict(study, records, group=opened.view(group).name)


@dataclass(frozen=True)
class _RemoteOptions:
    """What `isplit fit --remote` was asked for."""

    remote: Sequence[str]
    cut_choice: CutOptions
    settings: FitSettings
    group: str | None
    json: bool
    quiet: bool


def _refuse_of_splits(names: Sequence[str]) -> None:
    """Refuse options that are about splits.

    Raises:
        InputError: there are any.

    """
    if names:
        msg = (
            "--remote trains the whole model on compressed images, on this machine and without a split: leave out "
            f"{', '.join(names)}"
        )
        raise InputError(msg)


def _fit_remotes(study: Path, inputs: MovedOptions, options: _RemoteOptions) -> None:
    """Train the model on compressed images, once for each setting, and say what it brought."""
    with needs_extra("design"):
        from isplit import api
        from isplit.design.remote_settings import check_remote_settings, read_compression

    compressions = [read_compression(setting) for setting in options.remote]  # refused before anything is trained
    check_remote_settings(options.settings)
    console.say_device(options.settings.device, quiet=options.quiet or options.json)
    opened = inputs.open(study)
    cut_choice, _ = options.cut_choice.planned(study, BudgetChoice(), to_train=True)
    names = cut_choice.names(opened, group=options.group)
    if len(names) > 1:
        msg = f"--remote takes one --cut, after which the layers learn, or none; got {len(names)}"
        raise InputError(msg)
    records: list[TrainedRemote] = []
    for compression in compressions:
        with console.progress_bars(quiet=options.quiet or options.json) as progress:
            record = api.fit_remote(
                opened,
                compression,
                after=names[0] if names else None,
                group=options.group,
                settings=options.settings,
                progress=progress,
            )
        records.append(record)
        if not (options.quiet or options.json):
            typer.echo(describe_remote(record, classes=len(opened.view(options.group).group.classes)))
    if options.json:
        _print_json(records)


def _print_json(records: Sequence[Record]) -> None:
    """Print one record, or a list of several."""
    texts = [record.to_json().rstrip() for record in records]
    typer.echo(texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "\n]")


def describe_remote(record: TrainedRemote, *, classes: int) -> str:
    """Say in a few lines what training on compressed images brought, on the test part."""
    measured, before = record.measurement, record.before
    wire = wire_overhead(classes).of_image(measured.payload_bytes.mean)
    layers = "all layers" if record.after is None else f"the layers after {record.after}"
    return (
        f"remote {record.compression.tag}, on {measured.accuracy.images:,} images of the {measured.part} part:\n"
        f"  accuracy {percent_with_interval(before.accuracy)} before training, "
        f"{percent_with_interval(measured.accuracy)} after it\n"
        f"  {points_with_error(measured.against_whole)} points against the whole model on the images themselves\n"
        f"  {measured.payload_bytes.mean:,.0f} bytes of payload (p95 {measured.payload_bytes.p95:,.0f}); on the wire "
        f"{wire.up:,.0f} up, {wire.down:,.0f} down\n"
        f"  trained {layers} on {record.images:,} images for {record.seconds:,.0f} s; epoch {record.best_epoch} of "
        f"{record.epochs} was best"
    )


def show_trained_verdict(study: Path, splits: Sequence[SplitRecord], *, group: str) -> None:
    """Say whether these splits are worth it beside the study's network that was trained on compressed images."""
    known = (study / PredictionsRecord.file_name).exists()
    predictions = PredictionsRecord.load(study) if known else None
    for text in trained_verdict_texts(splits, remote_records(study), predictions, group=group):
        console.output().print(text, markup=False, highlight=False)


def _with_frozen_sides(settings: FitSettings, sides: Sequence[str]) -> FitSettings:
    """Return settings under which these sides do not learn.

    Raises:
        InputError: an unknown side, or nothing is left to train.

    """
    for side in sides:
        if side not in _SIDES:
            msg = f"--freeze is {side!r}; choose encoder, decoder or tail"
            raise InputError(msg)
    return replace(settings, **{f"train_{side}": False for side in sides})


def _show(records: Sequence[SplitRecord], *, quiet: bool) -> None:
    for record in records:
        if not quiet:
            typer.echo(describe(record))


def describe(record: SplitRecord) -> str:
    """Say in a few lines what training brought, on the test part."""
    training, measured = record.training, record.measurement
    assert training is not None
    before = ""
    if training.before is not None:
        before = f"{percent_with_interval(training.before.accuracy)} before training, "
    is_closed_form = training.kept == "closed-form"
    difference, payload = points_with_error(measured.against_whole), measured.payload_bytes
    wire = measured.wire_bytes
    return (
        f"{record.cut} @{record.budget.tag} {record.bottleneck.design}, on {measured.accuracy.images:,} images of the "
        f"{measured.part} part:\n"
        f"  accuracy {before}{percent_with_interval(measured.accuracy)} after it\n"
        f"  {difference} points against the whole model's {measured.whole.accuracy:.1%}\n"
        f"  {payload.mean:,.0f} bytes of payload (p95 {payload.p95:,.0f}); on the wire {wire.up:,.0f} up, "
        f"{wire.down:,.0f} down\n"
        f"  trained on {training.images:,} images for {training.seconds:,.0f} s; epoch {training.best_epoch} of "
        f"{training.epochs} was best"
        + ("; the closed form was more accurate on the select part, and is kept" if is_closed_form else "")
        + (f"\n  {training.budget_note}" if training.budget_note else "")
    )
