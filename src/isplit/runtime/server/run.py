"""Run a server until the process is asked to stop, or in a thread while a block runs."""

import asyncio
import logging
import threading
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import Any

from isplit.errors import InputError
from isplit.runtime.memory import allow_files, bound_arenas
from isplit.runtime.server.log import event
from isplit.runtime.server.models import EngineFactory
from isplit.runtime.server.security import ServerTls
from isplit.runtime.server.server import Bundles, Server
from isplit.runtime.server.settings import ServerSettings
from isplit.runtime.server.signals import heard

_FILES = 8192
"""Enough for all connections that the front keeps, and for the files that the server itself opens."""


async def serve(
    bundles: Bundles,
    settings: ServerSettings,
    *,
    make_engine: EngineFactory | None = None,
    started: Callable[[Server], None] = lambda server: None,
    reload: Callable[[], tuple[ServerTls | None, str | None]] | None = None,
) -> bool:
    """Serve until SIGTERM or SIGINT, then drain; return whether every accepted request was answered.

    A second signal ends the draining; requests that are not answered by then end with UNAVAILABLE. If a computation
    keeps the event loop from hearing of it for two seconds, the process ends with exit code 1. `started` is called once
    the server listens. On SIGHUP, `reload` returns the new certificate and token. If it raises InputError, the error is
    logged, and nothing changes.

    Raises:
        BundleError: a file of the bundle is not what its manifest says.
        InputError: the address or a certificate cannot be used.

    Examples:
        >>> def stop(server):
        ...     os.kill(os.getpid(), signal.SIGTERM)
        >>> bundle = isplit.Bundle.open("bundle")
        >>> asyncio.run(isplit.serve(bundle, isplit.ServerSettings(port=0), started=stop))
        True

    """
    bound_arenas()
    allow_files(_FILES)
    async with AsyncExitStack() as resources:
        signals = resources.enter_context(heard(reload=reload is not None))
        server = await resources.enter_async_context(Server(bundles, settings, make_engine=make_engine))
        if reload is not None:
            task = asyncio.create_task(_reload_when_asked(server, signals.reload, reload))
            resources.callback(task.cancel)
        started(server)
        await signals.stop.wait()
        drain = asyncio.create_task(server.drain())
        insist = asyncio.create_task(signals.stop_at_once.wait())
        await asyncio.wait((drain, insist), return_when=asyncio.FIRST_COMPLETED)
        insist.cancel()
        if not drain.done():
            drain.cancel()
            return False
        return drain.result()


async def _reload_when_asked(
    server: Server, asked: asyncio.Event, reload: Callable[[], tuple[ServerTls | None, str | None]]
) -> None:
    while await asked.wait():
        asked.clear()
        _reload(server, reload)


def _reload(server: Server, reload: Callable[[], tuple[ServerTls | None, str | None]]) -> None:
    try:
        server.reload(*reload())
    except InputError as error:
        event("nothing was reloaded", level=logging.ERROR, reason=str(error))


@contextmanager
def serving(
    bundles: Bundles,
    settings: ServerSettings | None = None,
    /,
    *,
    make_engine: EngineFactory | None = None,
    **changes: Any,
) -> Generator[Server]:
    """Serve bundles in a thread while the block runs, on any free port unless `port` is given.

    `changes` are fields of ServerSettings. Requests that are not answered when the block ends are refused.

    Raises:
        BundleError: a file of the bundle is not what its manifest says.
        InputError: the settings, the address or a certificate cannot be used.

    Examples:
        >>> bundle = isplit.Bundle.open("bundle")
        >>> with isplit.serving(bundle) as server, isplit.EdgeClient(bundle, f"127.0.0.1:{server.port}") as client:
        ...     client.classify("photos/test/bars/00.png").source
        'split'

    """
    chosen = replace(settings or ServerSettings(port=0), **changes)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="isplit-server", daemon=True)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    try:
        server = Server(bundles, chosen, make_engine=make_engine)
        run(server.start())
        try:
            yield server
        finally:
            run(server.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
