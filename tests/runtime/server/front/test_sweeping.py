"""Sweeps on a clock that the test moves: nobody waits for more than a slice, and everything is swept."""

from isplit.runtime.server.front.sweeping import SWEEP_S, Sweeper
from tests.runtime.server.front.test_strangers import Loop


class SweptLoop(Loop):
    """The clock of an event loop on which timers are set by delays."""

    def call_later(self, delay, function, *arguments):
        return self.call_at(self.now + delay, function, *arguments)


def test_slices():
    """A sweep pauses after a millisecond of steps, goes on where it was, and the next one begins after its time."""
    loop, log = SweptLoop(), []

    def sweep():
        for number in range(6):
            log.append((number, round(loop.now - 100, 4)))
            loop.now += 0.0005
            yield

    sweeper = Sweeper(sweep, loop)
    loop.advance(SWEEP_S)
    assert [0, 1] == [number for number, _ in log]
    loop.advance(0.1)
    assert [0, 1, 2, 3, 4, 5] == [number for number, _ in log]
    pauses_s = [later - earlier for (_, earlier), (_, later) in zip(log[1::2], log[2::2], strict=False)]
    assert [0.0025, 0.0025] == [round(pause, 4) for pause in pauses_s]
    loop.advance(SWEEP_S)
    assert [0, 1, 2, 3, 4, 5] == [number for number, _ in log[6:]]
    sweeper.close()
    loop.advance(10 * SWEEP_S)
    assert 12 == len(log)


def test_a_step_that_fails():
    """The fault shows, and the next sweep comes all the same."""
    loop, begun = SweptLoop(), []

    def sweep():
        begun.append(loop.now)
        if len(begun) == 1:
            raise RuntimeError
        yield

    Sweeper(sweep, loop)
    try:
        loop.advance(SWEEP_S)
    except RuntimeError:
        pass
    else:
        raise AssertionError
    loop.advance(SWEEP_S)
    assert 2 == len(begun)
