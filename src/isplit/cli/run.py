"""Define `isplit run`, which classifies images with a bundle, partly on this device and partly on a server."""

import contextlib
import itertools
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from isplit.cli import console
from isplit.cli.options import Options
from isplit.cli.server_access import AccessChoice
from isplit.errors import OutputError, ServerError
from isplit.records import Answer
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.line_file import LineFile
from isplit.runtime.edge.settings import ProtocolName
from isplit.runtime.edge.sources import open_sources
from isplit.runtime.edge.summary import Summary
from isplit.runtime.providers import Provider
from isplit.text import terminal_text


def run(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The directory that `isplit export` wrote.")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES|DIR|VIDEO|camera", help="The images to classify; camera:1 is the second camera."
        ),
    ],
    *,
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The address of `isplit serve`.")] = None,
    placement: Annotated[
        str | None,
        typer.Option(help="The placement: a cut, remote or local. Default: the bundle's first cut, or local."),
    ] = None,
    deadline_ms: Annotated[
        float | None, typer.Option(help="The time limit for each image, from when it is taken until its answer.")
    ] = None,
    depth: Annotated[int, typer.Option(help="The largest number of images that are processed at a time.")] = 2,
    require_server: Annotated[
        bool | None,
        typer.Option(
            "--require-server/--no-require-server",
            help="Ask the server once before the first image, and stop if it cannot be used. This is the default with "
            "--server. Use --no-require-server for a device that must start before its server.",
            show_default=False,
        ),
    ] = None,
    no_fallback: Annotated[
        bool, typer.Option("--no-fallback", help="Do not run the whole model on this device when the server fails.")
    ] = False,
    access: Annotated[AccessChoice, Options()],
    wire: Annotated[
        str,
        typer.Option(
            metavar="payload|latent",
            help="The form of latents: payload (entropy-coded), or latent (uint8) for servers other than isplit's.",
        ),
    ] = "payload",
    protocol: Annotated[
        str,
        typer.Option(
            metavar="auto|grpc|lean",
            help="auto (isplit's lean wire, which costs fewer bytes, where the server speaks it, else grpc), grpc (for "
            "any server) or lean (nothing else).",
        ),
    ] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads that run the head of one image.")] = 1,
    provider: Annotated[
        Provider,
        typer.Option(
            help="The execution provider that runs the models here. If the installed onnxruntime lacks it, the CPU "
            "runs them, and every answer says so. auto: CUDA if available."
        ),
    ] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many images.")] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not hash the bundle's files, for a quicker start.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the answers to this file as JSON lines.")
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="Include the logits in every JSON line.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON lines.")] = False,
    quiet: console.QuietOption = False,
) -> None:
    """Classify IMAGES with the head on this device and the tail on the server. Every image gets one answer.

    The exit code is 1 if an image could not be answered, because its file is damaged, or because the server failed and
    there is no fallback. The answers say why.

    Example: isplit run bundle photos --server 192.168.1.20:8001
    """
    _silence_libraries()
    pictures = itertools.islice(open_sources(images, notify=None if quiet else _notify), limit)
    client = _open_client(
        bundle,
        server,
        require_server=require_server,
        placement=placement,
        deadline_ms=deadline_ms,
        wire=wire,
        protocol=cast(ProtocolName, protocol),  # the client refuses other words
        logits=logits,
        fallback=not no_fallback,
        token=access.read_token(),
        tls=access.tls_files(),
        insecure=access.insecure,
        threads=threads,
        provider=provider,
        verify=not no_verify,
    )
    summary = Summary()
    with client:
        client.warm_up()
        for reason in client.provider_fallbacks:
            typer.echo(f"isplit: the CPU runs the models, not {terminal_text(reason)}", err=True)
        if client.wire_note and not quiet:
            msg = f"isplit: the server is asked over gRPC, not on the lean wire: {terminal_text(client.wire_note)}"
            typer.echo(msg, err=True)
        with _open_output(output) as file:
            printed = _standard_output()
            try:
                for answer in client.run(pictures, depth=depth):
                    summary.add(answer)
                    line = answer.to_line(logits=logits)
                    if file is not None:
                        file.write(line.encode())
                    if json:
                        printed(line.encode())
                    elif not quiet:
                        printed(_in_words(answer))
            finally:
                with contextlib.suppress(OSError):  # standard error may be the full disk's too
                    _show(summary, quiet=quiet)
    if summary.sources["failed"]:
        raise typer.Exit(1)


