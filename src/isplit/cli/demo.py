"""isplit demo: the whole way on data that comes with a dependency, offline: from the curve to answers over a link."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from isplit.cli import console
from isplit.cli.analyze import show_ranking
from isplit.errors import StudyError, needs_extra
from isplit.records import Prediction, PredictionsRecord, RunsRecord, SplitRecord

if TYPE_CHECKING:
    from isplit.design.inputs.data import Dataset

_MODEL = "isplit.design.demo:compact_resnet"
_DATA = "sklearn:digits"
_BYTES = 64
_IMAGES = 60
_LINK_BITS_PER_S = 250_000


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Where to write.")] = Path("isplit-demo"),
    seed: Annotated[int, typer.Option(help="Of the training and of the choice of images.")] = 0,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Split a small network for handwritten digits, from the curve to answers over a link.

    The demo works offline: it trains the network, analyses it, predicts and trains a split, exports a bundle, and runs
    it over a slow link on this machine.
    """
    with needs_extra("design"):
        from isplit import api
        from isplit.design.demo import train_demo

    weights, study_directory, bundle = out / "weights.safetensors", out / "study", out / "bundle"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make {out}: {error.strerror or error}"
        raise StudyError(msg) from error
    silent = quiet or json
    dataset = api.open_data(_DATA, seed=seed)
    untrained = api.load_model(_MODEL)
    console.say(
        f"{len(dataset)} digits at 32×32 pixels, a residual network of {untrained.source.parameters:,} parameters",
        quiet=quiet,
    )
    with console.progress_bars(quiet=silent) as progress:
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
            settings=api.AnalyzeSettings(images=None),
            seed=seed,
            overwrite=True,
            progress=progress,
            announce=lambda study: console.say(console.show_study(study), quiet=quiet),
        )
    show_ranking(study.ranking, study.directory, json=json, quiet=quiet)
    with console.progress_bars(quiet=silent) as progress:
        opened = api.open_study(study_directory)
        budget = api.Budget(payload_bytes=_BYTES)
        settings = api.PredictSettings(remote_images=None)
        best = _best(api.predict(opened, [budget], settings=settings, progress=progress))
        trained = api.fit(opened, best.cut, budget, settings=api.FitSettings(epochs=1), progress=progress)
        api.export(opened, [best.cut], out=bundle, settings=api.ExportSettings(overwrite=True), progress=progress)
        progress("running over a link", 0, 1)
        runs = _run(dataset, out, best.cut)
        progress("running over a link", 1, 1)
    runs.save(study_directory)
    api.write_report(study_directory)
    if silent:
        return
    _show_split(best, trained)
    _show_runs(runs)
    typer.echo(f"report: {study_directory / 'report.html'}")
    console.say(
        f"the same by hand: isplit analyze {_MODEL} {_DATA} --weights {weights} --images all -o mine; isplit predict "
        f"mine --bytes {_BYTES}; isplit fit mine --cut {best.cut} --bytes {_BYTES}; isplit export mine --cut "
        f"{best.cut} -o mine-bundle; isplit serve mine-bundle",
        quiet=quiet,
    )


def _best(record: PredictionsRecord) -> Prediction:
    """Return the most accurate split; among equals, the one that asks least of the device."""
    return max(record.predictions, key=lambda one: (one.measurement.accuracy.correct, -one.measurement.head_macs))


def _run(dataset: "Dataset", out: Path, cut: str) -> RunsRecord:
    """Write some test images as files, and classify them in every placement."""
    from isplit.cli.demo_link import measure_placements

    directory = out / "images"
    directory.mkdir(exist_ok=True)
    classes: dict[str, str] = {}
    for index in dataset.parts["test"][:_IMAGES].tolist():
        path = directory / f"{index:04}.png"
        dataset.image(index).save(path)
        classes[str(path)] = dataset.classes[int(dataset.labels[index])]
    placements = ("local", "remote", cut)
    return measure_placements(
        out / "bundle", directory, placements=placements, classes=classes, rate_bits_per_s=_LINK_BITS_PER_S
    )


def _show_split(before: Prediction, after: SplitRecord) -> None:
    result = after.measurement
    typer.echo(
        f"split right after {before.cut}: {before.measurement.accuracy.accuracy:.1%} of the select part before any "
        f"training, {result.accuracy.accuracy:.1%} of the test part after one epoch (whole model "
        f"{result.whole.accuracy:.1%}), {result.payload_bytes.mean:.0f} bytes per image"
    )


def _show_runs(runs: RunsRecord) -> None:
    table = Table(title=f"Measured {runs.link}", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("placement", "accuracy", "bytes", "median ms", "p95 ms"):
        table.add_column(name, justify="left" if name == "placement" else "right", no_wrap=True)
    for run in runs.runs:
        table.add_row(
            run.placement,
            "" if run.accuracy is None else f"{run.accuracy.accuracy:.1%}",
            "" if run.payload_bytes is None else f"{run.payload_bytes.mean:.0f}",
            f"{run.total_median_ms:.1f}",
            f"{run.total_p95_ms:.1f}",
        )
    console.output().print(table, markup=False)
