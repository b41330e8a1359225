"""A batcher with an engine that computes when it is told to, and a clock that stands still."""

import asyncio

import numpy as np
import pytest

from isplit.runtime.server.batcher import Batcher
from isplit.runtime.server.refusal import RefusedError

SOON = 100.0


class FakeEngine:
    """Answers each row with its value doubled; every batch waits for a permission if `gated`."""

    def __init__(self, *, gated=True, concurrency=1):
        self.concurrency = concurrency
        self.started = asyncio.Queue()
        self.permissions = asyncio.Semaphore(0 if gated else 10**6)
        self.error = None
        self.answers = lambda batch: batch.astype(np.float32) * 2

    async def run(self, batch):
        self.started.put_nowait(batch[:, 0].tolist())
        await self.permissions.acquire()
        if self.error:
            error, self.error = self.error, None
            raise error
        return self.answers(batch)

    def allow(self):
        self.permissions.release()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def batcher(engine, *, max_batch=4, max_queue=8, clock=None, slots=None):
    return Batcher(engine, max_batch=max_batch, max_queue=max_queue, slots=slots, clock=clock or Clock())


def submit(subject, *values, deadline=SOON, prepared=None):
    """Start a caller with these rows."""

    async def prepare():
        if prepared is not None:
            prepared.append(values)
        return np.array(values, np.uint8)[:, None]

    return asyncio.create_task(subject.submit(len(values), prepare, deadline=deadline))


async def settle():
    """Let every task go as far as it can without the engine."""
    for _ in range(50):
        await asyncio.sleep(0)


def run(test):
    """Run a coroutine function as a test, with a limit in case nobody answers."""

    def wrapped():
        asyncio.run(asyncio.wait_for(test(), 20))

    wrapped.__doc__ = test.__doc__
    return wrapped


def logits(task):
    return task.result().logits[:, 0].tolist()


async def status(task):
    with pytest.raises(RefusedError) as caught:
        await task
    return caught.value.status
