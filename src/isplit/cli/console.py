"""What the verbs share: options, progress on standard error, tables on standard output."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from isplit.errors import InputError, needs_extra
from isplit.progress_bars import progress_bars as bars
from isplit.records import CandidatesRecord, GraphRecord, Rule, StudyRecord

if TYPE_CHECKING:
    from isplit.design.inputs.models import LoadedModel

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
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
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
        mean=mean,
        std=std,
    )


def parse_numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """Read numbers separated by commas.

    Raises:
        InputError: they are none; `option` is where they were given.

    """
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        msg = f"{option} is {text!r}; give numbers separated by commas, for example 0.485,0.456,0.406"
        raise InputError(msg) from None


def parse_count(text: str, option: str) -> int | None:
    """Read a number, or None for "all".

    Raises:
        InputError: it is neither; `option` is where it was given.

    """
    if text == "all":
        return None
    try:
        return int(text)
    except ValueError:
        msg = f"{option} is {text!r}; give a number or 'all'"
        raise InputError(msg) from None


def output() -> Console:
    """Return a console on standard output: as wide as the terminal, and wide enough for any table in a file or pipe."""
    return Console(width=None if sys.stdout.isatty() else 160)


def say(text: str, *, quiet: bool) -> None:
    """Print a line for people to standard error, so that --json leaves standard output to the record."""
    if not quiet:
        Console(stderr=True, soft_wrap=True).print(text, markup=False, highlight=False)


def progress_bars(*, quiet: bool) -> AbstractContextManager[Callable[[str, int, int], None]]:
    """Return a context that shows a bar on standard error for each thing that is being done."""
    return bars(enabled=not quiet and sys.stderr.isatty())


def show_study(study: StudyRecord) -> str:
    """Say how good the model is on the test part."""
    base = study.base_accuracy
    return (
        f"base accuracy {base.accuracy:.1%} on {base.images} test images "
        f"(95 % interval {base.low:.1%} to {base.high:.1%}; guessing {study.chance_accuracy:.1%})"
    )


_METHODS = {"cui": "CUI"}
_RULES: dict[Rule, str] = {
    "importance-maximum": "maximum",
    "natural-bottleneck": "natural bottleneck",
    "size-minimum": "size minimum",
    "above-trend": "above trend",
}


def show_candidates(ranking: CandidatesRecord) -> None:
    """Print a ranking as a table."""
    score = f"log10 {_METHODS.get(ranking.method, ranking.method)}"
    table = Table(title="Split points, first choice first", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("rank", "split right after", score, "KiB, fp32", "head MACs", "found by"):
        words = name in ("split right after", "found by")
        table.add_column(name, justify="left" if words else "right", no_wrap=name != "found by")
    for candidate in ranking.candidates:
        rules = ", ".join(_RULES[rule] for rule in candidate.found_by)
        table.add_row(
            str(candidate.rank),
            candidate.cut,
            "" if candidate.log10_cui is None else f"{candidate.log10_cui:.2f}",
            f"{candidate.bytes / 1024:.1f}",
            f"{candidate.head_mac_share:.0%}",
            rules + (" (not settled)" if candidate.settled is False else ""),
        )
    output().print(table, markup=False)


def _short(number: int) -> str:
    """Write a count with three digits and a unit: 11.7M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)


def show_cuts(graph: GraphRecord) -> None:
    """Print a model's cuts as a table."""
    size = "×".join(map(str, graph.input_shape))
    heading = (
        f"captured with {graph.captured_by}; {_short(graph.macs)} MACs, {_short(graph.parameters)} parameters; "
        f"input {size}, {graph.input_bytes / 1024:.0f} KiB as fp32"
    )
    table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("cut", "crosses", "KiB", "head MACs", "", "params", "peak MiB"):
        words = name in ("cut", "crosses")
        table.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for cut in graph.cuts:
        table.add_row(
            cut.name,
            " + ".join("×".join(map(str, tensor.shape)) for tensor in cut.crossing),
            f"{cut.bytes / 1024:.1f}",
            _short(cut.head_macs),
            f"{cut.head_macs / graph.macs:.0%}" if graph.macs else "",
            _short(cut.head_parameters),
            f"{cut.head_peak_bytes / 2**20:.2f} | {cut.tail_peak_bytes / 2**20:.2f}",
        )
    console = output()
    console.print(table, markup=False)
    console.print("params and peak activations are the head's; peak MiB: head | tail", markup=False)
    for name, items in (("MACs not counted", graph.uncounted), ("cannot be cut", graph.unavailable)):
        for item in items:
            console.print(f"{name}: {item if isinstance(item, str) else f'{item.name}: {item.reason}'}", markup=False)
