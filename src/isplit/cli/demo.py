"""isplit demo: the whole job on data that comes with a dependency, offline."""

from pathlib import Path
from typing import Annotated

import typer

from isplit.cli import console
from isplit.cli.analyze import show_ranking
from isplit.errors import StudyError, needs_extra

_MODEL = "isplit.design.demo:compact_resnet"
_DATA = "sklearn:digits"


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where to write.")] = Path("isplit-demo"),
    seed: Annotated[int, typer.Option(help="Of the training and of the choice of images.")] = 0,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Train a compact residual network on scikit-learn's handwritten digits and find where to split it."""
    with needs_extra("design"):
        from isplit import api
        from isplit.design.demo import train_demo

    weights, study_directory = out / "weights.safetensors", out / "study"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make {out}: {error.strerror or error}"
        raise StudyError(msg) from error
    dataset = api.open_data(_DATA, seed=seed)
    untrained = api.load_model(_MODEL)
    console.say(
        f"{len(dataset)} digits at 32×32 pixels, a residual network of {untrained.source.parameters:,} parameters",
        quiet=quiet,
    )
    with console.progress_bars(quiet=quiet or json) as progress:
        train_demo(
            dataset,
            untrained.preprocessing,
            weights,
            seed=seed,
            progress=lambda done, total: progress("training", done, total),
        )
        loaded = api.load_model(_MODEL, weights=str(weights))
        study = api.analyze(
            loaded,
            dataset,
            out=study_directory,
            settings=api.Settings(images=None),
            seed=seed,
            overwrite=True,
            progress=progress,
            announce=lambda study: console.say(console.show_study(study), quiet=quiet),
        )
    show_ranking(study.ranking, study.directory, json=json, quiet=quiet)
    if not json:
        console.say(
            f"the same by hand: isplit analyze {_MODEL} {_DATA} --weights {weights} --images all -o {out / 'mine'}",
            quiet=quiet,
        )
