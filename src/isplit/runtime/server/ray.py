"""Compute batches on a Ray cluster, in autoscaled replicas of one Ray Serve deployment per bundle.

    our front (TLS, token, limits, frames, batches) --uint8 N×shape--> replica --float32 N×K--> our front

Ray's own entry point has no TLS and no size limit, and it unpickles what it receives. Nothing from the wire goes
there. Replicas get only arrays that the front has checked, through a handle, over the cluster's own connections. Ray
does not protect these connections, so a cluster belongs on a network of its own. Every node needs the same version of
isplit.

A replica can compute every model of the bundle, so that the whole cluster serves whichever cut the devices choose. It
loads a model when that model is first asked for.
"""

import asyncio
import logging
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from isplit.errors import InputError, needs_extra
from isplit.ray_cluster import join_ray_cluster
from isplit.runtime.bundle import Bundle
from isplit.runtime.external_data import external_data
from isplit.runtime.server.engine import Engine, OnnxTail
from isplit.runtime.server.log import event
from isplit.runtime.server.models import EngineFactory
from isplit.runtime.server.refusal import RefusedError

ATTEMPTS = 3
"""Most replicas that are tried, one after the other as they die, before the callers of a batch are refused."""

TIMEOUT_S = 60.0
"""Seconds that one replica may take. A node that fails silently would otherwise hold its batch for ever."""

ONGOING_PER_REPLICA = 2
"""Batches sent to a replica at a time: one that it computes, and the next one."""

# A model's ONNX file and the files with its weights: their names, and Ray's references to their contents.
_Files = list[tuple[str, Any]]


class RayEngines:
    """Deploys a bundle's replicas on a Ray cluster, makes engines that use them, and removes them on exit.

    `address` has the form that `ray.init` takes: HOST:PORT of a cluster. None joins the cluster that runs here or that
    RAY_ADDRESS names, or starts one on this machine. The number of replicas starts at `min_replicas` and grows to
    `max_replicas` under load; each has `threads` processors.

    Raises:
        MissingExtraError: on construction, when Ray is not installed.
        InputError: on construction, when the numbers make no sense; on entry, when there is no cluster at the address.

    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        address: str | None = None,
        min_replicas: int = 1,
        max_replicas: int = 4,
        threads: int = 1,
    ) -> None:
        if not 1 <= min_replicas <= max_replicas:
            msg = f"{min_replicas} to {max_replicas} replicas: give at least 1, and no more at first than at most"
            raise InputError(msg)
        with needs_extra("ray"):
            import ray
            from ray import serve
        self._ray: Any = ray
        self._serve: Any = serve
        self._bundle = bundle
        self._address = address
        self._min_replicas = min_replicas
        self._max_replicas = max_replicas
        self._threads = threads
        self._handle: Any = None
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            if join_ray_cluster(self._address):
                undo.callback(self._ray.shutdown)
            self._deploy(undo)
            self._exit = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def make_engine(self, path: Path, *, input_shape: tuple[int, ...], outputs: int) -> Engine:
        """Return the engine of one of the bundle's files.

        Raises:
            BundleError: the file is not what the manifest says.

        """
        # This is checked here, because a replica would find out only at the first request.
        OnnxTail(path, input_shape=input_shape, outputs=outputs, threads=self._threads)
        name = path.relative_to(self._bundle.directory).as_posix()
        concurrency = ONGOING_PER_REPLICA * self._max_replicas
        return RayEngine(self._handle, name, (input_shape, outputs), concurrency=concurrency)

    def _deploy(self, undo: ExitStack) -> None:
        # No proxies are started, because only the front talks to the replicas.
        self._serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        deployment = self._serve.deployment(
            Replica,
            name="tails",
            max_ongoing_requests=ONGOING_PER_REPLICA,
            ray_actor_options={"num_cpus": self._threads},
            autoscaling_config={
                "min_replicas": self._min_replicas,
                "max_replicas": self._max_replicas,
                "target_ongoing_requests": 1,
                "upscale_delay_s": 2,
            },
            health_check_period_s=2,
            health_check_timeout_s=5,
            graceful_shutdown_timeout_s=5,
        )
        models = {name: self._put(name) for name in _models(self._bundle)}
        application = f"isplit-{self._bundle.name}"
        undo.callback(self._serve.delete, application)
        self._handle = self._serve.run(deployment.bind(models, self._threads), name=application, route_prefix=None)
        undo.callback(self._handle.shutdown)
        event("deployed", application=application, max_replicas=self._max_replicas)

    def _put(self, name: str) -> _Files:
        """Store a model's files where every node can get them, because the nodes share no disk."""
        path = self._bundle.directory / name
        names = dict.fromkeys((path.name, *(reference.location for reference in external_data(path))))
        return [(name, self._ray.put((path.parent / name).read_bytes())) for name in names]


