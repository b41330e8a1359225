"""isplit probe: measure the link to a server, for `isplit plan`."""

from pathlib import Path
from typing import Annotated

import typer

from isplit.cli import console
from isplit.cli.options import Options
from isplit.cli.server_access import AccessChoice
from isplit.plan.units import rate_text
from isplit.records import LinkRecord, check_shared_path, write_shared
from isplit.runtime.edge.probe import ProbeSettings
from isplit.runtime.edge.probe import probe as measure


def probe(
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The address of `isplit serve`.")],
    settings: Annotated[ProbeSettings, Options("Measurement")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The link to write.")] = Path("link.json"),
    title: Annotated[str | None, typer.Option(help="The link's name for people.")] = None,
    access: Annotated[AccessChoice, Options()],
    json: console.JsonOption = False,
    quiet: console.QuietOption = False,
) -> None:
    """Measure the link from this machine to a server: rates both ways, round trip, jitter and loss.

    The server has to be `isplit serve`, which limits the bytes that can be asked of it.

    Example: isplit probe 192.168.1.20:8001 -o link.json
    """
    check_shared_path(out, LinkRecord)
    record = measure(
        server,
        name=out.stem[:100] or "probed",
        title=title,
        token=access.read_token(),
        tls=access.tls_files(),
        insecure=access.insecure,
        settings=settings,
    )
    path = write_shared(record, out)
    if json:
        typer.echo(record.to_json(), nl=False)
    elif not quiet:
        show_link(record)
        typer.echo(f"link: {path}")


def show_link(record: LinkRecord) -> None:
    """Print the figures of a link that was probed, and how its loss was estimated."""
    assert record.probe is not None
    typer.echo(f"up {rate_text(record.up_bits_per_s)}, down {rate_text(record.down_bits_per_s)}")
    typer.echo(f"round trip {record.rtt_ms:.2f} ms, jitter {record.jitter_ms:.2f} ms, loss {record.loss_up:.2%}")
    console.print_text(f"Loss: {record.probe.loss_method}.")
