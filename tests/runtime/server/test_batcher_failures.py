"""The batcher when callers, engines or the batcher itself fail: everyone else is answered."""

import asyncio
import weakref

import numpy as np
import pytest

from isplit.runtime.server.refusal import RefusedError
from tests.runtime.server.batching import SOON, Clock, FakeEngine, batcher, logits, run, settle, status, submit


@run
async def test_late_before_prepared():
    """A caller whose time is over on arrival is refused before anything is done for it."""
    prepared = []
    async with batcher(FakeEngine(), clock=Clock()) as subject:
        assert "DEADLINE_EXCEEDED" == await status(submit(subject, 1, deadline=0.0, prepared=prepared))
        assert ([], 0) == (prepared, subject.waiting_rows)


@run
async def test_late_in_queue():
    """A caller whose time passes while it waits is dropped; the engine never sees its rows."""
    engine, clock = FakeEngine(), Clock()
    async with batcher(engine, clock=clock) as subject:
        first = submit(subject, 1)
        await engine.started.get()
        late, last = submit(subject, 2, deadline=1.0), submit(subject, 3)
        await settle()
        clock.now = 1.0
        engine.allow()
        assert [3] == await engine.started.get()
        engine.allow()
        assert "DEADLINE_EXCEEDED" == await status(late)
        await asyncio.gather(first, last)
        assert [6] == logits(last)


@run
async def test_caller_gives_up():
    """The rows of a caller that has gone leave the queue at once and are not computed."""
    engine = FakeEngine()
    async with batcher(engine) as subject:
        first = submit(subject, 1)
        await engine.started.get()
        gone, last = submit(subject, 2, 3), submit(subject, 4)
        await settle()
        gone.cancel()
        await settle()
        assert 1 == subject.waiting_rows
        engine.allow()
        assert [4] == await engine.started.get()
        engine.allow()
        await asyncio.gather(first, last)
        assert 0 == subject.waiting_rows


@run
async def test_caller_gives_up_while_computed():
    """A caller that goes while its batch is computed does not disturb the others of the batch."""
    engine = FakeEngine()
    async with batcher(engine) as subject:
        first = submit(subject, 1)
        await engine.started.get()
        gone, last = submit(subject, 2), submit(subject, 3)
        await settle()
        engine.allow()
        assert [2, 3] == await engine.started.get()
        gone.cancel()
        await settle()
        engine.allow()
        await asyncio.gather(first, last)
        assert [6] == logits(last)


@run
async def test_preparation_fails():
    """Rows that cannot be prepared leave no trace in the queue."""

    async def prepare():
        msg = "no"
        raise RefusedError("INVALID_ARGUMENT", msg)

    async with batcher(FakeEngine()) as subject:
        assert "INVALID_ARGUMENT" == await status(asyncio.create_task(subject.submit(2, prepare, deadline=SOON)))
        assert 0 == subject.waiting_rows


@run
async def test_engine_fails():
    """When the engine fails, every caller of that batch hears of it, and the next batch is computed."""
    engine = FakeEngine()
    async with batcher(engine) as subject:
        tasks = [submit(subject, 1), submit(subject, 2)]
        assert [1, 2] == await engine.started.get()
        engine.error = RuntimeError("out of order")
        engine.allow()
        for task in tasks:
            with pytest.raises(RuntimeError, match="out of order"):
                await task
        last = submit(subject, 3)
        engine.allow()
        await last
        assert [6] == logits(last)


@run
async def test_engine_answers_too_little():
    """An engine that loses rows gives nobody another caller's answer."""
    engine = FakeEngine(gated=False)
    engine.answers = lambda batch: batch[1:].astype(np.float32)
    async with batcher(engine) as subject:
        assert "INTERNAL" == await status(submit(subject, 1, 2))


@run
async def test_stops():
    """When the batcher stops, callers in the engine and in the queue are refused, none is left waiting."""
    engine = FakeEngine()
    async with batcher(engine) as subject:
        first = submit(subject, 1)
        await engine.started.get()
        second = submit(subject, 2)
        await settle()
    assert ["UNAVAILABLE"] * 2 == [await status(first), await status(second)]


@pytest.mark.parametrize("rows", [0, 5])
def test_too_many_rows(rows):
    """More rows than a batch holds, or none, are the caller's mistake."""

    async def test():
        async with batcher(FakeEngine()) as subject:
            with pytest.raises(ValueError, match="1 to 4"):
                await submit(subject, *range(rows))

    asyncio.run(test())


@run
async def test_cancelled_job_keeps_nothing():
    """A caller that goes while it waits leaves no array behind, though its place in the queue is found later."""
    engine = FakeEngine()
    async with batcher(engine) as subject:
        first = submit(subject, 1)
        await engine.started.get()
        arrays = []

        async def prepare():
            array = np.zeros((1, 1), np.uint8)
            arrays.append(weakref.ref(array))
            return array

        waiting = [asyncio.create_task(subject.submit(1, prepare, deadline=SOON)) for _ in range(3)]
        await settle()
        assert 3 == len([array for array in arrays if array() is not None])
        for task in waiting:
            task.cancel()
        await settle()
        assert [None] * 3 == [array() for array in arrays]
        engine.allow()
        await first


@run
async def test_engine_that_gives_up():
    """An engine that raises CancelledError of its own accord fails its batch, and later ones are computed."""
    engine = FakeEngine()
    engine.error = asyncio.CancelledError()
    async with batcher(engine) as subject:
        first = submit(subject, 1)
        engine.allow()
        assert "INTERNAL" == await status(first)
        assert subject.is_alive
        second = submit(subject, 2)
        engine.allow()
        await second
        assert [4] == logits(second)


@run
async def test_worker_is_restarted():
    """A fault in the batcher itself is logged, and the next caller is answered."""
    engine = FakeEngine(gated=False)
    subject = batcher(engine)
    take = subject._take

    def fail():
        subject._take = take
        raise RuntimeError("a fault")

    subject._take = fail
    async with subject:
        task = submit(subject, 3)
        await task
        assert [6] == logits(task)
        assert subject.is_alive
    assert not subject.is_alive


@pytest.mark.parametrize("answers", [lambda batch: np.zeros(len(batch), np.float32), lambda batch: batch[:0, None]])
def test_engine_answers_in_another_shape(answers):
    """An engine whose logits are not rows of their own is at fault, and the batcher goes on."""

    async def test():
        engine = FakeEngine(gated=False)
        right, engine.answers = engine.answers, answers
        async with batcher(engine) as subject:
            assert "INTERNAL" == await status(submit(subject, 1))
            engine.answers = right
            await submit(subject, 1)

    asyncio.run(test())
