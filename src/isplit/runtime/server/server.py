"""Load the models, listen, answer, drain, and stop."""

import asyncio
import logging
import os
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from prometheus_client import start_http_server

from isplit.errors import InputError
from isplit.runtime.bundle import Bundle
from isplit.runtime.lean.device_frames import MAX_CONTENT_BYTES
from isplit.runtime.providers import Provider
from isplit.runtime.server.batcher import Batcher, Slots
from isplit.runtime.server.certificate import SOON_DAYS, CertificateState, check_certificate, check_client_ca
from isplit.runtime.server.engine import Engine, OnnxEngine, OnnxTail
from isplit.runtime.server.front.hub import Hub
from isplit.runtime.server.front.limits import FrontLimits
from isplit.runtime.server.front.listener import Listener
from isplit.runtime.server.health import Health
from isplit.runtime.server.log import event
from isplit.runtime.server.metrics import Metrics
from isplit.runtime.server.models import EngineFactory, Hosted, host
from isplit.runtime.server.probe import Probe
from isplit.runtime.server.refusal_log import RefusalLog
from isplit.runtime.server.security import ServerTls
from isplit.runtime.server.service import SERVICE, Decoders, InferenceService
from isplit.runtime.server.settings import ServerSettings

MAX_MESSAGE_BYTES = 2**25
"""Most bytes of a request, however many images a batch may hold. A single image of any model always fits."""

_MESSAGE_OVERHEAD_BYTES = 2**14
"""Most bytes of names, shapes and parameters around the tensors of a request."""

_STOP_GRACE_S = 0.5
"""Seconds for answers that are computed but not yet sent."""


Bundles = Bundle | Sequence[Bundle]
"""One bundle to serve, or several of different names."""


