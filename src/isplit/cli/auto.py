"""isplit auto: from a model and its data to a plan, the split that it asks for, and a bundle, in one command."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isplit.cli import console
from isplit.cli.analyze import describe_base_accuracy
from isplit.cli.fit import describe
from isplit.cli.option_names import with_option_names
from isplit.cli.options import Options
from isplit.cli.plan import show_plan
from isplit.cli.plan_options import LimitOptions, MachineOptions
from isplit.cli.study_options import (
    ClassesOption,
    ClassMapOption,
    DataArgument,
    DataOptions,
    ModelArgument,
    ModelOptions,
    OverwriteOption,
    SeedOption,
    given_budgets,
)
from isplit.design.settings import AnalyzeSettings, FitSettings, ImageCount, PredictSettings
from isplit.errors import InputError, needs_extra
from isplit.plan.devices import load_device
from isplit.plan.links import load_link
from isplit.plan.planner import PlanSettings
from isplit.records import Budget, StudyRecord

if TYPE_CHECKING:
    from isplit.workflows.auto_settings import AutoResult


@dataclass(frozen=True, kw_only=True)
class WorkChoice:
    """How much work every phase does.

    Args:
        bytes: A mean payload in bytes that splits are predicted at. Repeatable; the default is 128, 512 and 2048.
        ratio: As --bytes: one in R of the tensor's elements, with 8 bits each. Repeatable.
        images: Images that the importance curve is taken from; None takes the whole fit part.
        predict_images: Images that splits are measured on before training; None takes all of the select part.
        statistics_images: Images that bottlenecks are computed from.
        compressed_images: Images that are compressed and classified for comparison; None takes as many as there are.
        epochs: Largest number of passes of a training.
        trainings: Train at most so many splits.

    """

    bytes: Annotated[list[int] | None, typer.Option(metavar="N")] = None
    ratio: Annotated[list[float] | None, typer.Option(metavar="R")] = None
    images: ImageCount = AnalyzeSettings.images
    predict_images: ImageCount = PredictSettings.images
    statistics_images: int = PredictSettings.statistics_images
    compressed_images: ImageCount = PredictSettings.remote_images
    epochs: int = FitSettings.epochs
    trainings: int = 3

    @property
    def budgets(self) -> Sequence[Budget]:
        """The budgets that were given.

        Raises:
            InputError: no payload can meet a budget.

        """
        return given_budgets(self.bytes or (), self.ratio or ())

    def predict_settings(self) -> PredictSettings:
        """Return the settings of `predict`, whose images have other names here than there.

        Raises:
            InputError: a number is outside its range; the message names the option of this verb.

        """
        try:
            return PredictSettings(
                images=self.predict_images,
                statistics_images=self.statistics_images,
                remote_images=self.compressed_images,
            )
        except InputError as error:
            options = {"images": "--predict-images", "remote_images": "--compressed-images"}
            raise InputError(with_option_names(str(error), options)) from error


def auto(
    model: ModelArgument,
    data: DataArgument,
    machines: MachineOptions,
    limit_choice: LimitOptions,
    work: Annotated[WorkChoice, Options("Work")],
    model_choice: ModelOptions,
    data_choice: DataOptions,
    classes: ClassesOption = None,
    class_map: ClassMapOption = None,
    seed: SeedOption = 0,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The directory to write.")] = Path("auto"),
    overwrite: OverwriteOption = False,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Analyze, predict, plan, train what the plan asks for, and export, in one command.

    The study is in DIR/study and the bundle in DIR/bundle, and every other verb takes them. Every phase keeps its work:
    the same command goes on where it was stopped. A split is trained only where that could settle or change the answer.
    Exits 1 when no placement keeps the limits.

    Example: isplit auto torchvision:resnet50 photos.zip --weights default
    """
    # What is cheap to refuse comes first, and last the model, which may have to be downloaded.
    limits, objective = limit_choice.read()
    device, link = machines.device_profile(), load_link(machines.link, name="--link")
    server = load_device(machines.server, name="--server")
    if limits.hide_answer:
        msg = "--hide-answer needs the last layers on the device, which no bundle can run: use `isplit plan` for it"
        raise InputError(msg)
    budgets, predict_settings = work.budgets, work.predict_settings()
    with needs_extra("design"):
        from isplit import api
        from isplit.workflows.auto import prepare_auto
        from isplit.workflows.auto_settings import AutoSettings

    settings = AutoSettings(
        server=server,
        budgets=budgets or api.DEFAULT_BUDGETS,
        trainings=work.trainings,
        analyze=AnalyzeSettings(images=work.images, class_map=class_map, seed=seed),
        predict=predict_settings,
        fit=FitSettings(epochs=work.epochs),
        plan=PlanSettings(objective=objective),
        classes=classes or (),
        overwrite=overwrite,
    )
    dataset = data_choice.open(data, seed=seed)
    loaded = model_choice.load(model)
    run = prepare_auto(loaded, dataset, out=out, device=device, link=link, limits=limits, settings=settings)
    silent = quiet or json
    if not silent:
        console.say(run.estimate().text, quiet=silent)
    with console.progress_bars(quiet=silent) as progress:

        def announce(study: StudyRecord) -> None:
            if not quiet:
                progress.say(describe_base_accuracy(study))
            for warning in study.warnings:
                progress.say(f"warning: {console.record_text(warning)}")

        def say(text: str) -> None:
            if not silent:
                progress.say(text)

        result = run.finish(progress=progress, announce=announce, say=say)
    if json:
        typer.echo(result.plan.to_json(), nl=False)
    elif not quiet:
        _show(result)
    if result.plan.answer.chosen is None:
        raise typer.Exit(1)


def _show(result: "AutoResult") -> None:
    """Print what was trained, the plan, and last the answer and the commands that serve and run it."""
    for record in result.trained:
        typer.echo(describe(record))
    show_plan(result.plan)
    typer.echo(f"Report: {result.study.directory / 'report.html'}")
    typer.echo("")
    console.print_text(result.plan.answer.text)
    study = result.study.record
    if study.base_accuracy.may_be_guessing(study.chance_accuracy):
        console.print_text(
            "The model may only guess on these images, so this answer means little: see the warning on its accuracy."
        )
    if result.run_command is None:
        typer.echo(
            "No bundle was written: loosen a limit, and run the same command again."
            if result.bundle is None
            else "The bundle does not hold the network that was trained on compressed images: "
            "`isplit export --remote-network` writes one that does."
        )
        return
    typer.echo("")
    if result.serve_command is not None:
        typer.echo(f"On the server:  {result.serve_command}")
    typer.echo(f"On the device:  {result.run_command}")
