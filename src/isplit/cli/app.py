"""The application that holds the verbs, and what becomes of their errors."""

import os
import sys
import traceback
import warnings
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from isplit.cli.verbs import VERBS, fail, load_verb, new_typer
from isplit.errors import DamagedSplitWarning, InputError, IsplitError
from isplit.text import terminal_text

_HELP = """Find where to split a neural network between a device and a server, before anything is trained.

A model and its data become a study, a study becomes a bundle, and a device and a server run the bundle.
"""
_EPILOG = """\b
Example:
  isplit demo
  isplit analyze torchvision:resnet50 photos.zip --weights default -o study
  isplit predict study --bytes 512
  isplit plan study --device pi4 --link 4g
  isplit fit study --cut layer2.3 --bytes 512
  isplit export study --cut layer2.3 -o bundle
  isplit serve bundle
  isplit run bundle photos --server HOST:8001

"isplit VERB --help" explains a verb. "isplit --install-completion" makes the Tab key complete verbs and options in
your shell.
"""


class _Verbs(TyperGroup):
    """The verbs, of which only the one that runs is imported."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for verb in VERBS:
            self.add_command(TyperCommand(verb.name, help=verb.summary), verb.name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load_verb(next(verb for verb in VERBS if verb.name == name)), rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Verbs, in the order of the work"):
            formatter.write_dl([(verb.name, verb.summary) for verb in VERBS])


app = new_typer(
    name="isplit",
    cls=_Verbs,
    help=_HELP,
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=True,
    subcommand_metavar="VERB [ARGS]...",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import isplit

        typer.echo(isplit.__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a verb."""


_show_other_warning = warnings.showwarning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours as one line for people, and any other as Python does."""
    if issubclass(category, DamagedSplitWarning):
        typer.echo(f"warning: {terminal_text(str(message))}", err=True)
    else:
        _show_other_warning(message, category, filename, lineno, file, line)


def _drop_output() -> None:
    """Send to nowhere what standard output does not take, so that Python does not fail on it once more at its end."""
    output = sys.stdout
    if output is None:
        return
    try:
        output.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def main() -> None:
    """Run a command; exit 0 when it is done, 2 on bad input, 1 on failure, 130 on Ctrl-C."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", DamagedSplitWarning)
            warnings.showwarning = _show_warning
            try:
                app(standalone_mode=True)
            finally:
                if sys.stdout is not None:  # a command may be run with its output closed
                    sys.stdout.flush()  # a full disk behind it is noticed here, not after everything
    except InputError as error:
        fail(str(error), 2)
    except IsplitError as error:
        fail(str(error), 1)
    except BrokenPipeError:
        # The reader of our output has gone (`isplit … | head`); that is no failure of ours.
        _drop_output()
        sys.exit(1)
    except OSError as error:
        # Whatever the machine refuses where no message of its own says so: a full disk behind standard output, say.
        _drop_output()
        where = f" {error.filename}" if error.filename else ""
        fail(f"cannot read or write{where}: {error.strerror or error}", 2)
    except MemoryError as error:
        fail(f"there is not enough memory for this ({error or 'MemoryError'}): use fewer or smaller images", 1)
    except Exception as error:  # noqa: BLE001 - the last resort: whatever is not an error of ours is a fault of ours
        if os.environ.get("ISPLIT_TRACEBACK") == "1":
            traceback.print_exc()
        message = " ".join(f"{type(error).__name__}: {error}".split())
        fail(f"this is a fault of isplit, please report it: {message} (ISPLIT_TRACEBACK=1 shows where)", 1)
