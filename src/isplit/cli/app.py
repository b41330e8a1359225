"""The application that holds the verbs, and what becomes of their errors."""

import contextlib
import functools
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer

from isplit.cli import analyze, cuts, demo, export, fit, plan, predict, report, run, serve, verify
from isplit.errors import InputError, IsplitError
from isplit.text import terminal_text

app = typer.Typer(
    name="isplit",
    help="Find where to split a neural network between a device and a server, before anything is trained.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


_KEPT: dict[Callable[..., None], str] = {
    analyze.analyze: "; what was computed is kept, run the same command again to go on",
    predict.predict: "; what was predicted before is kept",
    fit.fit: "; whole epochs are kept, run the same command again to go on",
    verify.verify: "; what was trained is kept, run the same command again to go on",
    run.run: "; the answers given so far are kept",
}


def _interruptible(verb: Callable[..., None]) -> Callable[..., None]:
    """Say on Ctrl-C that the verb was stopped, and what is kept: typer would exit without a word."""
    kept = _KEPT.get(verb, "")

    @functools.wraps(verb)
    def interruptible(*args: object, **kwargs: object) -> None:
        try:
            verb(*args, **kwargs)
        except KeyboardInterrupt:
            leave = _leave if verb is run.run else sys.exit
            _fail(f"stopped{kept}", 130, leave=leave)

    return interruptible


for _verb in (
    analyze.analyze,
    cuts.cuts,
    predict.predict,
    fit.fit,
    verify.verify,
    plan.plan,
    report.report,
    demo.demo,
    export.export,
    run.run,
    serve.serve,
):
    app.command()(_interruptible(_verb))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.import_module("importlib.metadata").version("isplit"))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find where to split a neural network between a device and a server, before anything is trained."""


def main() -> None:
    """Run a command; exit 0 when it is done, 2 on bad input, 1 on failure, 130 on Ctrl-C."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        _fail(str(error), 2)
    except IsplitError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        # The reader of our output has gone (`isplit … | head`); that is no failure of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the last resort: whatever is not an error of ours is a fault of ours
        if os.environ.get("ISPLIT_TRACEBACK") == "1":
            traceback.print_exc()
        message = " ".join(f"{type(error).__name__}: {error}".split())
        _fail(f"this is a fault of isplit, please report it: {message} (ISPLIT_TRACEBACK=1 shows where)", 1)


def _leave(code: int) -> None:
    """End the process without waiting for its threads: one may be in a request, or stand still for good.

    An interrupt that comes while the main thread takes or gives back a lock leaves it taken, and the interpreter waits
    for every thread that wants it.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _fail(message: str, code: int, *, leave: Callable[[int], object] = sys.exit) -> None:
    # A message may quote a file name or a server. It cannot be shown where standard error is closed, or on a full disk.
    with contextlib.suppress(OSError):
        typer.echo(f"isplit: {terminal_text(message, keep=chr(10))}", err=True)
    leave(code)
