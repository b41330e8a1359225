"""Batch the requests of many callers for one engine: what queues up while the engine works becomes its next batch.

    submit --admit--> prepare --> ready ··· take --> engine.run --> every caller its rows
              |                               |
              full: refused                   late or given up: dropped before it costs anything

The batcher never waits for a batch to fill: an idle engine takes whatever is ready, even a single row. Batching
therefore costs a lone caller nothing, and batches grow by themselves under load. Rows that are ready while several
processors are idle are divided among them, if the engine says that this takes less time.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Self

import numpy as np
from numpy.typing import NDArray

from isplit.runtime.server.computed import BatchLogits, Computed
from isplit.runtime.server.engine import Engine, PricedEngine, QuickEngine
from isplit.runtime.server.log import logger
from isplit.runtime.server.refusal import RefusalStatus, RefusedError

_NOTHING = np.empty(0, np.uint8)
_RESTART_S = 0.1
_ABANDONED: tuple[RefusalStatus, str] = ("INTERNAL", "the engine gave up; the server's log says more")


@dataclass(kw_only=True, eq=False)
class _Job:
    """The rows of one caller. `left` is true once they no longer count as waiting."""

    rows: int
    cost: int
    deadline: float
    future: asyncio.Future[Computed]
    array: NDArray[np.uint8] = field(default_factory=lambda: _NOTHING)
    ready_at: float = 0.0
    left: bool = False


class Slots(asyncio.Semaphore):
    """The processors that engines share: a batch is computed in one of them."""

    @property
    def free(self) -> int:
        """The number of processors that compute nothing."""
        return self._value


class Batcher:
    """Batches requests for one engine, in one event loop. Use it as an async context manager.

    `max_queue` bounds the cost of the waiting rows, including those that are still being prepared. A row costs 1,
    unless its caller knows that preparing it takes longer. Engines that share processors share `slots`: a batch is
    formed only when there is a slot for it, as late as possible. `clock` returns seconds, on the scale of the
    deadlines.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch: int,
        max_queue: int,
        slots: Slots | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._quick = engine if isinstance(engine, QuickEngine) else None  # to ask this for each request takes long
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._cost = engine.cost if isinstance(engine, PricedEngine) else None
        self._slots = slots or Slots(engine.concurrency)
        self._computing = 0
        self._clock = clock
        self._waiting_rows = 0
        self._waiting_cost = 0
        self._closing = False
        self.batches: Counter[int] = Counter()
        """The number of computed batches, by their number of rows."""
        self.batch_ns: Counter[int] = Counter()
        """Nanoseconds of computation, by the number of rows of the batch."""
        self._ready: deque[_Job] = deque()
        self._something = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []

    @property
    def waiting_rows(self) -> int:
        """The number of admitted rows that are not yet with the engine."""
        return self._waiting_rows

    @property
    def waiting_cost(self) -> int:
        """The cost of the waiting rows, which counts towards `max_queue`."""
        return self._waiting_cost

    @property
    def is_alive(self) -> bool:
        """Whether its workers take batches."""
        return bool(self._workers) and not any(worker.done() for worker in self._workers)

    async def __aenter__(self) -> Self:
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._engine.concurrency)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; callers that still wait are refused."""
        self._closing = True
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        while self._ready:
            _refuse(self._ready.popleft(), RefusedError("UNAVAILABLE", "the server has stopped: ask another"))

    async def submit(
        self,
        rows: int,
        prepare: Callable[[], Awaitable[NDArray[np.uint8]]],
        *,
        deadline: float,
        cost: int | None = None,
    ) -> Computed:
        """Return the logits of the rows that `prepare` returns, once a batch with them was computed.

        `cost` is their cost in the queue; None counts the rows. When nothing else waits, rows are admitted whatever
        they cost.

        Raises:
            RefusedError: RESOURCE_EXHAUSTED, before `prepare` is called, if there is no room; DEADLINE_EXCEEDED,
                before the engine sees them, if their deadline has passed; INTERNAL if the engine failed.
            ValueError: There are more rows than a batch holds; callers must check this.

        """
        cost = rows if cost is None else max(rows, cost)
        if not 1 <= rows <= self._max_batch:
            msg = f"{rows} rows: a batch holds 1 to {self._max_batch}"
            raise ValueError(msg)
        if self._waiting_cost and self._waiting_cost + cost > self._max_queue:
            if cost > rows:
                msg = (
                    f"to decode this takes as long as {cost} small images, {self._waiting_cost} are waiting, and "
                    f"{self._max_queue} may: try again later, or send smaller images"
                )
                raise RefusedError("RESOURCE_EXHAUSTED", msg, reason="costly")
            msg = f"{self._waiting_rows} images are waiting, and {self._max_queue} may: try again later"
            raise RefusedError("RESOURCE_EXHAUSTED", msg)
        job = _Job(rows=rows, cost=cost, deadline=deadline, future=asyncio.get_running_loop().create_future())
        self._waiting_rows += rows
        self._waiting_cost += cost
        try:
            self._check_time(job)
            job.array = await prepare()
            job.ready_at = self._clock()
            self._ready.append(job)
            self._something.set()
            return await job.future
        finally:
            # This also runs when the caller has gone or the rows were invalid: their place is free at once.
            self._leave(job)
            job.array = _NOTHING  # the job itself may stay in the queue for a while

    def is_free_for(self, rows: int) -> bool:
        """Return whether so few rows can be computed at once: nothing waits, and the engine is quick and idle."""
        return (
            self._quick is not None
            and rows <= self._quick.quick_rows
            and not self._waiting_cost
            and not self._slots.locked()
            and self.is_alive
            and not self._closing
        )

    def compute_now(self, array: NDArray[np.uint8]) -> Computed:
        """Return the logits of rows, without a queue; `is_free_for` must have said that this is possible.

        Raises:
            RefusedError: INTERNAL, because the engine gave logits of another shape.

        """
        assert self._quick is not None
        started = self._clock()
        logits = self._quick.run_now(array)
        infer_ms = (self._clock() - started) * 1e3
        self._count(logits, len(array), infer_ms)
        return Computed(batch=BatchLogits(logits), first=0, rows=len(array), queue_ms=0.0, infer_ms=infer_ms)

    def _count(self, logits: NDArray[np.float32], rows: int, infer_ms: float) -> None:
        """Check an engine's answer, and count it."""
        if logits.ndim != 2 or len(logits) != rows:
            msg = f"the engine answered {rows} rows with an array of shape {logits.shape}"
            raise RefusedError("INTERNAL", msg)
        self.batches[rows] += 1
        self.batch_ns[rows] += round(infer_ms * 1e6)

    async def _work(self) -> None:
        """Take batches until the batcher stops, whatever happens to one of them."""
        while not self._closing:
            try:
                await self._work_once()
            except asyncio.CancelledError:
                if self._closing:
                    raise
            except Exception:  # noqa: BLE001 - a worker that ends would leave every later caller waiting
                logger.exception("a batch failed in the batcher")
                await asyncio.sleep(_RESTART_S)

    async def _work_once(self) -> None:
        await self._something.wait()
        async with self._slots:
            jobs = self._take()
            if jobs:
                self._computing += 1
                try:
                    await self._run(jobs)
                finally:
                    self._computing -= 1

    def _share(self) -> int:
        """Return how many of the rows that are ready the next batch should take."""
        others = min(self._slots.free, self._engine.concurrency - self._computing - 1)
        if self._cost is None or others < 1:
            return self._max_batch
        rows = sum(job.rows for job in self._ready if not job.left)
        quick_rows = self._quick.quick_rows if self._quick else 0
        if rows <= quick_rows:
            return self._max_batch
        # The event loop computes quick batches itself, one after the other: a part must not become one of them.
        return min(self._max_batch, max(quick_rows + 1, ceil(rows / self._cost.parts(rows, processors=1 + others))))

    def _take(self) -> list[_Job]:
        """Take the oldest jobs that fit into one batch, and drop those that nobody waits for."""
        jobs: list[_Job] = []
        room = self._share()
        while self._ready and (self._ready[0].left or not jobs or self._ready[0].rows <= room):
            job = self._ready.popleft()
            if job.left:
                continue
            self._leave(job)
            try:
                self._check_time(job)
            except RefusedError as error:
                _refuse(job, error)
                continue
            jobs.append(job)
            room -= job.rows
        if not self._ready:
            self._something.clear()
        return jobs

    async def _run(self, jobs: list[_Job]) -> None:
        rows = sum(job.rows for job in jobs)
        started = self._clock()
        try:
            batch = jobs[0].array if len(jobs) == 1 else np.concatenate([job.array for job in jobs])
            logits = await self._engine.run(batch)
            infer_ms = (self._clock() - started) * 1e3
            self._count(logits, rows, infer_ms)
        except asyncio.CancelledError:
            # The server cancels this task when it stops. An engine that raises CancelledError itself is at fault like
            # any other.
            status, msg = ("UNAVAILABLE", "the server has stopped: ask another") if self._closing else _ABANDONED
            for job in jobs:
                _refuse(job, RefusedError(status, msg))
            if self._closing:
                raise
            logger.error("an engine gave up a batch of its own accord")
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, every caller of the batch must hear of it
            for job in jobs:
                _refuse(job, error)
            return
        first, of_all = 0, BatchLogits(logits)
        for job in jobs:
            if not job.future.done():
                queue_ms = (started - job.ready_at) * 1e3
                job.future.set_result(
                    Computed(batch=of_all, first=first, rows=job.rows, queue_ms=queue_ms, infer_ms=infer_ms)
                )
            first += job.rows

    def _leave(self, job: _Job) -> None:
        if not job.left:
            job.left = True
            self._waiting_rows -= job.rows
            self._waiting_cost -= job.cost

    def _check_time(self, job: _Job) -> None:
        if (late_s := self._clock() - job.deadline) >= 0:
            msg = f"dropped {late_s * 1e3:.0f} ms after its deadline, before it was computed: allow more time"
            raise RefusedError("DEADLINE_EXCEEDED", msg)


def _refuse(job: _Job, error: Exception) -> None:
    if not job.future.done():
        job.future.set_exception(error)
