"""What all verbs share: common arguments, and where results, messages and progress go."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from isplit.cli.option_names import with_options_of_verb
from isplit.errors import needs_extra
from isplit.progress_bars import ProgressBars
from isplit.text import terminal_text

StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="The directory that `isplit analyze` wrote.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the record as JSON, and nothing else.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print neither progress nor tables.")]
WideOption = Annotated[
    bool, typer.Option("--wide", help="Show all columns of tables, which then need more than 80 characters.")
]

_PIPE_WIDTH = 160


def output() -> Console:
    """Return a console on standard output: as wide as the terminal, and wide enough for any table in a file or pipe."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(width=width)


def print_text(text: str) -> None:
    """Print a line to standard output as it is, with what would move the terminal's cursor escaped.

    Names and titles in files that people share may hold such characters.
    """
    output().print(terminal_text(text, keep="\n"), markup=False, highlight=False)


def record_text(text: str) -> str:
    """Return a note or warning of a record as one line that names options instead of arguments.

    Notes repeat names of files. A line break in a name must not begin a line that looks like one of isplit's own.
    """
    return terminal_text(with_options_of_verb(text))


def say(text: str, *, quiet: bool) -> None:
    """Print a line for people to standard error, so that --json leaves standard output to the record."""
    if not quiet:
        Console(stderr=True, soft_wrap=True).print(text, markup=False, highlight=False)


def say_device(setting: str, *, quiet: bool) -> None:
    """Say where it is computed, before any work: the first line of a verb that computes with torch.

    Raises:
        InputError: there is no such device here.

    """
    with needs_extra("design"):
        from isplit.design.devices import describe_device, resolve_device
    say(f"Computing on {describe_device(resolve_device(setting))}.", quiet=quiet)


def progress_bars(*, quiet: bool) -> ProgressBars:
    """Return a context that shows on standard error how far work has come: bars in a terminal, else lines.

    Messages meanwhile go through its `say`, which prints above the bars. Results are printed after it ends.
    """
    return ProgressBars(enabled=not quiet)