def _notify(notice: str) -> None:
    typer.echo(f"isplit: {terminal_text(notice)}", err=True)


def _open_client(bundle: Path, server: str | None, **options: Any) -> EdgeClient:
    """Return the client; if its server cannot be used, add to the error how to start without it."""
    try:
        return EdgeClient(bundle, server, **options)
    except ServerError as error:
        msg = f"{error} (--no-require-server starts without it)"
        raise ServerError(msg) from error


def _silence_libraries() -> None:
    """Keep messages of Pillow and gRPC on damaged bytes off the terminal, because answers hold the reason, escaped."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for name in ("PIL", "grpc"):
        logging.getLogger(name).addHandler(logging.NullHandler())


def _open_output(path: Path | None) -> contextlib.AbstractContextManager[LineFile | None]:
    return contextlib.nullcontext() if path is None else LineFile.create(path)


def _standard_output() -> Callable[[str | bytes], None]:
    """Return a function that prints one line, completely or not at all if standard output is a file."""
    try:
        sys.stdout.flush()
        lines = LineFile(sys.stdout.fileno(), name="standard output")
        encoding = sys.stdout.encoding
    except (AttributeError, OSError, ValueError):  # closed, or replaced by an object that is no file
        return lambda line: typer.echo(line.decode() if isinstance(line, bytes) else line, nl=False)

    def write(line: str | bytes) -> None:
        try:
            lines.write(line.encode(encoding, "backslashreplace") if isinstance(line, str) else line)
        except OutputError as error:
            if isinstance(error.__cause__, BrokenPipeError):
                raise error.__cause__ from None  # `isplit run ... | head`: the reader left, which is no failure
            raise

    return write


def _in_words(answer: Answer) -> str:
    """Return one line for people: the class and its probability, the source, the time, and the reason."""
    what = "no answer" if answer.class_name is None else f"{answer.class_name} ({answer.probability:.0%})"
    late = ", late" if answer.late else ""
    reason = f": {answer.reason}" if answer.reason else ""
    line = f"{answer.image}  {what}  {answer.source}, {answer.timings.total_ms:.1f} ms{late}{reason}"
    return terminal_text(line) + "\n"


def _show(summary: Summary, *, quiet: bool) -> None:
    """Print the times of the parts, and last the number of answers of each source, to standard error.

    With `quiet`, nothing is printed unless answers failed, came from a fallback, or ran on another provider.
    """
    if quiet and not summary.amiss and not summary.provider_fallbacks:
        return
    err = Console(stderr=True)
    if summary.answers and not quiet:
        err.print(_times(summary), markup=False)
    sources = ", ".join(f"{count} {source}" for source, count in summary.sources.most_common())
    late = f"; {summary.late} late" if summary.late else ""
    sizes = summary.payload_bytes
    sent = f"; {sum(sizes) / len(sizes):.0f} payload bytes on average" if sizes else ""
    for reason, count in summary.provider_fallbacks.items():
        typer.echo(f"{count} answers from the CPU, not from {terminal_text(reason)}", err=True)
    if summary.last_reason:
        typer.echo(f"the last reason: {terminal_text(summary.last_reason)}", err=True)
    typer.echo(f"{summary.answers} answers: {sources}{late}{sent}" if sources else "no answers", err=True)


def _times(summary: Summary) -> Table:
    """Return the parts' times as a table."""
    table = Table(title=f"Time of {summary.answers} answers", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("part", "answers", "median ms", "p95 ms"):
        table.add_column(name, justify="left" if name == "part" else "right", no_wrap=True)
    for part in summary.parts():
        table.add_row(part.name.replace("_", " "), str(part.answers), f"{part.median_ms:.2f}", f"{part.p95_ms:.2f}")
    return table