class Server:
    """Serves bundles. Create it in the event loop that it runs in, then `start`, `drain` and `stop` it.

    `make_engine` makes engines that compute the tails elsewhere than in this process; see `ray.py`.

    Raises:
        InputError: On construction, if there is no bundle, or two have the same name.

    """

    def __init__(self, bundles: Bundles, settings: ServerSettings, *, make_engine: EngineFactory | None = None) -> None:
        self._bundles = (bundles,) if isinstance(bundles, Bundle) else tuple(bundles)
        _check_names(self._bundles)
        self._settings = settings
        self._make_engine = make_engine
        self._resources = AsyncExitStack()
        self._metrics = Metrics()
        self._refusals = RefusalLog(self._metrics)
        self._health = Health(("", SERVICE))
        self._service: InferenceService | None = None
        self._models: dict[str, Hosted] = {}
        self._hub: Hub | None = None
        self._listener: Listener | None = None
        self._stopping = False
        self.port = 0
        """The port that the server listens on, once it has started."""
        self.metrics_port: int | None = None
        """The port of the metrics; None if they are not served."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop of the server, once it has started, for callers in other threads."""

    def __repr__(self) -> str:
        return f"Server({', '.join(repr(str(bundle.directory)) for bundle in self._bundles)}, address={self.address!r})"

    @property
    def address(self) -> str:
        """HOST:PORT, as a client takes it."""
        return _join(self._settings.host, self.port)

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models on the wire."""
        return tuple(self._models)

    @property
    def limits(self) -> FrontLimits:
        """The limits of what peers may hold of the server, once it has started."""
        assert self._hub, "start comes first"
        return self._hub.limits

    @property
    def receiving_calls(self) -> int:
        """The number of calls that are still sending their message."""
        return self._hub.receiving.calls if self._hub else 0

    @property
    def message_bytes(self) -> int:
        """The bytes of memory that are reserved for messages which are not computed yet."""
        return self._hub.receiving.bytes if self._hub else 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Load the models and listen.

        Raises:
            BundleError: a file of the bundle is not what its manifest says.
            InputError: the address or a certificate cannot be used.

        """
        self.loop = asyncio.get_running_loop()
        try:
            await self._load()
            await self._listen()
        except BaseException:
            await self._resources.aclose()
            raise
        assert self._service
        self._service.ready = True
        self._health.set_serving(True)
        self._tell_certificate()
        event("listening", address=self.address, metrics_port=self.metrics_port, models=list(self._models))

    def reload(self, tls: ServerTls | None, token: str | None) -> None:
        """Use another certificate from the next connection on, and another token from the next call on.

        Raises:
            InputError: They cannot be used, or the server would no longer be protected; it keeps the old ones.

        """
        assert self._hub, "start comes first"
        assert self._listener
        changed = replace(self._settings, tls=tls, token=token)
        context = tls.context() if tls else None
        if (context is None) != (self._listener.tls is None):
            msg = "a server that listens with TLS cannot go on without it, nor the other way round: start it again"
            raise InputError(msg)
        self._settings = changed
        self._listener.tls = context
        self._hub.set_token(token)
        self._tell_certificate()
        event("reloaded", tls=tls is not None, token=token is not None)

    async def drain(self) -> bool:
        """Accept nothing new, and finish accepted requests within `drain_seconds`; return whether all were finished."""
        assert self._service, "start comes first"
        self._service.ready = False
        self._metrics.draining.set(1)
        self._health.set_serving(False)
        event("draining", seconds=self._settings.drain_seconds)
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._service.idle()
        except TimeoutError:
            event("gave up on requests", waiting=sum(model.batcher.waiting_rows for model in self._models.values()))
            return False
        return True

    async def stop(self) -> None:
        """Close every connection and release everything; requests that still wait are refused."""
        if self._stopping:
            return
        self._stopping = True
        if self._service:
            self._service.ready = False
        self._health.set_serving(False)
        if self._listener:
            await self._listener.close()
        if self._hub:
            await self._hub.close(_STOP_GRACE_S)
        await self._resources.aclose()
        event("stopped")

    async def _load(self) -> None:
        settings = self._settings
        # As many batches run at a time as there are processors for. Others wait, so that they can still grow.
        at_once = max(1, (os.cpu_count() or 1) // settings.threads)
        slots = Slots(at_once) if self._make_engine is None else None
        compute = self._pool("infer", at_once)
        decoders = Decoders(
            payloads=self._pool("decode", at_once),
            # Decoding pictures takes long, and the processors are shared with all other work.
            pictures=self._pool("picture", max(1, at_once // 2)),
            headers=self._pool("header", 1),
        )
        make_engine = self._make_engine or partial(
            _onnx_engine, threads=settings.threads, provider=settings.provider, executor=compute, at_once=at_once
        )

        def make_batcher(engine: Engine) -> Batcher:
            return Batcher(engine, max_batch=settings.max_batch, max_queue=settings.max_queue, slots=slots)

        def load() -> dict[str, Hosted]:
            models: dict[str, Hosted] = {}
            for bundle in self._bundles:
                models |= host(bundle, make_engine=make_engine, make_batcher=make_batcher)
            return models

        self._models = await asyncio.get_running_loop().run_in_executor(compute, load)
        for name, model in self._models.items():
            await self._resources.enter_async_context(model.batcher)
            self._metrics.waiting_images.labels(name).set_function(partial(_waiting, model.batcher))
        self._service = InferenceService(
            self._models,
            max_batch=settings.max_batch,
            metrics=self._metrics,
            refusals=self._refusals,
            decoders=decoders,
        )

    def _pool(self, name: str, workers: int) -> Executor:
        pool = ThreadPoolExecutor(workers, thread_name_prefix=f"isplit-{name}")
        self._resources.callback(pool.shutdown, wait=False, cancel_futures=True)
        return pool

    async def _listen(self) -> None:
        settings = self._settings
        assert self._service
        longest = self._longest_request()
        limits = FrontLimits(
            message_bytes=longest,
            max_connections=settings.max_connections,
            lean_turn_calls=settings.max_batch,
            receive_seconds=settings.receive_seconds,
        )
        methods = (
            *self._service.methods(max_infer_bytes=longest),
            *self._health.methods(),
            *Probe().methods(),
        )
        open_lean = partial(self._service.open_lean, max_content_bytes=MAX_CONTENT_BYTES)
        hub = Hub(methods, limits=limits, token=settings.token, refusals=self._refusals, open_lean=open_lean)
        self._hub = hub
        self._metrics.connections.labels("stranger").set_function(lambda: hub.stranger_count)
        self._metrics.connections.labels("known").set_function(lambda: len(hub.channels) - hub.stranger_count)
        self._metrics.receiving_calls.set_function(lambda: hub.receiving.calls)
        self._metrics.message_bytes.set_function(lambda: hub.receiving.bytes)
        self._listener = Listener(hub, settings.tls.context() if settings.tls else None)
        self._resources.push_async_callback(self._listener.close)
        self.port = self._listener.bind(settings.host, settings.port)
        if settings.metrics_port is not None:
            self._serve_metrics(settings.metrics_host, settings.metrics_port)
        self._listener.start()

    def _longest_request(self) -> int:
        """Return the number of bytes of the longest request of any model."""
        rows = [spec.row_bytes for model in self._models.values() for spec in model.specs.values()]
        longest = max(max(rows), min(max(rows) * self._settings.max_batch, MAX_MESSAGE_BYTES))
        return longest + _MESSAGE_OVERHEAD_BYTES

    def _tell_certificate(self) -> None:
        """Log that a certificate or a client CA has expired or soon will, and set its metric."""
        if self._settings.tls is None:
            return
        state = check_certificate(self._settings.tls)
        if state.ends_at_s is not None:
            self._metrics.certificate_ends.set(state.ends_at_s)
        _tell_dates("the certificate", state, effect="devices will refuse it")
        if ca_state := check_client_ca(self._settings.tls):
            _tell_dates("the client CA", ca_state, effect="no device can join")

    def _serve_metrics(self, host: str, port: int) -> None:
        try:
            httpd, thread = start_http_server(port, host, self._metrics.registry)
        except OSError as error:
            reason = error.strerror or error
            msg = f"cannot serve metrics on {_join(host, port)}: {reason}; give another `metrics_port=PORT`"
            raise InputError(msg) from error
        self.metrics_port = httpd.server_port
        httpd.handle_error = cast("Any", _log_metrics_error)  # the default handler would print to standard error

        def close() -> None:
            httpd.shutdown()
            httpd.server_close()
            thread.join()

        self._resources.callback(close)


def _check_names(bundles: Sequence[Bundle]) -> None:
    """Refuse bundles with the same name, because their models could not be told apart."""
    if not bundles:
        msg = "there is no bundle to serve: give one or more"
        raise InputError(msg)
    directories: dict[str, Path] = {}
    for bundle in bundles:
        if bundle.name in directories:
            msg = (
                f"{directories[bundle.name]} and {bundle.directory} are both named {bundle.name!r}: serve them on two "
                "ports, or export one under another name"
            )
            raise InputError(msg)
        directories[bundle.name] = bundle.directory


def _log_metrics_error(request: object, client_address: object) -> None:
    event("a reader of the metrics went away", level=logging.DEBUG, peer=client_address)


def _waiting(batcher: Batcher) -> float:
    return batcher.waiting_rows


def _onnx_engine(
    path: Path,
    *,
    input_shape: tuple[int, ...],
    outputs: int,
    threads: int,
    provider: Provider,
    executor: Executor,
    at_once: int,
) -> Engine:
    tail = OnnxTail(path, input_shape=input_shape, outputs=outputs, threads=threads, provider=provider)
    if tail.choice.fallback is not None:
        event("the CPU runs a model", level=logging.WARNING, file=path.name, instead_of=tail.choice.fallback)
    return OnnxEngine(tail, executor=executor, at_once=at_once)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tell_dates(what: str, state: CertificateState, *, effect: str) -> None:
    if not state.valid:
        event(f"{what} is not valid: {effect}", level=logging.ERROR, problem=state.problem)
    elif state.days_left is not None and state.days_left < SOON_DAYS:
        event(f"{what} expires soon", level=logging.WARNING, days_left=state.days_left)
