"""What is held back for a fallback: quantiles and budgets by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isplit.runtime.edge.reserve import Doubt, Reserve, high_quantile, server_budget_ms


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 3.0, 2.0], 3.0),
        (range(99), 98),  # of fewer than 100 the largest
        (range(100), 98),  # 99 % of 100 are 99 values, and the 99th of 0, 1, 2, ... is 98
        (range(101), 99),
        (range(128), 126),
    ],
)
def test_high_quantile(values, expected):
    """The least value that 99 % of the values do not exceed."""
    assert expected == high_quantile(values)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_at_most_one_percent_exceed(values):
    """At most 1 % of the values are above their high quantile, and it is one of them."""
    quantile = high_quantile(values)
    assert quantile in values
    assert sum(value > quantile for value in values) <= 0.01 * len(values)


def test_nothing_measured():
    """Before the whole model was timed there is nothing to hold back, even where timers were."""
    reserve = Reserve()
    reserve.note_lateness(3.0)
    assert reserve.held_back_ms() is None


@pytest.mark.parametrize(
    ("local_ms", "lateness_ms", "expected"),
    [
        ([10.0], [], 10 * 1.5 + 6 + 1),  # the first guess at a timer's lateness is 6 ms
        ([10.0], [1.0], 10 * 1.5 + 6 + 1),
        ([10.0], [9.0], 10 * 1.5 + 9 + 1),
        ([10.0, 20.0], [], 20 * 1.25 + 6 + 1),
        ([20.0, 10.0, 10.0, 10.0, 10.0], [], 20 * 1.1 + 6 + 1),
        ([99.0] + [10.0] * 99, [], 10 * 1.005 + 6 + 1),  # one in a hundred does not count
        ([99.0] + [10.0] * 127, [50.0] + [2.0] * 127, 10 * (1 + 0.5 / 128) + 2 + 1),
        ([99.0] * 50 + [10.0] * 128, [50.0] * 50 + [2.0] * 128, 10 * (1 + 0.5 / 128) + 2 + 1),  # forgotten
        ([10.0] * 126 + [99.0] * 2, [], 99 * (1 + 0.5 / 128) + 6 + 1),  # two in 128 count
    ],
)
def test_held_back(local_ms, lateness_ms, expected):
    """High quantiles of the local times and of the timer's lateness, and a margin: more while little was measured."""
    reserve = Reserve()
    for value in local_ms:
        reserve.note_local(value)
    for value in lateness_ms:
        reserve.note_lateness(value)
    assert expected == pytest.approx(reserve.held_back_ms())


@pytest.mark.parametrize("doubtful", [True, False])
@pytest.mark.parametrize(
    ("remaining_ms", "held_back_ms", "expected"),
    [
        (None, None, None),
        (None, 20.0, None),
        (100.0, None, 100.0),
        (-5.0, None, -5.0),
        (100.0, 20.0, 80.0),  # what the fallback needs is held back
        (100.0, 50.0, 50.0),
    ],
)
def test_budget(remaining_ms, held_back_ms, doubtful, expected):
    """The server gets what is left, less what a fallback would take."""
    assert expected == server_budget_ms(remaining_ms, held_back_ms=held_back_ms, doubtful=doubtful)


@pytest.mark.parametrize(
    ("remaining_ms", "held_back_ms", "expected"),
    [(100.0, 51.0, 100.0), (100.0, 120.0, 100.0), (-5.0, 20.0, -5.0)],
)
def test_budget_of_a_server_that_answers(remaining_ms, held_back_ms, expected):
    """A server that has been answering gets everything where the fallback takes more than half."""
    assert expected == server_budget_ms(remaining_ms, held_back_ms=held_back_ms, doubtful=False)


@pytest.mark.parametrize(
    ("remaining_ms", "held_back_ms", "expected"),
    [(100.0, 51.0, 49.0), (100.0, 100.0, 0.0), (100.0, 120.0, 0.0), (-5.0, 20.0, 0.0)],
)
def test_budget_of_a_server_that_timed_out(remaining_ms, held_back_ms, expected):
    """A server that timed out gets the rest, however little: the fallback is to be in time."""
    assert expected == server_budget_ms(remaining_ms, held_back_ms=held_back_ms, doubtful=True)


def test_no_doubt():
    """A server is trusted until it times out, and again once it answers."""
    doubt = Doubt()
    assert not doubt.of_next()
    doubt.tried()
    assert not doubt.of_next()
    doubt.timed_out()
    assert doubt.of_next()
    doubt.answered()
    assert not doubt.of_next()


def test_every_hundredth_image_tries():
    """After a timeout every hundredth image gives the server everything, and those after it until one is sent."""
    doubt = Doubt()
    doubt.timed_out()
    assert [True] * 99 == [doubt.of_next() for _ in range(99)]
    assert [False] * 2 == [doubt.of_next() for _ in range(2)]
    doubt.timed_out()  # not the first: the count goes on
    assert not doubt.of_next()
    doubt.tried()
    assert [True] * 99 == [doubt.of_next() for _ in range(99)]
    assert not doubt.of_next()
