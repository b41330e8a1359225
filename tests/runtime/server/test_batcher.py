"""The batcher: what is computed together, by whom, and what waits."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isplit.runtime.server.batcher import Slots
from isplit.runtime.server.engine import BatchCost
from isplit.runtime.server.refusal import RefusedError
from tests.runtime.server.batching import SOON, Clock, FakeEngine, batcher, logits, run, settle, status, submit


@run
async def test_never_waits_while_idle():
    """A lone caller's row goes to an idle engine at once, however much larger a batch could be."""
    engine = FakeEngine()
    async with batcher(engine, clock=Clock()) as subject:
        first = submit(subject, 1)
        assert [1] == await engine.started.get()
        engine.allow()
        answer = await first
        assert (1, 0.0) == (answer.batch_size, answer.queue_ms)


@run
async def test_batches_what_queued():
    """What comes while the engine works is its next batch, in order, and each caller gets its own rows."""
    engine, clock = FakeEngine(), Clock()
    clock.now = 10.0
    async with batcher(engine, clock=clock) as subject:
        first = submit(subject, 1)
        assert [1] == await engine.started.get()
        others = [submit(subject, 2), submit(subject, 3, 4), submit(subject, 5)]
        await settle()
        clock.now += 0.5
        engine.allow()
        assert [2, 3, 4, 5] == await engine.started.get()
        clock.now += 0.25
        engine.allow()
        await asyncio.gather(first, *others)
        assert [[2], [4], [6, 8], [10]] == [logits(task) for task in (first, *others)]
        answer = others[1].result()
        assert (500.0, 250.0, 4) == (answer.queue_ms, answer.infer_ms, answer.batch_size)


@run
async def test_largest_batch():
    """A batch ends before the caller that does not fit; callers are never split and never overtaken."""
    engine = FakeEngine()
    async with batcher(engine) as subject:
        tasks = [submit(subject, 1)]
        await engine.started.get()
        tasks += [submit(subject, 2, 3, 4), submit(subject, 5, 6), submit(subject, 7)]
        await settle()
        for expected in ([2, 3, 4], [5, 6, 7]):
            engine.allow()
            assert expected == await engine.started.get()
        engine.allow()
        await asyncio.gather(*tasks)


@run
async def test_queue_is_bounded():
    """Beyond `max_queue` rows a caller is refused before its rows are prepared; what the engine has does not count."""
    engine, prepared = FakeEngine(), []
    async with batcher(engine, max_batch=2, max_queue=3) as subject:
        tasks = [submit(subject, 1)]
        await engine.started.get()
        tasks += [submit(subject, 2, 3), submit(subject, 4)]
        await settle()
        assert 3 == subject.waiting_rows
        assert "RESOURCE_EXHAUSTED" == await status(submit(subject, 5, prepared=prepared))
        assert [] == prepared
        for _ in range(3):
            engine.allow()
        await asyncio.gather(*tasks)
        assert 0 == subject.waiting_rows
        again = submit(subject, 6)
        engine.allow()
        await again
        assert [12] == logits(again)


@run
async def test_engine_of_several():
    """An engine that computes two batches at a time gets two, and the third caller waits for the next."""
    engine = FakeEngine(concurrency=2)
    async with batcher(engine) as subject:
        tasks = []
        for value in (1, 2):
            tasks.append(submit(subject, value))
            assert [value] == await engine.started.get()
        tasks += [submit(subject, 3), submit(subject, 4)]
        await settle()
        assert engine.started.empty()
        engine.allow()
        assert [3, 4] == await engine.started.get()
        for _ in range(3):
            engine.allow()
        await asyncio.gather(*tasks)


@run
async def test_slots_are_shared():
    """Engines that share a processor take turns, and the batch of the one that waits goes on growing."""
    slots = Slots(1)
    quick, two = FakeEngine(), FakeEngine()
    async with batcher(quick, slots=slots) as first, batcher(two, slots=slots) as second:
        tasks = [submit(first, 1)]
        await quick.started.get()
        tasks.append(submit(second, 2))
        await settle()
        tasks.append(submit(second, 3))
        await settle()
        assert two.started.empty()
        quick.allow()
        assert [2, 3] == await two.started.get()
        two.allow()
        await asyncio.gather(*tasks)


