"""isplit fit: train splits of a study, and say what it brought."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from isplit.cli import console
from isplit.cli.options import Options
from isplit.cli.study_options import BudgetOptions, CutOptions, GroupOption, MovedOptions, RayOptions
from isplit.cli.wording import percent_with_interval, points_with_error
from isplit.design.settings import FitSettings
from isplit.errors import InputError, needs_extra
from isplit.records import SplitRecord

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
        str,
        typer.Option(
            metavar="NAME|FILE:CLASS",
            help="The bottleneck: linear, undercomplete, identity, or your own class, such as ./file.py:Name.",
            rich_help_panel=_TRAINING_PANEL,
        ),
    ] = "linear",
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
    group: GroupOption = None,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Train the split of STUDY at one cut or several, and measure it on the test part.

    A run that was stopped goes on after its last whole epoch. What was trained with the same settings is not trained
    again.

    Example: isplit fit study --cut layer2.3 --bytes 512
    """
    cut_choice.require()
    cut_choice, budget_choice = cut_choice.planned(study, budget_choice, to_train=True)
    budget = budget_choice.require()
    settings = _with_frozen_sides(settings, freeze or ())
    with needs_extra("design"):
        from isplit import api

    opened = inputs.open(study)
    names = cut_choice.names(opened, group=group)
    silent = quiet or json
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
        texts = [record.to_json().rstrip() for record in records]
        typer.echo(texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "\n]")


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
