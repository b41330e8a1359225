"""Retry and circuit breaker: every decision by hand, on a clock that the test moves."""

import threading

import pytest

from isplit.errors import InputError
from isplit.runtime.edge.policy import Breaker, BreakerSettings, Retry


class Clock:
    """Seconds that pass when the test says so; multiples of 125 ms are exact in binary."""

    def __init__(self):
        self.now_ms = 0.0

    def __call__(self):
        return self.now_ms / 1000


# --- retry ---

RETRY = Retry(attempts=5, first_ms=20, max_ms=100)


@pytest.mark.parametrize(
    ("failures", "draw", "expected"),
    [
        (1, 0.5, 10.0),  # half of 20
        (2, 0.5, 20.0),  # half of 40
        (3, 0.5, 40.0),  # half of 80
        (4, 0.5, 50.0),  # half of 160, which is limited to 100
        (4, 0.0, 0.0),
        (5, 0.5, None),  # that was the fifth attempt
    ],
)
def test_delay(failures, draw, expected):
    """The limit of the wait doubles with every failure up to the largest; after the last attempt there is none."""
    assert expected == RETRY.delay_ms(failures, remaining_ms=None, draw=draw)


def test_delay_after_very_many_failures():
    """A patient caller may try ten thousand times."""
    assert 50.0 == Retry(attempts=10_000, first_ms=20, max_ms=100).delay_ms(9_999, remaining_ms=None, draw=0.5)


@pytest.mark.parametrize(("remaining_ms", "expected"), [(10.1, 10.0), (10.0, None), (0.0, None), (-3.0, None)])
def test_delay_within_the_deadline(remaining_ms, expected):
    """A wait that would use up the time that is left is not begun."""
    assert expected == RETRY.delay_ms(1, remaining_ms=remaining_ms, draw=0.5)


def test_delay_doubles_as_long_as_it_can():
    """The 65th wait is 2^64 times the first; those after it are no longer, for a float could not hold them for ever."""
    patient = Retry(attempts=10_000, first_ms=1, max_ms=1e300)
    delays = [patient.delay_ms(failures, remaining_ms=None, draw=1.0) for failures in (1, 2, 64, 65, 66, 9_999)]
    assert [1.0, 2.0, 2.0**63, 2.0**64, 2.0**64, 2.0**64] == delays


@pytest.mark.parametrize("fields", [{"attempts": 0}, {"first_ms": -1}, {"first_ms": 50, "max_ms": 20}])
def test_retry_makes_sense(fields):
    """Numbers that make no sense are refused."""
    with pytest.raises(InputError):
        Retry(**fields)


@pytest.mark.parametrize("fields", [{"attempts": 1}, {"first_ms": 0}, {"first_ms": 0, "max_ms": 0}, {"max_ms": 25}])
def test_retry_at_its_limits(fields):
    """One attempt, and no wait at all, make sense."""
    assert fields == {name: getattr(Retry(**fields), name) for name in fields}


def test_one_attempt():
    """With one attempt, the first failure is the last."""
    assert Retry(attempts=1).delay_ms(1, remaining_ms=None, draw=0.5) is None


def test_defaults():
    """The defaults are what docs/device.md says."""
    assert Retry(attempts=4, first_ms=25.0, max_ms=400.0) == Retry()
    assert BreakerSettings(failures=5, open_ms=100.0, max_open_ms=500.0) == BreakerSettings()


# --- breaker ---


@pytest.fixture
def clock():
    """A clock at 0."""
    return Clock()


@pytest.fixture
def breaker(clock):
    """Opens after three failures, for 125 ms, then 250, then 375 at most."""
    return Breaker(BreakerSettings(failures=3, open_ms=125, max_open_ms=375), clock=clock)


def fail(breaker, times):
    for _ in range(times):
        assert breaker.admit()
        breaker.failed()


def test_closed(breaker):
    """A breaker begins closed and stays so as long as successes come between failures."""
    for _ in range(4):
        fail(breaker, 2)
        assert breaker.admit()
        breaker.succeeded()
    assert "closed" == breaker.state


def test_opens(breaker, clock):
    """The third failure in a row opens it: nothing is sent for 125 ms."""
    fail(breaker, 3)
    assert "open" == breaker.state
    clock.now_ms = 124
    assert not breaker.admit()


def test_probe_succeeds(breaker, clock):
    """After 125 ms one request goes through; once it is answered, all do."""
    fail(breaker, 3)
    clock.now_ms = 125
    assert "half-open" == breaker.state
    assert breaker.admit()
    assert not breaker.admit()
    assert "half-open" == breaker.state
    breaker.succeeded()
    assert "closed" == breaker.state
    assert breaker.admit()


