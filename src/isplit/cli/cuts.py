"""isplit cuts: a model's cuts, without any data."""

from typing import Annotated

import typer

from isplit.cli import console
from isplit.cli.options import Options
from isplit.cli.study_options import MODEL_PANEL, ModelArgument, ModelChoice
from isplit.cli.tables import Column, print_table
from isplit.cli.wording import count_with_unit
from isplit.records import Cut, GraphRecord


def cuts(
    model: ModelArgument,
    model_choice: Annotated[ModelChoice, Options(MODEL_PANEL, without=("mean", "std"))],
    pre_activation: Annotated[
        bool, typer.Option("--pre-activation", help="List the points before activations too.")
    ] = False,
    all_cuts: Annotated[
        bool, typer.Option("--all-cuts", help="List every cut, those with several crossing tensors included.")
    ] = False,
    wide: console.WideOption = False,
    json: console.JsonOption = False,
) -> None:
    """List the cuts of MODEL with what crosses there and the cost of either side.

    All figures are for one image. No data and no trained weights are needed.

    Example: isplit cuts torchvision:resnet50
    """
    loaded = model_choice.load(model)
    from isplit import api

    graph = api.list_cuts(loaded, pre_activation=pre_activation, all_cuts=all_cuts)
    if json:
        typer.echo(graph.to_json(), nl=False)
    else:
        show_cuts(graph, wide=wide)


def show_cuts(graph: GraphRecord, *, wide: bool = False) -> None:
    """Print a model's cuts as a table."""

    def share(cut: Cut) -> str:
        return f"{cut.head_macs / graph.macs:.0%}" if graph.macs else "–"

    columns = [
        Column[Cut]("cut", lambda cut: cut.name, words=True),
        Column[Cut]("crosses", _shapes, words=True),
        Column[Cut]("KiB\nas fp32", lambda cut: f"{cut.bytes / 1024:,.1f}"),
        Column[Cut]("head\nMACs", share),
        Column[Cut]("head\nMACs", lambda cut: count_with_unit(cut.head_macs), wide=True),
        Column[Cut]("head\nparams", lambda cut: count_with_unit(cut.head_parameters)),
        Column[Cut]("head\npeak MiB", lambda cut: f"{cut.head_peak_bytes / 2**20:.2f}"),
        Column[Cut]("tail\npeak MiB", lambda cut: f"{cut.tail_peak_bytes / 2**20:.2f}"),
    ]
    size = "×".join(map(str, graph.input_shape))
    title = (
        f"Cuts for one image of {size} ({graph.input_bytes / 1024:,.0f} KiB as fp32); the model has "
        f"{count_with_unit(graph.macs)} MACs and {count_with_unit(graph.parameters)} parameters, captured with "
        f"{graph.captured_by}"
    )
    print_table(graph.cuts, columns, title=title, wide=wide)
    for name in graph.uncounted:
        typer.echo(f"MACs not counted: {name}")
    for notice in graph.notices:
        typer.echo(f"note: {console.record_text(notice)}")
    for item in graph.unavailable:
        typer.echo(f"Cannot be cut: {item.name}: {item.reason}")


def _shapes(cut: Cut) -> str:
    return " + ".join("×".join(map(str, tensor.shape)) for tensor in cut.crossing)
