"""isplit analyze: from a model and its data to ranked split points."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from isplit.cli import console
from isplit.cli.options import Options
from isplit.cli.study_options import (
    MODEL_PANEL,
    ClassesOption,
    ClassMapOption,
    DataArgument,
    DataOptions,
    ModelArgument,
    ModelOptions,
    OverwriteOption,
    SeedOption,
)
from isplit.cli.tables import Column, print_table
from isplit.design.settings import AnalyzeSettings
from isplit.errors import InputError, needs_extra
from isplit.records import Candidate, CandidatesRecord, Rule, StudyRecord, method_title


def analyze(
    model: ModelArgument,
    data: DataArgument,
    settings: Annotated[AnalyzeSettings, Options("Importance", without=("class_map", "seed"))],
    model_choice: ModelOptions,
    data_choice: DataOptions,
    channel_axis: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CUT=1|-1",
            help="The channel axis of a cut where the guess is wrong: 1 is first, -1 is last. Repeatable.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None,
    classes: ClassesOption = None,
    class_map: ClassMapOption = None,
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="STUDY", help="The directory to write.")] = Path("study"),
    overwrite: OverwriteOption = False,
    wide: console.WideOption = False,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Rank the cuts of MODEL by how much they matter for its decisions on DATA.

    The study is written to a directory with records, the importance curve and report.html. Run the same command again
    to go on where it was stopped.

    Example: isplit analyze torchvision:resnet50 photos.zip --weights default
    """
    with needs_extra("design"):
        from isplit import api

    # What is cheap to refuse comes first, and last the model, which may have to be downloaded.
    axes = dict(_axis(text) for text in channel_axis or ())
    settings = replace(settings, channel_axes=axes, class_map=class_map, seed=seed)
    console.say_device(settings.device, quiet=quiet or json)
    dataset = data_choice.open(data, seed=seed)
    loaded = model_choice.load(model)
    with console.progress_bars(quiet=quiet or json) as progress:

        def announce(study: StudyRecord) -> None:
            if not quiet:
                progress.say(describe_base_accuracy(study))
                for notice in study.notices:
                    progress.say(f"note: {console.record_text(notice)}")
            for warning in study.warnings:
                progress.say(f"warning: {console.record_text(warning)}")

        study = api.analyze(
            loaded,
            dataset,
            out=out,
            classes=classes or (),
            settings=settings,
            overwrite=overwrite,
            progress=progress,
            announce=announce,
        )
    if json:
        typer.echo(study.ranking.to_json(), nl=False)
    elif not quiet:
        show_ranking(study.ranking, images=study.curve.images, wide=wide)
        typer.echo(f"Report: {study.directory / 'report.html'}")
        typer.echo(f"Next, measure the splits before any training: isplit predict {study.directory}")


def describe_base_accuracy(study: StudyRecord) -> str:
    """Say how good the model is on the test part."""
    base = study.base_accuracy
    return (
        f"Base accuracy: {base.accuracy:.1%} of {base.images:,} test images "
        f"(95 %: {100 * base.low:.1f}–{base.high:.1%}; guessing: {study.chance_accuracy:.1%})."
    )


_RULES: dict[Rule, str] = {
    "importance-maximum": "maximum",
    "natural-bottleneck": "natural bottleneck",
    "size-minimum": "size minimum",
    "above-trend": "above trend",
}


def show_ranking(ranking: CandidatesRecord, *, images: int, wide: bool = False) -> None:
    """Print the candidates as a table, and what the reader has to know about them."""
    columns = [
        Column[Candidate]("rank", lambda candidate: str(candidate.rank)),
        Column[Candidate]("split right after", lambda candidate: candidate.cut, words=True),
        Column[Candidate](f"log10\n{method_title(ranking.method)}", lambda candidate: _number(candidate.log10_cui)),
        Column[Candidate]("device\nMACs", lambda candidate: f"{candidate.head_mac_share:.0%}"),
        Column[Candidate]("KiB\nas fp32", lambda candidate: f"{candidate.bytes / 1024:,.1f}"),
        Column[Candidate]("found by", _rules, words=True),
    ]
    title = f"Split points, first choice first; importance on {images:,} images of the fit part"
    print_table(ranking.candidates, columns, title=title, wide=wide)
    for text in (ranking.note, ranking.disagreement):
        if text:
            typer.echo(console.record_text(text))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _rules(candidate: Candidate) -> str:
    rules = ", ".join(_RULES[rule] for rule in candidate.found_by)
    return f"{rules} (not settled)" if candidate.settled is False else rules


def _axis(text: str) -> tuple[str, int]:
    cut, _, axis = text.rpartition("=")
    if not cut or axis not in ("1", "-1"):
        msg = f"--channel-axis is {text!r}; give CUT=1 (channels first) or CUT=-1 (channels last)"
        raise InputError(msg)
    return cut, int(axis)
