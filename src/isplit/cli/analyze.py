"""isplit analyze: from a model and its data to ranked split points."""

from pathlib import Path
from typing import Annotated

import typer

from isplit.cli import console
from isplit.errors import InputError, needs_extra
from isplit.records import CandidatesRecord, StudyRecord


def analyze(
    model: console.ModelArgument,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder or .zip of class folders, an .npz, idx:IMAGES,LABELS, torchvision:NAME, sklearn:digits, "
            "package.module:factory or ./file.py:factory.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="STUDY", help="The directory to write.")] = Path("study"),
    weights: console.WeightsOption = None,
    num_classes: console.NumClassesOption = None,
    image_size: console.ImageSizeOption = None,
    channels: console.ChannelsOption = None,
    mean: console.MeanOption = None,
    std: console.StdOption = None,
    split: Annotated[str | None, typer.Option(help="Use only this part or folder of the data.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Where torchvision's data sets are or go.")] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="A subset: 'cat,dog', 'normal,ill=flu+cold', a group's name, or a JSON file. Repeatable."),
    ] = None,
    class_map: Annotated[Path | None, typer.Option(help="JSON {class: model output}.")] = None,
    images: Annotated[str, typer.Option(metavar="N|all", help="Images for the curve, class-balanced.")] = "1000",
    tolerance: Annotated[
        float | None, typer.Option(help="Stop when the order is settled, e.g. 0.05; then --images is a limit.")
    ] = None,
    method: Annotated[str, typer.Option(help="cui, gradient-activation or gradient-energy.")] = "cui",
    target: Annotated[str, typer.Option(help="The logit that counts: correct or predicted.")] = "correct",
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Images per pass.")] = 16,
    test_images: Annotated[str, typer.Option(metavar="N|all", help="Images for the base accuracy.")] = "2000",
    pre_activation: console.PreActivationOption = False,
    all_cuts: console.AllCutsOption = False,
    channel_axis: Annotated[
        list[str] | None,
        typer.Option(metavar="CUT=1|-1", help="Where a cut's channels are, if they are guessed wrongly. Repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of images, and of held-out parts.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a study of other input.")] = False,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Rank the cuts of MODEL by how much they matter for its decisions on DATA.

    The study is written to a directory with records, the importance curve and report.html. Run the same command again
    to go on where it was stopped.
    """
    with needs_extra("design"):
        from isplit import api

    # What is cheap to refuse comes first, and last the model, which may have to be downloaded.
    means, stds = console.parse_numbers(mean, "--mean"), console.parse_numbers(std, "--std")
    settings = api.AnalyzeSettings(
        images=console.parse_count(images, "--images"),
        tolerance=tolerance,
        method=method,
        target=target,  # type: ignore[arg-type] - Settings checks it
        precision=precision,  # type: ignore[arg-type] - the settings check it
        batch_size=batch_size,
        test_images=console.parse_count(test_images, "--test-images"),
        pre_activation=pre_activation,
        all_cuts=all_cuts,
        channel_axes=dict(_axis(text) for text in channel_axis or ()),
    )
    dataset = api.open_data(data, split=split, seed=seed, data_root=data_root)
    loaded = console.load_model(
        model,
        weights=weights,
        num_classes=num_classes,
        image_size=image_size,
        channels=channels,
        mean=means,
        std=stds,
    )
    silent = quiet or json

    def announce(study: StudyRecord) -> None:
        console.say(console.show_study(study), quiet=quiet)
        for warning in study.warnings:
            console.say(f"warning: {warning}", quiet=False)

    with console.progress_bars(quiet=silent) as progress:
        study = api.analyze(
            loaded,
            dataset,
            out=out,
            classes=classes or (),
            class_map=class_map,
            settings=settings,
            seed=seed,
            overwrite=overwrite,
            progress=progress,
            announce=announce,
        )
    show_ranking(study.ranking, study.directory, json=json, quiet=quiet)


def show_ranking(ranking: CandidatesRecord, directory: Path, *, json: bool, quiet: bool) -> None:
    """Print the ranking and say where the report is."""
    if json:
        typer.echo(ranking.to_json(), nl=False)
        return
    if quiet:
        return
    console.show_candidates(ranking)
    for text in (ranking.note, ranking.disagreement):
        if text:
            typer.echo(text)
    typer.echo(f"report: {directory / 'report.html'}")


def _axis(text: str) -> tuple[str, int]:
    cut, _, axis = text.rpartition("=")
    if not cut or axis not in ("1", "-1"):
        msg = f"--channel-axis is {text!r}; give CUT=1 (channels first) or CUT=-1 (channels last)"
        raise InputError(msg)
    return cut, int(axis)
