"""Compute batches with onnxruntime in this process. `ray.py` has the engine for a Ray cluster."""

import asyncio
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from isplit.errors import BundleError, EngineError
from isplit.runtime.providers import CPU, Provider, ProviderChoice
from isplit.runtime.session import Session

_QUICK_S = 0.5e-3
"""A batch of less work is computed in the calling thread, because waking another thread and returning takes as long."""

_WORTHWHILE = 0.8
"""Most of the time of one batch that its parts may take. Parts that save less cost other requests more than that, and
what a batch costs is known from few measurements."""


class Engine(Protocol):
    """Computes a tail or the whole model: uint8 N×shape to float32 logits N×K, for any N up to the server's batch.

    `run` may be called up to `concurrency` times before it has returned. It raises RefusedError if the caller should
    know why there is no answer; any other exception is a fault of the server.
    """

    @property
    def concurrency(self) -> int:
        """The number of batches that it computes at a time."""
        ...

    async def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits of a batch."""
        ...


@dataclass(frozen=True, kw_only=True)
class BatchCost:
    """The seconds that a batch takes a processor: `fixed_s`, and `row_s` for each row.

    Examples:
        >>> BatchCost(fixed_s=1e-4, row_s=1e-3).parts(8, processors=4)
        4
        >>> BatchCost(fixed_s=7e-3, row_s=5e-4).parts(8, processors=4)
        1

    """

    fixed_s: float
    row_s: float

    def parts(self, rows: int, *, processors: int) -> int:
        """Return the number of batches in which rows are computed soonest by idle processors; 1 if that saves little.

        The fixed part is mostly that of reading weights from memory. Processors share the memory, so that parts of a
        batch read them as if one after the other: n parts take n × `fixed_s` + ⌈rows / n⌉ × `row_s`.
        """

        def seconds(parts: int) -> float:
            return parts * self.fixed_s + ceil(rows / parts) * self.row_s

        parts = min(range(1, min(rows, processors) + 1), key=seconds)
        return parts if seconds(parts) <= _WORTHWHILE * seconds(1) else 1


@runtime_checkable
class PricedEngine(Protocol):
    """An engine that knows what a batch costs."""

    cost: BatchCost


@runtime_checkable
class QuickEngine(Protocol):
    """An engine that can also compute a few rows at once, in the calling thread."""

    quick_rows: int

    def run_now(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits of a batch of at most `quick_rows` rows."""
        ...


class OnnxTail:
    """Runs a model in onnxruntime.

    The constructor computes two batches of zeros. A file that does not fit its manifest is therefore found at the
    start, and the first request does not wait for onnxruntime's own preparations.

    Raises:
        BundleError: on construction, when the file does not load, or its shapes and types are not as given.

    """

    def __init__(
        self, path: Path, *, input_shape: tuple[int, ...], outputs: int, threads: int, provider: Provider = "cpu"
    ) -> None:
        self._session = Session(path, threads=threads, provider=provider)
        self._threads = threads
        self._input_shape = input_shape
        for rows in (2, 1):
            try:
                got = self.run(np.zeros((rows, *input_shape), np.uint8))
            except EngineError as error:
                msg = f"{path} does not take inputs of shape {input_shape}: {error}; export the bundle again"
                raise BundleError(msg) from error
            if got.shape != (rows, outputs) or got.dtype != np.float32:
                msg = (
                    f"{path} answers {rows} inputs of shape {input_shape} with {got.dtype} {got.shape}, not with "
                    f"float32 {(rows, outputs)}: export the bundle again"
                )
                raise BundleError(msg)

    @property
    def choice(self) -> ProviderChoice:
        """The execution provider in use, and the reason if it is not the requested one."""
        return self._session.choice

    def seconds(self, rows: int) -> list[float]:
        """Return the seconds that a batch of so many rows takes, three times, from the least to the most.

        Where the calling thread does all the work, its processor time is measured: while a machine starts, other
        programs take turns with this one, and what was measured holds for as long as the server runs.
        """
        batch = np.zeros((rows, *self._input_shape), np.uint8)
        clock = time.thread_time if self.choice.name == CPU and self._threads == 1 else time.perf_counter
        times: list[float] = []
        for _ in range(3):
            started = clock()
            self.run(batch)
            times.append(clock() - started)
        return sorted(times)

    def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits of a batch."""
        return self._session.run(batch)


class OnnxEngine:
    """Runs a tail in this process, in threads of `executor` unless the batch is quick.

    `at_once` is the number of batches that the processors can run at a time. Another device than the CPU gets one batch
    at a time, because it shares one batch among its own cores.
    """

    def __init__(self, tail: OnnxTail, *, executor: Executor, at_once: int = 1) -> None:
        self._tail = tail
        self._executor = executor
        self._at_once = at_once
        one_s, two_s = tail.seconds(1), tail.seconds(2)
        self.quick_rows = int(_QUICK_S / one_s[1])
        """Most rows of a batch that took no longer than `_QUICK_S` when the engine was made, if each takes as long."""
        row_s = max(0.0, two_s[0] - one_s[0])  # other work on the machine only adds to the least
        self.cost = BatchCost(fixed_s=max(0.0, one_s[0] - row_s), row_s=row_s)

    @property
    def choice(self) -> ProviderChoice:
        """The execution provider in use, and the reason if it is not the requested one."""
        return self._tail.choice

    @property
    def concurrency(self) -> int:
        """The number of batches that it computes at a time."""
        return self._at_once if self.choice.name == CPU else 1

    async def run(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits of a batch."""
        if len(batch) <= self.quick_rows:
            return self.run_now(batch)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._tail.run, batch)

    def run_now(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits of a batch, computed in the calling thread."""
        return self._tail.run(batch)


def provider_to_report(engine: Engine) -> str | None:
    """Return an engine's execution provider if callers should know it: it is not the CPU, or not the requested one."""
    choice = engine.choice if isinstance(engine, OnnxEngine) else None
    return None if choice is None or (choice.name == CPU and choice.fallback is None) else choice.name
