"""What the verbs share: options, progress on standard error, tables on standard output."""

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from isplit.errors import InputError, needs_extra
from isplit.records import Candidate, GraphRecord, StudyRecord

if TYPE_CHECKING:
    from isplit.design.models import LoadedModel

ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="torchvision:NAME, timm:NAME, package.module:factory or ./file.py:factory."),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(help="A .safetensors or .pth state dictionary, or 'default' for the library's own download."),
]
NumClassesOption = Annotated[int | None, typer.Option(help="Replace the classifier by one of so many outputs.")]
ImageSizeOption = Annotated[int | None, typer.Option(help="Height and width of the model's input, in pixels.")]
ChannelsOption = Annotated[int | None, typer.Option(help="1 for grey images, 3 for RGB.")]
MeanOption = Annotated[str | None, typer.Option(help="Mean per channel for normalisation, e.g. 0.485,0.456,0.406.")]
StdOption = Annotated[str | None, typer.Option(help="Standard deviation per channel for normalisation.")]
PreActivationOption = Annotated[bool, typer.Option("--pre-activation", help="Add the points before activations.")]
AllCutsOption = Annotated[bool, typer.Option("--all-cuts", help="List every cut, those with several tensors too.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no tables.")]
StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="The directory that `isplit analyze` wrote.")]


def load_model(
    spec: str,
    *,
    weights: str | None,
    num_classes: int | None,
    image_size: int | None,
    channels: int | None,
    mean: str | None,
    std: str | None,
) -> "LoadedModel":
    """Load a model as the command line describes it."""
    with needs_extra("design"):
        from isplit import api
    return api.load_model(
        spec,
        weights=weights,
        num_classes=num_classes,
        image_size=image_size,
        channels=channels,
        mean=_numbers(mean, "--mean"),
        std=_numbers(std, "--std"),
    )


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        msg = f"{option} is {text!r}; give numbers separated by commas, for example 0.485,0.456,0.406"
        raise InputError(msg) from None


def say(text: str, *, quiet: bool) -> None:
    """Print a line for people to standard error, so that --json leaves standard output to the record."""
    if not quiet:
        Console(stderr=True, soft_wrap=True).print(text, markup=False, highlight=False)


@contextmanager
def progress_bars(*, quiet: bool) -> Generator[Callable[[str, int, int], None]]:
    """Show a bar on standard error for each thing that is being done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show


def show_study(study: StudyRecord) -> str:
    """Say how good the model is on the test part."""
    base = study.base_accuracy
    return (
        f"base accuracy {base.accuracy:.1%} on {base.images} test images "
        f"(95 % interval {base.low:.1%} to {base.high:.1%}; guessing {study.chance_accuracy:.1%})"
    )


def show_candidates(candidates: Sequence[Candidate], title: str) -> None:
    """Print a ranking as a table."""
    table = Table(title=title, title_justify="left")
    for name, justify in (
        ("rank", "right"),
        ("split right after", "left"),
        ("log10 importance", "right"),
        ("KiB (fp32)", "right"),
        ("head MACs", "right"),
        ("found by", "left"),
    ):
        table.add_column(name, justify=justify, no_wrap=name != "found by")  # type: ignore[arg-type]
    for candidate in candidates:
        rules = ", ".join(candidate.found_by) + (" (not settled)" if candidate.settled is False else "")
        log10_cui = "" if candidate.log10_cui is None else f"{candidate.log10_cui:.2f}"
        table.add_row(
            str(candidate.rank),
            candidate.cut,
            log10_cui,
            f"{candidate.bytes / 1024:.1f}",
            f"{candidate.head_mac_share:.0%}",
            rules,
        )
    Console().print(table, markup=False)


def show_cuts(graph: GraphRecord) -> None:
    """Print a model's cuts as a table."""
    heading = (
        f"captured with {graph.captured_by}; {graph.macs / 1e6:,.1f} M MACs, {graph.parameters:,} parameters, "
        f"input {'×'.join(map(str, graph.input_shape))} ({graph.input_bytes / 1024:.1f} KiB as fp32)"
    )
    table = Table(title=heading, title_justify="left")
    for name in ("cut", "crosses", "KiB (fp32)", "head MACs", "", "head params", "head peak MiB", "tail peak MiB"):
        table.add_column(name, justify="left" if name in ("cut", "crosses") else "right", no_wrap=name == "cut")
    for cut in graph.cuts:
        table.add_row(
            cut.name,
            " + ".join("×".join(map(str, tensor.shape)) for tensor in cut.crossing),
            f"{cut.bytes / 1024:.1f}",
            f"{cut.head_macs / 1e6:,.1f} M",
            f"{cut.head_macs / graph.macs:.0%}" if graph.macs else "",
            f"{cut.head_parameters:,}",
            f"{cut.head_peak_bytes / 2**20:.2f}",
            f"{cut.tail_peak_bytes / 2**20:.2f}",
        )
    console = Console()
    console.print(table, markup=False)
    for name, items in (("MACs not counted", graph.uncounted), ("cannot be cut", graph.unavailable)):
        for item in items:
            console.print(f"{name}: {item if isinstance(item, str) else f'{item.name}: {item.reason}'}", markup=False)