@contextmanager
def ray_engines(
    bundles: Sequence[Bundle], *, address: str | None = None, max_replicas: int = 4, threads: int = 1
) -> Generator[EngineFactory]:
    """Deploy the replicas of several bundles while the block runs, and yield the function that makes their engines.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: The numbers make no sense, or there is no cluster at the address.

    """
    with ExitStack() as resources:
        deployed = {
            bundle.directory: resources.enter_context(
                RayEngines(bundle, address=address, max_replicas=max_replicas, threads=threads)
            )
            for bundle in bundles
        }

        def make_engine(path: Path, *, input_shape: tuple[int, ...], outputs: int) -> Engine:
            directory = next(parent for parent in path.parents if parent in deployed)
            return deployed[directory].make_engine(path, input_shape=input_shape, outputs=outputs)

        yield make_engine


def _models(bundle: Bundle) -> list[str]:
    """Return the files that a server computes: every tail, and the whole model."""
    names = [cut.tail for cut in bundle.record.cuts]
    return [*names, bundle.record.remote.file] if bundle.record.remote else names


class RayEngine:
    """Computes one model on the replicas. A batch whose replica dies goes to another; that is harmless."""

    def __init__(self, handle: Any, name: str, shapes: tuple[tuple[int, ...], int], *, concurrency: int) -> None:
        self._handle = handle
        self._name = name
        self._shapes = shapes
        self._concurrency = concurrency

    @property
    def concurrency(self) -> int:
        """The number of batches that it computes at a time."""
        return self._concurrency

    async def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits of a batch.

        Raises:
            RefusedError: UNAVAILABLE, when several replicas died over the batch or one did not answer in time.

        """
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    return cast("NDArray[np.float32]", await self._handle.remote(self._name, self._shapes, batch))
            except RayTaskError:
                raise  # The model itself failed, so another replica would fail in the same way.
            except (RayError, RayServeException, TimeoutError) as error:
                event("replica lost", level=logging.WARNING, attempt=attempt, error=type(error).__name__)
        msg = f"{ATTEMPTS} replicas were lost, one after the other: try again later"
        raise RefusedError("UNAVAILABLE", msg)


class Replica:
    """Holds the bundle's models in one of Ray's processes."""

    def __init__(self, models: dict[str, _Files], threads: int) -> None:
        self._models = models
        self._threads = threads
        self._tails: dict[str, OnnxTail] = {}
        self._lock = Lock()

    async def __call__(
        self, name: str, shapes: tuple[tuple[int, ...], int], batch: NDArray[np.uint8]
    ) -> NDArray[np.float32]:
        """Return a model's logits of a batch. It computes in a thread, so that health checks are answered meanwhile."""
        return await asyncio.to_thread(self._run, name, shapes, batch)

    def _run(self, name: str, shapes: tuple[tuple[int, ...], int], batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        # One batch runs at a time: a replica has processors for one, and the next batch waits here rather than on the
        # way.
        with self._lock:
            if name not in self._tails:
                self._tails[name] = self._load(self._models[name], *shapes)
            return self._tails[name].run(batch)

    def _load(self, files: _Files, input_shape: tuple[int, ...], outputs: int) -> OnnxTail:
        import ray

        with TemporaryDirectory() as directory:
            paths = [Path(directory) / name for name, _ in files]
            for path, (_, content) in zip(paths, files, strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(cast("bytes", ray.get(content)))
            return OnnxTail(paths[0], input_shape=input_shape, outputs=outputs, threads=self._threads)
