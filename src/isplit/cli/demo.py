"""isplit demo: the whole way on data that comes with a dependency, offline: from the curve to a checked plan."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL import Image

from isplit.cli import console
from isplit.cli.analyze import describe_base_accuracy, show_ranking
from isplit.cli.tables import Column, print_table
from isplit.cli.wording import percent_with_interval
from isplit.errors import StudyError, needs_extra
from isplit.plan.links import load_link
from isplit.plan.planner import plan
from isplit.plan.recommend import action, milliseconds
from isplit.plan.units import rate_text
from isplit.progress import Progress
from isplit.records import (
    Budget,
    LinkRecord,
    PlacementRun,
    PlannedPlacement,
    PlanRecord,
    Prediction,
    PredictionsRecord,
    ProfileRecord,
    RunsRecord,
    SplitRecord,
)

if TYPE_CHECKING:
    from isplit.design.inputs.data import Dataset

_MODEL = "isplit.design.demo:compact_resnet"
_DATA = "sklearn:digits"
_BYTES = 64
_IMAGES = 60
_LINK_IMAGES = 30
_DEVICE, _SERVER = "pi4", "jetson-orin-nano"
_LINKS = ("ethernet", "wifi", "4g")
_ALL_PLACEMENTS_LINK = "wifi"
# The test part has 179 images: they cannot show that a loss is much smaller than this.
_LIMITS = {"hide_image": True, "max_accuracy_loss": 0.05}


@dataclass(frozen=True, kw_only=True)
class DemoWork:
    """How much the demo computes; tests ask for less.

    Attributes:
        epochs: Passes over the fit part in which the network is trained.
        analyze_images: Images that the curve is taken from; None takes the whole fit part.
        statistics_images: Images that the closed forms are made from.
        fit_images: Images that the planned split is trained on; None takes the whole fit part.

    """

    epochs: int = 8
    analyze_images: int | None = None
    statistics_images: int = 640
    fit_images: int | None = None


WORK = DemoWork()


@dataclass(frozen=True, kw_only=True)
class _LinkPlan:
    """What is best over a link: on the Pi-class device, and what this machine's plan predicts and its run measures."""

    link: LinkRecord
    pi: PlanRecord
    here: PlanRecord
    runs: RunsRecord

    def best(self, kind: str) -> PlannedPlacement | None:
        """Return the Pi's fastest placement of a kind; among splits, that of the answer comes first."""
        rows = [row for row in self.pi.placements if row.kind == kind]
        return min(rows, key=lambda row: (row.name != self.pi.answer.chosen, row.latency_ms), default=None)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The directory to write.")] = Path(
        "isplit-demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the training and of the choice of images.")] = 0,
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Split a small network for handwritten digits, from the curve to answers over a link.

    The demo works offline: it trains the network, analyses it, plans it for a Raspberry Pi 4 over three links, trains
    the split that the plan asks for, and checks the plan of this machine over the same links.
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
            epochs=WORK.epochs,
            seed=seed,
            progress=lambda done, total: progress("training", done, total),
        )
        loaded = api.load_model(_MODEL, weights=str(weights))
        study = api.analyze(
            loaded,
            dataset,
            out=study_directory,
            settings=api.AnalyzeSettings(images=WORK.analyze_images, seed=seed),
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
        budget = Budget(payload_bytes=_BYTES)
        settings = api.PredictSettings(statistics_images=WORK.statistics_images, remote_images=None)
        predictions = api.predict(opened, [budget], settings=settings, progress=progress)
        first = plan(opened, device=_DEVICE, server=_SERVER, link=_LINKS[0], limits=_LIMITS)
        best = _planned_split(first, predictions)
        training = api.FitSettings(epochs=1, images=WORK.fit_images)
        trained = api.fit(opened, best.cut, budget, settings=training, progress=progress)
        api.export(opened, [best.cut], out=bundle, settings=api.ExportSettings(overwrite=True), progress=progress)
        link_plans = _plan_and_measure(dataset, out, best.cut, progress)
    shown = next(entry for entry in link_plans if entry.link.name == _ALL_PLACEMENTS_LINK)
    shown.runs.save(study_directory)
    shown.pi.save(study_directory)
    api.write_report(study_directory)
    if silent:
        return
    console.say(
        f"""The same by hand:
  isplit analyze {_MODEL} {_DATA} \\
    --weights {weights} --images all -o mine
  isplit predict mine --bytes {_BYTES}
  isplit plan mine --device {_DEVICE} --server {_SERVER} --link {_LINKS[0]} \\
    --hide-image --max-accuracy-loss 0.05
  isplit fit mine --cut planned
  isplit export mine --cut {best.cut} --bytes {_BYTES} -o mine-bundle
  isplit bench mine-bundle {out / "images"} --link {_ALL_PLACEMENTS_LINK}
""",
        quiet=quiet,
    )
    # The result stands last, where the eye is, and begins with the answer.
    console.output().print(_sentence(link_plans), markup=False, highlight=False)
    typer.echo("")
    _show_plans(link_plans)
    _show_checks(link_plans)
    _show_split(best, trained)
    typer.echo(f"Report: {study_directory / 'report.html'}")


def _planned_split(record: PlanRecord, predictions: PredictionsRecord) -> Prediction:
    """Return the split that the plan chose or wants to have trained; the most accurate where it is none.

    Among equally accurate splits, that is the one that asks least of the device.
    """
    chosen = None if record.answer.chosen is None else record.placement(record.answer.chosen).cut
    wanted = record.answer.train.cut if record.answer.train is not None else chosen
    return max(
        predictions.predictions,
        key=lambda split: (
            split.cut == wanted,
            split.measurement.accuracy.correct,
            -split.measurement.head_macs,
        ),
    )


def _plan_and_measure(dataset: "Dataset", out: Path, cut: str, progress: Progress) -> list[_LinkPlan]:
    """Plan for the Pi over every link; then plan for this machine with its own profile, and run that plan.

    The Pi's figures are estimates that nobody can check here. Those of this machine are made by the same planner from a
    measured profile, so the comparison tests the planner, the model of the link, and the profile.
    """
    from isplit.runtime.profile.settings import ProfileSettings
    from isplit.workflows.bench import BenchSettings, bench
    from isplit.workflows.profile import profile

    images = _write_images(dataset, out)
    here: ProfileRecord = profile(
        out / "bundle",
        name="here",
        title="this machine",
        pictures=[images],
        settings=ProfileSettings(runs=20, memory=False, energy=False),
        progress=progress,
    )
    link_plans: list[_LinkPlan] = []
    for number, name in enumerate(_LINKS):
        progress("running over shaped links", number, len(_LINKS))
        link = load_link(name, name="link")
        predicted = plan(out / "study", device=here, server=here, link=link, limits=_LIMITS)
        runs = bench(
            out / "bundle",
            images,
            link=link,
            plan=predicted,
            placements=("local", "remote", cut) if name == _ALL_PLACEMENTS_LINK else (cut,),
            settings=BenchSettings(images=_IMAGES if name == _ALL_PLACEMENTS_LINK else _LINK_IMAGES),
        )
        on_pi = plan(out / "study", device=_DEVICE, server=_SERVER, link=link, limits=_LIMITS)
        link_plans.append(_LinkPlan(link=link, pi=on_pi, here=predicted, runs=runs))
    progress("running over shaped links", len(_LINKS), len(_LINKS))
    return link_plans


def _write_images(dataset: "Dataset", out: Path) -> Path:
    """Write some test images as files, in a folder for each class."""
    directory = out / "images"
    for index in dataset.parts["test"][:_IMAGES].tolist():
        folder = directory / dataset.classes[int(dataset.labels[index])]
        folder.mkdir(parents=True, exist_ok=True)
        image = dataset.image(index)
        assert isinstance(image, Image.Image)  # the demo's images are RGB
        image.save(folder / f"{index:04}.png")
    return directory


def _sentence(link_plans: list[_LinkPlan]) -> str:
    """Say what to do over each link."""
    device, server = link_plans[0].pi.machines
    answers = "; ".join(f"over {entry.link.title}, {_answer(entry.pi)}" for entry in link_plans)
    return (
        f"On a {device.title} that shows its images to nobody and may lose 5 points, with a {server.title} as the "
        f"server (estimated): {answers}."
    )


def _answer(record: PlanRecord) -> str:
    """Say what the plan chose, and how long that takes."""
    if record.answer.chosen is None:
        return "nothing keeps the limits"
    chosen = record.placement(record.answer.chosen)
    return f"{action(chosen)} ({milliseconds(chosen.latency_ms)} ms)"


def _show_split(before: Prediction, after: SplitRecord) -> None:
    result = after.measurement
    text = (
        f"Split right after {before.cut}: {before.measurement.accuracy.accuracy:.1%} of the select part before any "
        f"training, {percent_with_interval(result.accuracy)} of the test part after one epoch (the whole model: "
        f"{result.whole.accuracy:.1%}), {result.payload_bytes.mean:.0f} bytes per image."
    )
    console.output().print(text, markup=False, highlight=False)


def _show_plans(link_plans: list[_LinkPlan]) -> None:
    """Print, for each link, the Pi's fastest split beside running it on the device and sending the image."""

    def latency(kind: str, entry: _LinkPlan) -> str:
        placement = entry.best(kind)
        if placement is None:
            return "–"
        return milliseconds(placement.latency_ms) + (" <=" if placement.name == entry.pi.answer.chosen else "")

    columns = [
        Column[_LinkPlan]("link", lambda entry: entry.link.title, words=True),
        Column[_LinkPlan]("rate", lambda entry: rate_text(entry.link.up_bits_per_s)),
        Column[_LinkPlan]("round trip", lambda entry: f"{milliseconds(entry.link.rtt_ms)} ms"),
        Column[_LinkPlan]("split", lambda entry: latency("split", entry)),
        Column[_LinkPlan]("device alone", lambda entry: latency("local", entry)),
        Column[_LinkPlan]("image sent", lambda entry: latency("remote", entry)),
    ]
    title = f"Planned for a {link_plans[0].pi.machines[0].title}, estimated ms of an image (<= the answer)"
    print_table(link_plans, columns, title=title)


@dataclass(frozen=True, kw_only=True)
class _Check:
    """A placement that was planned for this machine, and run on it."""

    link: LinkRecord
    run: PlacementRun


def _show_checks(link_plans: list[_LinkPlan]) -> None:
    """Print predicted beside measured milliseconds of this machine."""
    checks = [_Check(link=entry.link, run=run) for entry in link_plans for run in entry.runs.runs]

    def accuracy(check: _Check) -> str:
        return "–" if check.run.accuracy is None else percent_with_interval(check.run.accuracy)

    columns = [
        Column[_Check]("link", lambda check: check.link.title, words=True),
        Column[_Check]("placement", lambda check: check.run.placement, words=True),
        Column[_Check]("accuracy (95 %)", accuracy),
        Column[_Check]("bytes\nup", lambda check: _rounded(check.run.wire_up_bytes)),
        Column[_Check]("predicted\nms", lambda check: _tenths(check.run.predicted_ms)),
        Column[_Check]("measured\nms", lambda check: _tenths(check.run.from_picture_median_ms)),
    ]
    how = {"namespaces": "network namespaces", "proxy": "a proxy, because namespaces are not allowed here", None: "–"}
    shaping = how[link_plans[0].runs.shaping]
    print_table(checks, columns, title=f"The same plan for this machine, checked; links made by {shaping}")


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _tenths(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"
