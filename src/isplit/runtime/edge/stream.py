"""Process several images at once, and answer them in order.

    images --head thread: prepare--> jobs --`depth` workers: finish--> answers, in order --> the caller

While one image is on the wire, the next is in the head. At most `depth` images are processed at a time: a slot is
taken before an image is fetched, and returned when its answer has been taken.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Job = TypeVar("Job")
Result = TypeVar("Result")

_PATIENCE_S = 5.0
"""Seconds that a source may take for the item that it was asked for when the stream was closed."""


def pipelined(
    items: Iterable[Item], prepare: Callable[[Item], Job], finish: Callable[[Job], Result], *, depth: int
) -> Iterator[Result]:
    """Yield finish(prepare(item)) for every item, in order and exactly once.

    One thread reads `items` and calls `prepare`; `depth` threads call `finish`. Their exceptions are raised here, at
    their place in the order. Closing the iterator stops the reading of items.
    """
    # This is not a semaphore: an interrupt during its release could leave its lock taken, and `finally` waiting for
    # it.
    slots: queue.SimpleQueue[None] = queue.SimpleQueue()
    for _ in range(depth):
        slots.put(None)
    stopped = threading.Event()
    pending: queue.SimpleQueue[Future[Result] | None] = queue.SimpleQueue()

    def feed(pool: ThreadPoolExecutor) -> None:
        try:
            source = iter(items)
            while True:
                slots.get()
                if stopped.is_set():
                    break
                try:
                    item = next(source)
                except StopIteration:
                    break
                pending.put(pool.submit(finish, prepare(item)))
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            fault: Future[Result] = Future()
            fault.set_exception(error)
            pending.put(fault)
        pending.put(None)

    pool = ThreadPoolExecutor(depth, thread_name_prefix="isplit-wire")
    # A daemon, because a source that blocks for ever (an unplugged camera) must not keep the process alive.
    feeder = threading.Thread(target=feed, args=(pool,), name="isplit-head", daemon=True)
    feeder.start()
    try:
        while (future := pending.get()) is not None:
            answer = future.result()
            slots.put(None)
            yield answer
    finally:
        stopped.set()
        slots.put(None)
        # A caller that leaves early does not wait for requests whose answers nobody will read.
        pool.shutdown(wait=False, cancel_futures=True)
        feeder.join(timeout=_PATIENCE_S)
