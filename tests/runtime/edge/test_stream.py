"""The pipeline: order, exactly once, bounded, and what becomes of faults."""

import itertools
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isplit.runtime.edge.stream import pipelined


def double(number):
    return 2 * number


def identity(item):
    return item


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_order(depth):
    """Every item is answered once, in order."""
    assert list(range(0, 100, 2)) == list(pipelined(range(50), double, identity, depth=depth))


def test_nothing():
    """No items are no answers."""
    assert [] == list(pipelined([], double, identity, depth=2))


@given(order=st.permutations(range(5)))
def test_order_when_the_last_is_first(order):
    """Answers that are ready in any order are given in the items' order."""
    ready = [threading.Event() for _ in order]
    turns = iter(order[1:])

    def finish(number):
        ready[number].wait()
        if (following := next(turns, None)) is not None:
            ready[following].set()
        return number

    ready[order[0]].set()
    assert list(range(5)) == list(pipelined(range(5), identity, finish, depth=5))


def test_overlap():
    """The next item is prepared while the last is being finished."""
    prepared = [threading.Event() for _ in range(4)]

    def prepare(number):
        prepared[number].set()
        return number

    def finish(number):
        assert number == 3 or prepared[number + 1].wait(timeout=30)
        return number

    assert [0, 1, 2, 3] == list(pipelined(range(4), prepare, finish, depth=2))


@pytest.mark.parametrize("depth", [1, 3])
def test_bounded(depth):
    """Never are more items under way than `depth`: the next one is fetched when an answer was taken."""
    lock = threading.Lock()
    taken = itertools.count(1)
    under_way, most = 0, 0

    def source():
        nonlocal under_way, most
        for number in range(40):
            with lock:
                under_way += 1
                most = max(most, under_way)
            yield number

    def finish(number):
        nonlocal under_way
        with lock:
            under_way -= 1
        return number

    for _ in pipelined(source(), identity, finish, depth=depth):
        next(taken)
    assert 41 == next(taken)
    assert most <= depth


@pytest.mark.parametrize("place", ["source", "prepare", "finish"])
def test_faults_come_in_their_place(place):
    """What goes wrong at the third item is raised after the first two answers."""

    def at(here, number):
        if here == place and number == 2:
            msg = f"{here} failed"
            raise ValueError(msg)
        return number

    source = (at("source", number) for number in range(5))
    stream = pipelined(source, lambda number: at("prepare", number), lambda number: at("finish", number), depth=2)
    assert [0, 1] == [next(stream), next(stream)]
    with pytest.raises(ValueError, match=f"{place} failed"):
        next(stream)


def test_closing_stops_the_source():
    """Who stops listening stops the source: it is closed, and its thread ends."""
    closed = threading.Event()

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    stream = pipelined(source(), identity, identity, depth=2)
    assert 0 == next(stream)
    stream.close()
    assert closed.wait(timeout=30)
    assert not [thread for thread in threading.enumerate() if thread.name == "isplit-head"]


def test_closing_waits_for_no_answer():
    """Who stops listening is not kept waiting for an answer that is still to come."""
    over = threading.Event()
    watchdog = threading.Timer(60, over.set)
    watchdog.start()

    def finish(number):
        if number:
            over.wait()
        return number

    stream = pipelined(range(3), identity, finish, depth=2)
    assert 0 == next(stream)
    stream.close()
    assert not over.is_set()
    over.set()
    watchdog.cancel()


BLOCKED = """
import threading
from isplit.runtime.edge import stream

stream._PATIENCE_S = 0.01

def source():
    yield 0
    threading.Event().wait()

answers = stream.pipelined(source(), lambda item: item, lambda item: item, depth=2)
print(next(answers))
answers.close()
"""


def test_a_source_that_blocks_keeps_no_process():
    """A camera that gives no more frames does not keep the process from ending."""
    result = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False, timeout=240)
    assert (0, "0\n") == (result.returncode, result.stdout), result.stderr
