"""The verbs in the order of the work, and how one becomes a command: its module is imported when it runs.

`isplit --help` reads the table alone, so that it answers at once. A new verb is a module `isplit.cli.NAME` with a
function or a `typer.Typer` called NAME, and a line here; `summary` repeats the first sentence of its docstring.
"""

import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from isplit.cli.option_names import running_verb, with_option_names
from isplit.errors import IsplitError
from isplit.text import terminal_text


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A command of the command line.

    Args:
        name: The name of the command and of its module.
        summary: What it does, in one sentence: the first of its help.
        kept: What Ctrl-C leaves, for the message that says that it stopped.
        leaves_threads: True ends the process on Ctrl-C without waiting for threads that stand in a request.

    """

    name: str
    summary: str
    kept: str = ""
    leaves_threads: bool = False


_GO_ON = "run the same command again to go on"
VERBS = (
    Verb(name="demo", summary="Split a small network for handwritten digits, from the curve to answers over a link."),
    Verb(
        name="auto",
        summary="Analyze, predict, plan, train what the plan asks for, and export, in one command.",
        kept=f"what was done is kept, {_GO_ON}",
    ),
    Verb(
        name="data",
        summary="Show how DATA is taken for MODEL: parts, classes beside the model's outputs, and nine images.",
    ),
    Verb(
        name="analyze",
        summary="Rank the cuts of MODEL by how much they matter for its decisions on DATA.",
        kept=f"what was computed is kept, {_GO_ON}",
    ),
    Verb(name="cuts", summary="List the cuts of MODEL with what crosses there and the cost of either side."),
    Verb(
        name="predict",
        summary="Measure every cut of STUDY before any training: accuracy and bytes.",
        kept="what was predicted before is kept",
    ),
    Verb(
        name="fit",
        summary="Train the split of STUDY at one cut or several, and measure it on the test part.",
        kept=f"whole epochs are kept, {_GO_ON}",
    ),
    Verb(
        name="verify",
        summary="Train several cuts of STUDY, and show how well each rule had ranked them beforehand.",
        kept=f"what was trained is kept, {_GO_ON}",
    ),
    Verb(
        name="profile",
        summary="Measure how fast this machine runs the parts of a model, and write a profile for `isplit plan`.",
    ),
    Verb(
        name="probe",
        summary="Measure the link from this machine to a server: rates both ways, round trip, jitter and loss.",
    ),
    Verb(
        name="plan",
        summary="Say where the model of STUDY should run, how fast that is, and whether splitting is worth it.",
    ),
    Verb(
        name="simulate",
        summary="Simulate the placements of a plan with many devices, queues, packets and losses.",
    ),
    Verb(name="export", summary="Write splits of STUDY and the whole model as a bundle that runs without torch."),
    Verb(
        name="serve",
        summary="Answer devices that run BUNDLE's heads, on the lean wire or over gRPC (Open Inference Protocol v2).",
    ),
    Verb(
        name="run",
        summary="Classify IMAGES with the head on this device and the tail on the server. Every image gets one answer.",
        kept="the answers given so far are kept",
        leaves_threads=True,
    ),
    Verb(
        name="bench",
        summary="Measure every placement of BUNDLE on labelled images: accuracy, latency, bytes, processor and memory.",
    ),
    Verb(
        name="service",
        summary="Print or install a systemd unit that keeps `isplit serve` or `isplit run` going.",
    ),
    Verb(
        name="report", summary="Draw the report of STUDY again from its records, without the model and without torch."
    ),
)
"""All verbs, in the order of `isplit --help`: that of the work."""


class VerbCommand(TyperCommand):
    """A verb as a command: its options stand in groups, and its errors and interrupts speak of the command line."""

    verb: Verb

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; errors then name options instead of arguments, and Ctrl-C says what is kept."""
        options = {param.name or "": param.opts[0] for param in self.params if param.opts[0].startswith("--")}
        try:
            with running_verb(options):
                return super().invoke(ctx)
        except IsplitError as error:
            error.args = (with_option_names(str(error), options),)
            raise
        except KeyboardInterrupt:
            fail(f"stopped{f'; {self.verb.kept}' if self.verb.kept else ''}", 130, at_once=self.verb.leaves_threads)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line; only brackets mean something there: what can be left out."""
        return [re.sub(r"[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options below the titles of their groups (typer's `rich_help_panel`)."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is not None:
                default = "Arguments" if param.param_type_name == "argument" else "Options"
                names, text = row
                shown = (_with_placeholder(names, param), text)
                groups.setdefault(getattr(param, "rich_help_panel", None) or default, []).append(shown)
        # What every verb has stands last.
        groups["Options"] = groups.pop("Options")
        for title, rows in groups.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _with_placeholder(names: str, param: Any) -> str:
    """Return the first column of a row of the help with a word for people in place of a Python type.

    A number is N, a path FILE, and words are called like the option ("--metrics-host HOST"). An argument needs no more
    than its own name, and choices stand as they are typed.
    """

    def placeholder(match: re.Match[str]) -> str:
        kind = match[1]
        if "|" in kind:
            return kind
        if kind.startswith(("int", "float")):
            return "N"
        return "FILE" if "path" in kind else param.opts[0].rpartition("-")[2].upper()

    if param.param_type_name == "argument":
        return re.sub(r" <[^<>]+>", "", names)
    return re.sub(r"<([^<>]+)>", placeholder, names)


def load_verb(verb: Verb) -> Any:
    """Import a verb's module and return its command (of a module with verbs of its own, a group).

    Raises:
        ImportError: the module cannot be imported; `VERBS` names one that is not there.

    """
    program: Callable[..., None] | typer.Typer = getattr(import_module(f"isplit.cli.{verb.name}"), verb.name)
    if not isinstance(program, typer.Typer):
        # What makes options of settings loads them.
        from isplit.cli.options import with_options

        function, program = with_options(program), new_typer()
        program.command(verb.name, cls=VerbCommand)(function)
    command = get_command(program)
    command.name = verb.name
    if isinstance(command, VerbCommand):
        command.verb = verb
    return command


def new_typer(**settings: Any) -> typer.Typer:
    """Return a typer application with what all of ours have in common."""
    settings = {"add_completion": False, **settings}
    return typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, **settings)


def fail(message: str, code: int, *, at_once: bool = False) -> None:
    """Print a message to standard error and exit.

    Args:
        message: It may quote a file name or a server: what would move the terminal's cursor is escaped.
        code: The exit code.
        at_once: True ends the process without waiting for its threads.

    """
    # It cannot be shown where standard error is closed, or on a full disk.
    with suppress(OSError):
        typer.echo(f"isplit: {terminal_text(message, keep=chr(10))}", err=True)
    (_leave if at_once else sys.exit)(code)


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