@run
async def test_ready_rows_are_divided_among_idle_processors():
    """Rows of a tail that gains nothing from batches are shared out, and go together while other processors compute."""
    engine = FakeEngine(concurrency=2)
    engine.cost = BatchCost(fixed_s=0.0, row_s=1.0)
    async with batcher(engine) as subject:
        tasks = [submit(subject, value) for value in (1, 2, 3)]
        assert [[1, 2], [3]] == [await engine.started.get() for _ in range(2)]
        tasks += [submit(subject, value) for value in (4, 5, 6)]
        await settle()
        engine.allow()
        assert [4, 5, 6] == await engine.started.get()
        engine.allow()
        engine.allow()
        await asyncio.gather(*tasks)


@run
async def test_parts_are_not_so_small_that_they_are_computed_in_the_event_loop():
    """Rows that the event loop would compute one after the other, once they were divided, stay together."""
    engine = FakeEngine(concurrency=4)
    engine.cost = BatchCost(fixed_s=0.0, row_s=1.0)
    engine.quick_rows, engine.run_now = 2, engine.answers
    async with batcher(engine) as subject:
        tasks = [submit(subject, value) for value in (1, 2, 3, 4)]
        assert [[1, 2, 3], [4]] == [await engine.started.get() for _ in range(2)]
        engine.allow()
        engine.allow()
        await asyncio.gather(*tasks)


@run
async def test_rows_of_one_caller_are_not_divided():
    """A caller's rows stay together, even if they are more than a processor's share."""
    engine = FakeEngine(concurrency=2)
    engine.cost = BatchCost(fixed_s=0.0, row_s=1.0)
    async with batcher(engine) as subject:
        tasks = [submit(subject, 1, 2, 3), submit(subject, 4)]
        assert [[1, 2, 3], [4]] == [await engine.started.get() for _ in range(2)]
        engine.allow()
        engine.allow()
        await asyncio.gather(*tasks)


@run
async def test_a_batch_that_shares_its_cost_is_not_divided():
    """Where most of the time is the same for any number of rows, they are computed together."""
    engine = FakeEngine(concurrency=2)
    engine.cost = BatchCost(fixed_s=5.0, row_s=1.0)
    async with batcher(engine) as subject:
        tasks = [submit(subject, value) for value in (1, 2, 3, 4)]
        assert [1, 2, 3, 4] == await engine.started.get()
        engine.allow()
        await asyncio.gather(*tasks)


@run
async def test_processors_of_another_engine_are_not_idle():
    """Processors that compute another engine's batches get no part of the rows."""
    slots = Slots(2)
    other, engine = FakeEngine(), FakeEngine(concurrency=2)
    engine.cost = BatchCost(fixed_s=0.0, row_s=1.0)
    async with batcher(other, slots=slots) as first, batcher(engine, slots=slots) as second:
        tasks = [submit(first, 9)]
        await other.started.get()
        tasks += [submit(second, value) for value in (1, 2, 3)]
        assert [1, 2, 3] == await engine.started.get()
        other.allow()
        engine.allow()
        await asyncio.gather(*tasks)


@given(
    callers=st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=4), min_size=1, max_size=30),
    concurrency=st.integers(1, 3),
)
def test_everyone_gets_their_own(callers, concurrency):
    """Whatever queues up and however it is batched, every caller gets the answers to its own rows."""

    async def test():
        engine = FakeEngine(gated=False, concurrency=concurrency)
        async with batcher(engine, max_queue=200) as subject:
            tasks = [submit(subject, *values) for values in callers]
            await asyncio.gather(*tasks)
        assert [[2 * value for value in values] for values in callers] == [logits(task) for task in tasks]
        assert 0 == subject.waiting_rows

    asyncio.run(test())


@run
async def test_cost():
    """What takes longer counts for more in the queue; however costly, it is let in when nothing waits."""
    engine = FakeEngine()
    async with batcher(engine, max_queue=8) as subject:

        def submit_costly(cost):
            async def prepare():
                return np.zeros((1, 1), np.uint8)

            return asyncio.create_task(subject.submit(1, prepare, deadline=SOON, cost=cost))

        tasks = [submit_costly(100)]
        await engine.started.get()
        tasks.append(submit_costly(7))
        await settle()
        assert (1, 7) == (subject.waiting_rows, subject.waiting_cost)
        refused = submit_costly(2)
        with pytest.raises(RefusedError, match="as long as 2 small images") as caught:
            await refused
        assert ("RESOURCE_EXHAUSTED", "costly") == (caught.value.status, caught.value.reason)
        tasks.append(submit_costly(1))
        for _ in range(3):
            engine.allow()
        await asyncio.gather(*tasks)
        assert (0, 0) == (subject.waiting_rows, subject.waiting_cost)
