"""isplit verify: train all candidates, and see how well it was known beforehand which is best."""

from collections.abc import Sequence
from typing import Annotated

import typer

from isplit.cli import console
from isplit.cli.fit import describe_remote, show_trained_verdict
from isplit.cli.options import Options
from isplit.cli.study_options import BudgetOptions, CutOptions, GroupOption, MovedOptions, RayOptions
from isplit.cli.tables import Column, print_table
from isplit.cli.wording import percent_with_interval, points_with_error
from isplit.design.settings import FitSettings
from isplit.errors import needs_extra
from isplit.records import PredictorScore, SplitRecord, Verification, VerifiedCut
from isplit.records.split_files import split_records
from isplit.report.text import PREDICTOR_NAMES

# Rules are compared on splits that are trained alike: from the closed form, and on the server's side of the cut.
_NOT_OFFERED = ("train_encoder", "train_decoder", "train_tail", "train_head", "feature_epochs")


def verify(
    study: console.StudyArgument,
    ray_choice: RayOptions,
    cut_choice: CutOptions,
    budget_choice: BudgetOptions,
    settings: Annotated[FitSettings, Options("Training", without=_NOT_OFFERED)],
    inputs: MovedOptions,
    remote: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT:QUALITY[@SCALE]",
            help="Train the model on images compressed like this, too, and judge it on the test part: webp:50@0.5. "
            "Repeatable.",
            rich_help_panel="Training",
        ),
    ] = None,
    group: GroupOption = None,
    wide: console.WideOption = False,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Train several cuts of STUDY, and show how well each rule had ranked them beforehand.

    Without --cut and --cuts the candidates of the study are trained. A rule is judged by Kendall's tau between its
    score and the accuracy after training, and by its regret: how many accuracy points its first choice, or the best of
    its first three, lies below the best cut. What was trained with the same settings is not trained again.

    With --remote the model is trained on compressed images too, here and not on Ray.

    Example: isplit verify study --bytes 512
    """
    budget = budget_choice.require()
    with needs_extra("design"):
        from isplit import api
        from isplit.design.remote_settings import read_compression, without_split_settings

    remote_settings = without_split_settings(settings)
    compressions = [read_compression(setting) for setting in remote or ()]  # refused before anything is trained
    if not ray_choice.ray:
        console.say_device(settings.device, quiet=quiet or json)
    opened = inputs.open(study)
    with console.progress_bars(quiet=quiet or json) as progress:

        def fit_on_ray(names: Sequence[str]) -> Sequence[SplitRecord]:
            request = api.FitRequest(
                directory=study.absolute(),
                budget=budget,
                settings=settings,
                **inputs.arguments,
                group=group,
            )
            return api.fit_on_ray(request, names, address=ray_choice.ray_address, progress=progress)

        record = api.verify(
            opened,
            budget,
            cuts=cut_choice.words or ["candidates"],
            group=group,
            settings=settings,
            fit_all=fit_on_ray if ray_choice.ray else None,
            progress=progress,
        )
        opponents = [
            api.fit_remote(opened, compression, group=group, settings=remote_settings, progress=progress)
            for compression in compressions
        ]
    if json:
        typer.echo(record.to_json(), nl=False)
    elif not quiet:
        verification = record.verifications[-1]
        show_verification(verification, wide=wide)
        for opponent in opponents:
            typer.echo(describe_remote(opponent, classes=len(opened.view(group).group.classes)))
        cuts = {row.cut for row in verification.cuts}
        splits = [split for split in split_records(study).values() if split.cut in cuts and split.budget == budget]
        show_trained_verdict(study, splits, group=verification.group)
        typer.echo(f"Report: {study / 'report.html'}")


def show_verification(verification: Verification, *, wide: bool = False) -> None:
    """Print the cuts as they turned out, and how well each rule did."""
    importances = sorted((cut.cui for cut in verification.cuts if cut.cui is not None), reverse=True)

    def cui_rank(cut: VerifiedCut) -> str:
        return "–" if cut.cui is None else str(importances.index(cut.cui) + 1)

    columns = [
        Column[VerifiedCut]("split right after", lambda cut: cut.cut, words=True),
        Column[VerifiedCut]("bytes", lambda cut: f"{cut.trained.payload_bytes.mean:,.0f}"),
        Column[VerifiedCut]("wire\nup", lambda cut: f"{cut.trained.wire_bytes.up:,.0f}"),
        Column[VerifiedCut]("device\nMACs", lambda cut: f"{cut.trained.head_mac_share:.0%}"),
        Column[VerifiedCut]("accuracy (95 %)", lambda cut: percent_with_interval(cut.trained.accuracy)),
        Column[VerifiedCut]("against whole", lambda cut: points_with_error(cut.trained.against_whole)),
        Column[VerifiedCut]("rank by\nCUI", cui_rank),
    ]
    images = verification.cuts[0].trained.accuracy.images
    title = f"Trained for {verification.budget.tag}, {verification.group}, on {images:,} images of the test part"
    print_table(verification.cuts, columns, title=title, wide=wide)
    back = verification.cuts[0].trained.wire_bytes.down
    typer.echo(f"Bytes are of payloads; the protocol adds to them up the wire, and {back:,.0f} come back.\n")
    if wide:
        _show_before_training(verification)
    _show_scores(verification.scores, wide=wide)


def _show_before_training(verification: Verification) -> None:
    columns = [
        Column[VerifiedCut]("split right after", lambda cut: cut.cut, words=True),
        Column[VerifiedCut]("bytes", lambda cut: f"{cut.closed_form.payload_bytes.mean:,.0f}"),
        Column[VerifiedCut]("wire\nup", lambda cut: f"{cut.closed_form.wire_bytes.up:,.0f}"),
        Column[VerifiedCut]("accuracy (95 %)", lambda cut: percent_with_interval(cut.closed_form.accuracy)),
        Column[VerifiedCut]("against whole", lambda cut: points_with_error(cut.closed_form.against_whole)),
    ]
    images = verification.cuts[0].closed_form.accuracy.images
    print_table(verification.cuts, columns, title=f"Before training, on {images:,} images of the select part")


def _show_scores(scores: Sequence[PredictorScore], *, wide: bool) -> None:
    columns = [
        Column[PredictorScore]("rule", lambda score: PREDICTOR_NAMES[score.predictor], words=True),
        Column[PredictorScore]("Kendall\ntau", lambda score: _number(score.kendall_tau, "+.2f")),
        Column[PredictorScore]("first choice", lambda score: score.top1 or "–", words=True),
        Column[PredictorScore]("its\nregret", lambda score: _number(score.top1_regret_points, ".1f")),
        Column[PredictorScore]("best of 3:\nregret", lambda score: _number(score.top3_regret_points, ".1f")),
        Column[PredictorScore](
            "mean\nerror", lambda score: _number(score.mean_absolute_error_points, ".1f"), wide=True
        ),
    ]
    title = "How each rule had ranked them (regret: accuracy points below the best cut)"
    print_table(scores, columns, title=title, wide=wide)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form).replace("-", "−")
