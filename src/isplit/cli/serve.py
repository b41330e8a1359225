"""Define `isplit serve`, which answers devices with the tails of a bundle."""

import asyncio
import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isplit.cli.config_file import config_reader
from isplit.cli.verbs import fail
from isplit.errors import InputError
from isplit.runtime.providers import Provider

if TYPE_CHECKING:
    from isplit.runtime.server import Server

_PATHS = ("bundles", "tls_cert", "tls_key", "tls_client_ca", "token_file")
_Level = Literal["debug", "info", "warning", "error"]


def serve(
    bundles: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BUNDLE",
            help="Directories that `isplit export` wrote. With --ray, the cluster's HOST:PORT may come last.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            is_eager=True,
            callback=config_reader(_PATHS),
            help="A YAML file with these options under the same names, and `bundles`. The command line has priority.",
        ),
    ] = None,
    ray: Annotated[
        bool,
        typer.Option("--ray", help="Compute on Ray Serve replicas, at HOST:PORT or on the cluster that runs here."),
    ] = False,
    ray_replicas: Annotated[
        int, typer.Option(help="With --ray: the largest number of replicas, which grows with the load.")
    ] = 4,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 or :: listens on all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one and prints it.")] = 8001,
    tls_cert: Annotated[Path | None, typer.Option(help="The server's certificate chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The private key of the certificate (PEM).")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Require devices to present a certificate of this CA (mutual TLS).")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="Require devices to send the bearer token in this file.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen to other machines without TLS or token.")
    ] = False,
    max_batch: Annotated[
        int, typer.Option(help="The largest number of images in a batch and in a request; 1 switches batching off.")
    ] = 32,
    max_queue: Annotated[
        int, typer.Option(help="The largest number of images that wait for one model. More are refused.")
    ] = 256,
    threads: Annotated[int, typer.Option(help="Threads of onnxruntime for one batch.")] = 1,
    provider: Annotated[
        Provider,
        typer.Option(
            help="The execution provider that runs the models. If the installed onnxruntime lacks it, the CPU runs "
            "them, and the log says so. auto: CUDA if available."
        ),
    ] = "auto",
    metrics_port: Annotated[int | None, typer.Option(help="Serve Prometheus metrics on this port.")] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address of the metrics, which are served without TLS.")
    ] = "127.0.0.1",
    drain_seconds: Annotated[float, typer.Option(help="How long to finish accepted requests after SIGTERM.")] = 10.0,
    max_connections: Annotated[
        int,
        typer.Option(
            help="The largest number of open connections. Beyond it, a new one replaces the least useful one."
        ),
    ] = 1024,
    receive_seconds: Annotated[
        float, typer.Option(help="How long the message of a request may take to arrive.")
    ] = 10.0,
    log_level: Annotated[_Level, typer.Option(help="Lowest level of the JSON lines on standard error.")] = "info",
) -> None:
    """Answer devices that run BUNDLE's heads, on the lean wire or over gRPC (Open Inference Protocol v2).

    SIGHUP makes the server read the certificates and the token again. SIGTERM and Ctrl-C finish accepted requests; a
    second signal ends the server at once.

    Example: isplit serve bundle
    """
    from isplit.runtime.access import MIN_TOKEN_CHARACTERS, read_token
    from isplit.runtime.bundle import Bundle
    from isplit.runtime.server import ServerSettings, ServerTls
    from isplit.runtime.server import serve as run
    from isplit.runtime.server.log import log_to_stderr

    def read_access() -> tuple[ServerTls | None, str | None]:
        tls = ServerTls.from_files(tls_cert, tls_key, tls_client_ca)
        return tls, read_token(token_file, min_characters=MIN_TOKEN_CHARACTERS) if token_file else None

    tls, token = read_access()
    settings = ServerSettings(
        host=host,
        port=port,
        tls=tls,
        token=token,
        insecure=insecure,
        max_batch=max_batch,
        max_queue=max_queue,
        threads=threads,
        provider=provider,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        drain_seconds=drain_seconds,
        max_connections=max_connections,
        receive_seconds=receive_seconds,
    )
    directories, ray_address = _split_address(bundles or [])
    if ray_address and not ray:
        msg = f"got {ray_address!r} after the bundle: a Ray cluster's address needs --ray"
        raise InputError(msg)
    if ray and provider not in ("auto", "cpu"):
        msg = f"got --provider {provider} with --ray: Ray's replicas compute on the CPU"
        raise InputError(msg)
    if not directories:
        msg = "there is no bundle to serve: give its directory, or `bundles` in the file of --config"
        raise InputError(msg)
    opened = [Bundle.open(directory) for directory in directories]
    log_to_stderr(log_level)
    with ExitStack() as resources:
        make_engine = None
        if ray:
            from isplit.runtime.server.ray import ray_engines

            replicas = ray_engines(opened, address=ray_address, max_replicas=ray_replicas, threads=threads)
            make_engine = resources.enter_context(replicas)
        drained = asyncio.run(run(opened, settings, make_engine=make_engine, started=_announce, reload=read_access))
    if not drained:
        msg = "stopped before every accepted request was answered; --drain-seconds allows more time"
        # A thread may still compute what nobody waits for, and the interpreter would wait for it.
        fail(msg, 1, at_once=True)


def _split_address(arguments: list[str]) -> tuple[list[str], str | None]:
    """Tell the address of a Ray cluster, HOST:PORT, from the bundles before it."""
    last = arguments[-1] if arguments else ""
    is_address = bool(re.fullmatch(r"[^/\s]+:\d{1,5}", last)) and not Path(last).exists()
    return (arguments[:-1], last) if is_address else (arguments, None)


def _announce(server: "Server") -> None:
    """Print the server's address in one line, for people and for scripts that wait for it."""
    metrics = f", metrics on port {server.metrics_port}" if server.metrics_port is not None else ""
    typer.echo(f"listening on {server.address}{metrics}: {', '.join(server.models)}")
