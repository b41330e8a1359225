"""isplit run: classify images with a bundle, part of it on this device and part on a server."""

import contextlib
import itertools
from collections.abc import Generator
from pathlib import Path
from typing import IO, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from isplit.cli import console
from isplit.errors import InputError
from isplit.records import Answer
from isplit.runtime.access import read_token
from isplit.runtime.edge.client import EdgeClient
from isplit.runtime.edge.security import Tls
from isplit.runtime.edge.sources import open_sources
from isplit.runtime.edge.summary import Summary


def run(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The directory that `isplit export` wrote.")],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES|DIR|VIDEO|camera", help="What to classify; camera:1 is the second.")
    ],
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where `isplit serve` runs.")] = None,
    placement: Annotated[
        str | None, typer.Option(help="A cut, remote or local. Default: the bundle's first cut, or local.")
    ] = None,
    deadline_ms: Annotated[float | None, typer.Option(help="Per image, from when it is taken to its answer.")] = None,
    depth: Annotated[int, typer.Option(help="Images under way at once.")] = 2,
    no_fallback: Annotated[
        bool, typer.Option("--no-fallback", help="Never run the whole model here when the server fails.")
    ] = False,
    token_file: Annotated[Path | None, typer.Option(help="A file with the server's bearer token.")] = None,
    tls: Annotated[bool, typer.Option("--tls", help="TLS, trusting the system's certificate authorities.")] = False,
    tls_ca: Annotated[Path | None, typer.Option(help="TLS, trusting the authorities in this PEM file.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="This device's certificate (PEM), for mutual TLS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the token over a network without TLS all the same.")
    ] = False,
    wire: Annotated[
        str, typer.Option(help="payload (entropy-coded), or latent (plain uint8) for servers other than isplit's.")
    ] = "payload",
    threads: Annotated[int, typer.Option(min=1, help="Threads for one image's head.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many images.")] = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not hash the bundle's files: a quicker start.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write JSON lines here.")] = None,
    logits: Annotated[bool, typer.Option("--logits", help="With the logits in every JSON line.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON lines.")] = False,
    quiet: console.QuietOption = False,
) -> None:
    """Classify IMAGES: the head runs here, the tail on the server; every image gets one answer.

    Exits 1 when an image could not be answered: a damaged file, or a server that fails and no model here to fall back
    on. The reasons are in the answers.
    """
    with_tls = tls or any((tls_ca, tls_cert, tls_key))
    pictures = itertools.islice(open_sources(images), limit)
    client = EdgeClient(
        bundle,
        server,
        placement=placement,
        deadline_ms=deadline_ms,
        wire=wire,  # type: ignore[arg-type] - the client checks it
        fallback=not no_fallback,
        token=None if token_file is None else read_token(token_file),
        tls=Tls(ca=tls_ca, cert=tls_cert, key=tls_key) if with_tls else None,
        insecure=insecure,
        threads=threads,
        verify=not no_verify,
    )
    summary = Summary()
    with client, _open_output(output) as file:
        client.warm_up()
        try:
            for answer in client.run(pictures, depth=depth):
                summary.add(answer)
                line = answer.to_line(logits=logits)
                if file is not None:
                    file.write(line)
                    file.flush()  # so that Ctrl-C, or a power cut, keeps what was done
                if json:
                    typer.echo(line, nl=False)
                elif not quiet:
                    typer.echo(_in_words(answer))
        finally:
            if not quiet:
                _show(summary)
    if summary.sources["failed"]:
        raise typer.Exit(1)


@contextlib.contextmanager
def _open_output(path: Path | None) -> Generator[IO[str] | None]:
    if path is None:
        yield None
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}"
        raise InputError(msg) from error
    with file:
        yield file


def _in_words(answer: Answer) -> str:
    """One line for people: what it is, how sure, from where, how long, and why not as asked."""
    what = "no answer" if answer.class_name is None else f"{answer.class_name} ({answer.probability:.0%})"
    late = ", late" if answer.late else ""
    reason = f": {answer.reason}" if answer.reason else ""
    return f"{answer.image}  {what}  {answer.source}, {answer.timings.total_ms:.1f} ms{late}{reason}"


def _show(summary: Summary) -> None:
    """Print the parts' times and where the answers came from to standard error."""
    table = Table(title=f"Time of {summary.answers} answers", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("part", "answers", "median ms", "p95 ms"):
        table.add_column(name, justify="left" if name == "part" else "right", no_wrap=True)
    for part in summary.parts():
        table.add_row(part.name.replace("_", " "), str(part.answers), f"{part.median_ms:.2f}", f"{part.p95_ms:.2f}")
    err = Console(stderr=True)
    if summary.answers:
        err.print(table, markup=False)
    sources = ", ".join(f"{count} {source}" for source, count in summary.sources.most_common())
    late = f"; {summary.late} late" if summary.late else ""
    sizes = summary.payload_bytes
    sent = f"; {sum(sizes) / len(sizes):.0f} payload bytes on average" if sizes else ""
    err.print(f"{summary.answers} answers: {sources}{late}{sent}" if sources else "no answers", markup=False)