def test_probe_fails(breaker, clock):
    """A failed probe opens it again, twice as long every time, up to the limit."""
    fail(breaker, 3)
    for open_ms in (125, 250, 375, 375):
        clock.now_ms += open_ms - 1
        assert not breaker.admit()
        clock.now_ms += 1
        assert breaker.admit()
        breaker.failed()


def test_forgets(breaker, clock):
    """Once closed again, it takes three failures to open it, and 125 ms until the next probe."""
    fail(breaker, 3)
    clock.now_ms = 125
    fail(breaker, 1)
    clock.now_ms = 375
    assert breaker.admit()
    breaker.succeeded()
    fail(breaker, 3)
    clock.now_ms = 499
    assert not breaker.admit()
    clock.now_ms = 500
    assert breaker.admit()


def test_stragglers(breaker, clock):
    """Requests sent before it opened may fail later without prolonging it; one that succeeds closes it."""
    fail(breaker, 3)
    clock.now_ms = 50
    breaker.failed()
    clock.now_ms = 124
    assert not breaker.admit()
    breaker.succeeded()
    assert breaker.admit()


@pytest.mark.parametrize("fields", [{"failures": 0}, {"open_ms": 0}, {"open_ms": 50, "max_open_ms": 20}])
def test_breaker_makes_sense(fields):
    """Numbers that make no sense are refused."""
    with pytest.raises(InputError):
        BreakerSettings(**fields)


@pytest.mark.parametrize("fields", [{"failures": 1}, {"open_ms": 1}, {"max_open_ms": 100}, {"open_ms": 0.5}])
def test_breaker_at_its_limits(fields):
    """One failure, and a pause that does not grow, make sense."""
    assert fields == {name: getattr(BreakerSettings(**fields), name) for name in fields}


def test_one_failure_opens(clock):
    """A breaker of one failure opens with the first, and lets one probe through at the very moment that it may."""
    breaker = Breaker(BreakerSettings(failures=1, open_ms=125, max_open_ms=125), clock=clock)
    fail(breaker, 1)
    assert ("open", False) == (breaker.state, breaker.admit())
    clock.now_ms = 125
    assert [True, False, False] == [breaker.admit() for _ in range(3)]


def test_how_long_it_is_open():
    """The pause is in milliseconds, to the last: the clock is in seconds."""
    clock = Clock()
    breaker = Breaker(BreakerSettings(failures=1, open_ms=125_000, max_open_ms=125_000), clock=clock)
    fail(breaker, 1)
    clock.now_ms = 124_999
    assert ("open", False) == (breaker.state, breaker.admit())
    clock.now_ms = 125_000
    assert ("half-open", True) == (breaker.state, breaker.admit())


def test_a_straggler_that_succeeds_ends_a_probe_too(breaker, clock):
    """Closed by a straggler while a probe is out, it takes three failures again, the probe's among them."""
    fail(breaker, 3)
    clock.now_ms = 125
    assert breaker.admit()
    breaker.succeeded()
    breaker.failed()
    assert "closed" == breaker.state
    fail(breaker, 1)
    assert "closed" == breaker.state
    fail(breaker, 1)
    assert "open" == breaker.state


def test_failures_before_it_opened_are_forgotten(breaker, clock):
    """After it was open and closed again, all three failures have to come anew."""
    fail(breaker, 3)
    clock.now_ms = 125
    assert breaker.admit()
    breaker.succeeded()
    fail(breaker, 2)
    assert "closed" == breaker.state


def test_a_failed_probe_is_over(breaker, clock):
    """After a failed probe the next may go once the longer pause is over; until then none is out."""
    fail(breaker, 3)
    clock.now_ms = 125
    fail(breaker, 1)
    assert "open" == breaker.state
    clock.now_ms = 125 + 250
    assert "half-open" == breaker.state
    assert breaker.admit()


def test_late_failure_does_not_end_the_probe():
    """While a probe is under way, the failure of a request that was sent before counts for nothing."""
    clock = Clock()
    breaker = Breaker(BreakerSettings(failures=1, open_ms=125, max_open_ms=375), clock=clock)
    assert breaker.admit()

    def probe():
        clock.now_ms += 1000
        admitted.append(breaker.admit())
        probing.set()
        assert failed_late.wait(30)
        states.append(breaker.state)
        breaker.failed()

    admitted, states = [], []
    probing, failed_late = threading.Event(), threading.Event()
    breaker.failed()
    thread = threading.Thread(target=probe)
    thread.start()
    assert probing.wait(30)
    breaker.failed()  # of an earlier request
    assert not breaker.admit()
    failed_late.set()
    thread.join()
    assert ([True], ["half-open"]) == (admitted, states)
    assert "open" == breaker.state
