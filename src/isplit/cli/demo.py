"""isplit demo: the whole way on data that comes with a dependency, offline: from the curve to answers over a link."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL import Image

from isplit.cli import console
from isplit.cli.analyze import describe_base_accuracy, show_ranking
from isplit.cli.tables import Column, print_table
from isplit.cli.wording import percent_with_interval
from isplit.errors import StudyError, needs_extra
from isplit.records import PlacementRun, Prediction, PredictionsRecord, RunsRecord, SplitRecord

if TYPE_CHECKING:
    from isplit.design.inputs.data import Dataset

_MODEL = "isplit.design.demo:compact_resnet"
_DATA = "sklearn:digits"
_BYTES = 64
_IMAGES = 60
_LINK_BITS_PER_S = 250_000


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The directory to write.")] = Path(
        "isplit-demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the training and of the choice of images.")] = 0,
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
        f"The data are {len(dataset):,} digits of 32×32 pixels, the model is a residual network of "
        f"{untrained.source.parameters:,} parameters.",
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
            announce=lambda record: None if quiet else progress.say(describe_base_accuracy(record)),
        )
    if json:
        typer.echo(study.ranking.to_json(), nl=False)
    elif not quiet:
        show_ranking(study.ranking, images=study.curve.images)
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
    console.say(
        f"""The same by hand:
  isplit analyze {_MODEL} {_DATA} \\
    --weights {weights} --images all -o mine
  isplit predict mine --bytes {_BYTES}
  isplit fit mine --cut {best.cut} --bytes {_BYTES}
  isplit export mine --cut {best.cut} --bytes {_BYTES} -o mine-bundle
  isplit serve mine-bundle
""",
        quiet=quiet,
    )
    # The result stands last, where the eye is.
    _show_runs(runs)
    _show_split(best, trained)
    typer.echo(f"Report: {study_directory / 'report.html'}")


def _best(record: PredictionsRecord) -> Prediction:
    """Return the most accurate split; among equals, the one that asks least of the device."""
    return max(record.predictions, key=lambda split: (split.measurement.accuracy.correct, -split.measurement.head_macs))


def _run(dataset: "Dataset", out: Path, cut: str) -> RunsRecord:
    """Write some test images as files, and classify them in every placement."""
    from isplit.cli.demo_link import measure_placements

    directory = out / "images"
    directory.mkdir(exist_ok=True)
    classes: dict[str, str] = {}
    for index in dataset.parts["test"][:_IMAGES].tolist():
        path = directory / f"{index:04}.png"
        image = dataset.image(index)
        assert isinstance(image, Image.Image)  # the demo's images are RGB
        image.save(path)
        classes[str(path)] = dataset.classes[int(dataset.labels[index])]
    placements = ("local", "remote", cut)
    return measure_placements(
        out / "bundle", directory, placements=placements, classes=classes, rate_bits_per_s=_LINK_BITS_PER_S
    )


def _show_split(before: Prediction, after: SplitRecord) -> None:
    result = after.measurement
    text = (
        f"Split right after {before.cut}: {before.measurement.accuracy.accuracy:.1%} of the select part before any "
        f"training, {percent_with_interval(result.accuracy)} of the test part after one epoch (the whole model: "
        f"{result.whole.accuracy:.1%}), {result.payload_bytes.mean:.0f} bytes per image."
    )
    console.output().print(text, markup=False, highlight=False)


def _show_runs(runs: RunsRecord) -> None:
    def accuracy(run: PlacementRun) -> str:
        return "–" if run.accuracy is None else percent_with_interval(run.accuracy)

    columns = [
        Column[PlacementRun]("placement", lambda run: run.placement, words=True),
        Column[PlacementRun]("accuracy (95 %)", accuracy),
        Column[PlacementRun](
            "bytes", lambda run: "0" if run.payload_bytes is None else f"{run.payload_bytes.mean:,.0f}"
        ),
        Column[PlacementRun]("median ms", lambda run: f"{run.total_median_ms:.1f}"),
        Column[PlacementRun]("p95 ms", lambda run: f"{run.total_p95_ms:.1f}"),
    ]
    print_table(runs.runs, columns, title=f"Measured {runs.link}, on {runs.runs[0].images} test images")
