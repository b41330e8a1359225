"""Queues: by hand, against closed forms, and against SimPy."""

from collections.abc import Generator

import numpy as np
import pytest
import simpy

from isplit.plan.queues import Capacity, departures, departures_by_group, serve_batches


def test_departures_by_hand():
    """The second waits for the first, the third does not."""
    assert [5.0, 8.0, 21.0] == departures(np.array([0.0, 2.0, 20.0]), np.array([5.0, 3.0, 1.0])).tolist()


def test_queues_do_not_wait_for_each_other():
    """Two devices at the same moments leave at the same moments."""
    arrival, service = np.array([0.0, 2.0, 0.0, 2.0]), np.array([5.0, 3.0, 5.0, 3.0])
    assert [5.0, 8.0, 5.0, 8.0] == departures_by_group(arrival, service, np.array([0, 0, 1, 1])).tolist()


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_the_mean_wait_is_that_of_an_md1_queue(load: float, random: np.random.Generator):
    """Poisson arrivals and a fixed service time wait load / (2 (1 - load)) service times (Pollaczek and Khinchine)."""
    arrival = np.cumsum(random.exponential(10.0 / load, 400_000))
    service = np.full(len(arrival), 10.0)
    wait = departures(arrival, service) - arrival - 10.0
    assert 10 * load / (2 * (1 - load)) == pytest.approx(wait.mean(), rel=0.05)


def test_batches_of_one_are_the_same_queue(random: np.random.Generator):
    """A server of one worker without batches is first come first served."""
    arrival = np.cumsum(random.exponential(12.0, 3000))
    service = random.exponential(10.0, 3000)
    served = serve_batches(arrival, service, np.zeros(3000, int), workers=1, max_batch=1, queue_capacity=10**6)
    assert served.end_ms == pytest.approx(departures(arrival, service))
    assert service.sum() == pytest.approx(served.busy_ms)


def with_simpy(
    arrival: np.ndarray, service: np.ndarray, *, workers: int, max_batch: int, capacity: int, gain: float
) -> np.ndarray:
    """Return when each request is answered by a server of processes in SimPy; NaN where it is refused."""
    environment = simpy.Environment()
    waiting: list[int] = []
    idle: list[simpy.Event] = []
    end = np.full(len(arrival), np.nan)

    def worker() -> Generator[simpy.Event]:
        while True:
            while not waiting:
                wake = environment.event()
                idle.append(wake)
                yield wake
            batch, waiting[:] = waiting[:max_batch], waiting[max_batch:]
            longest = max(service[index] for index in batch)
            yield environment.timeout(longest + (1 - gain) * (sum(service[index] for index in batch) - longest))
            end[batch] = environment.now

    def source() -> Generator[simpy.Event]:
        for index, moment in enumerate(arrival):
            yield environment.timeout(moment - environment.now)
            if len(waiting) < capacity:
                waiting.append(index)
                if idle:
                    idle.pop().succeed()

    for _ in range(workers):
        environment.process(worker())
    environment.process(source())
    environment.run(until=float(arrival[-1] + service.sum() + 1))
    return end


@pytest.mark.parametrize(
    ("workers", "max_batch", "capacity", "gain"),
    [(1, 1, 1000, 0.0), (1, 4, 1000, 0.0), (1, 8, 5, 0.5), (2, 4, 3, 0.8), (3, 1, 1, 0.0), (1, 16, 16, 1.0)],
)
def test_simpy_serves_the_same(workers: int, max_batch: int, capacity: int, gain: float, random: np.random.Generator):
    """Answers and refusals are those of an event simulation with processes."""
    arrival = np.cumsum(random.exponential(8.0 / workers, 1500))
    service = random.uniform(5.0, 12.0, 1500)
    served = serve_batches(
        arrival,
        service,
        np.zeros(1500, int),
        workers=workers,
        max_batch=max_batch,
        queue_capacity=capacity,
        batch_gain=gain,
    )
    expected = with_simpy(arrival, service, workers=workers, max_batch=max_batch, capacity=capacity, gain=gain)
    assert np.isnan(expected).tolist() == np.isnan(served.end_ms).tolist()
    assert expected == pytest.approx(served.end_ms, nan_ok=True)
    assert served.batch_sizes.max() <= max_batch


def test_kinds_are_not_batched_together():
    """Of three that wait, the second is of another kind: three batches."""
    served = serve_batches(
        np.array([0.0, 1.0, 1.0, 1.0]),
        np.full(4, 10.0),
        np.array([0, 0, 1, 0]),
        workers=1,
        max_batch=8,
        queue_capacity=9,
    )
    assert [1, 1, 1, 1] == served.batch_sizes.tolist()


def test_a_link_that_changes_by_hand():
    """1,000 bit/s, then nothing for a second, then 500 bit/s: 1,500 bits sent at 0 have left after 3 s."""
    link = Capacity.changing(np.array([0.0, 1.0, 2.0]), np.array([1000.0, 0.0, 500.0]), seconds=4.0, until_ms=20_000.0)
    assert [3000.0] == link.send(np.array([0.0]), np.array([1500.0])).tolist()
    assert [2000.0 + 100.0] == link.send(np.array([1200.0]), np.array([50.0])).tolist()
    assert [1000.0] == link.send(np.array([0.0]), np.array([1000.0])).tolist()
    assert [4000.0 + 500.0] == link.send(np.array([4000.0]), np.array([500.0])).tolist()  # it repeats


def test_a_constant_link_is_a_queue():
    """Two messages of 1,000 bits at 1 kbit/s leave after one and two seconds, also beyond the horizon."""
    link = Capacity.constant(1000.0, until_ms=500.0)
    assert [1000.0, 2000.0] == link.send(np.zeros(2), np.full(2, 1000.0)).tolist()
