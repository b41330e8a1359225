"""isplit verify: train all candidates, and see how well it was known beforehand which is best."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from isplit.cli import console
from isplit.cli import fit as options
from isplit.records import PredictorScore, SplitRecord, Verification, VerifiedCut
from isplit.report.text import PREDICTOR_NAMES


def verify(
    study: console.StudyArgument,
    ray_address: options.RayAddressArgument = None,
    cuts: Annotated[str, typer.Option("--cuts", metavar="candidates|all|A,B", help="Which cuts.")] = "candidates",
    bytes: options.BytesOption = None,
    ratio: options.RatioOption = None,
    group: options.GroupOption = None,
    epochs: options.EpochsOption = 3,
    images: options.ImagesOption = None,
    select_images: options.SelectImagesOption = None,
    batch_size: options.BatchSizeOption = 64,
    bottleneck_rate: options.BottleneckRateOption = None,
    model_rate: options.ModelRateOption = options.DEFAULT_MODEL_RATE,
    patience: options.PatienceOption = 2,
    flip: options.FlipOption = False,
    features: options.FeaturesOption = "auto",
    memory_gib: options.MemoryOption = 4.0,
    precision: options.PrecisionOption = "auto",
    seed: options.SeedOption = 0,
    ray: options.RayOption = False,
    weights: options.MovedWeightsOption = None,
    data: options.MovedDataOption = None,
    data_root: options.DataRootOption = None,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Train several cuts of STUDY, and show how well each rule had ranked them beforehand.

    A rule is judged by Kendall's tau between its score and the accuracy after training, and by its regret: how many
    accuracy points its first choice, or the best of its first three, lies below the best cut. What was trained with the
    same settings is not trained again.
    """
    budget = options.read_budget(bytes, ratio)
    options.check_ray(ray_address, ray=ray)
    settings = options.make_settings(
        epochs=epochs,
        images=images,
        select_images=select_images,
        batch_size=batch_size,
        bottleneck_rate=bottleneck_rate,
        model_rate=model_rate,
        patience=patience,
        flip=flip,
        features=features,
        memory_gib=memory_gib,
        precision=precision,
        seed=seed,
    )
    from isplit import api

    opened = api.open_study(study, weights=weights, data=data, data_root=data_root)
    with console.progress_bars(quiet=quiet or json) as progress:

        def on_ray(wanted: Sequence[str]) -> Sequence[SplitRecord]:
            request = api.FitRequest(
                directory=study.absolute(),
                budget=budget,
                settings=settings,
                weights=weights,
                data=data,
                data_root=data_root,
                group=group,
            )
            return api.fit_on_ray(request, wanted, address=ray_address, progress=progress)

        record = api.verify(
            opened,
            budget,
            cuts=cuts.split(","),
            group=group,
            settings=settings,
            fit_all=on_ray if ray else None,
            progress=progress,
        )
    if json:
        typer.echo(record.to_json(), nl=False)
    elif not quiet:
        show_verification(record.verifications[-1])


def show_verification(found: Verification) -> None:
    """Print the cuts as they turned out, and how well each rule did."""
    table = Table(title=f"Trained for {found.budget.tag}, {found.group}", title_justify="left", box=box.SIMPLE_HEAD)
    columns = [
        "split right after",
        "device MACs",
        "rank by CUI",
        "untrained",
        "trained (95 %)",
        "against whole",
        "bytes",
    ]
    for name in columns:
        table.add_column(name, justify="left" if name == "split right after" else "right", no_wrap=True)
    importances = sorted((one.cui for one in found.cuts if one.cui is not None), reverse=True)
    for one in found.cuts:
        table.add_row(*_cells(one, importances))
    scores = Table(title="Chosen beforehand by", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("rule", "Kendall tau", "first choice", "regret, points", "best of three", "mean error, points"):
        scores.add_column(name, justify="left" if name in ("rule", "first choice") else "right", no_wrap=True)
    for score in found.scores:
        scores.add_row(*_score_cells(score))
    output = console.output()
    output.print(table, markup=False)
    output.print(scores, markup=False)
    images = found.cuts[0].trained.accuracy.images
    output.print(
        f"untrained: on the select part; trained: on {images:,} images of the test part; regret: accuracy points below "
        "the best cut",
        markup=False,
    )


def _cells(one: VerifiedCut, importances: list[float]) -> list[str]:
    trained = one.trained
    return [
        one.cut,
        f"{trained.head_mac_share:.0%}",
        "–" if one.cui is None else str(importances.index(one.cui) + 1),
        f"{one.closed_form.accuracy.accuracy:.1%}",
        options.show_accuracy(trained),
        f"{100 * trained.against_whole.difference:+.1f} ± {100 * trained.against_whole.stderr:.1f}",
        f"{trained.payload_bytes.mean:.0f}",
    ]


def _score_cells(score: PredictorScore) -> list[str]:
    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return [
        PREDICTOR_NAMES[score.predictor],
        number(score.kendall_tau, "+.2f"),
        score.top1 or "–",
        number(score.top1_regret_points, ".1f"),
        number(score.top3_regret_points, ".1f"),
        number(score.mean_absolute_error_points, ".1f"),
    ]
