"""isplit cuts: a model's cuts, without any data."""

import typer

from isplit.cli import console


def cuts(
    model: console.ModelArgument,
    weights: console.WeightsOption = None,
    num_classes: console.NumClassesOption = None,
    image_size: console.ImageSizeOption = None,
    channels: console.ChannelsOption = None,
    pre_activation: console.PreActivationOption = False,
    all_cuts: console.AllCutsOption = False,
    json: console.JsonOption = False,
) -> None:
    """List the cuts of MODEL with what crosses there and the cost of either side.

    All figures are for one image. No data and no trained weights are needed.
    """
    loaded = console.load_model(
        model,
        weights=weights,
        num_classes=num_classes,
        image_size=image_size,
        channels=channels,
    )
    from isplit import api

    graph = api.list_cuts(loaded, pre_activation=pre_activation, all_cuts=all_cuts)
    if json:
        typer.echo(graph.to_json(), nl=False)
    else:
        console.show_cuts(graph)
