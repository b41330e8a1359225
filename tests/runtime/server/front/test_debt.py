"""What a peer costs beyond the answers that it gets."""

import pytest

from isplit.runtime.server.front.debt import Debt


def test_cost():
    """Half a second without an answer is too much; a fiftieth of a second is forgiven each second."""
    debt = Debt()
    debt.cost(0.3, now=100.0)
    assert not debt.is_too_high(now=100.0)
    debt.cost(0.25, now=101.0)
    assert debt.is_too_high(now=101.0)  # 0.53
    assert debt.is_too_high(now=102.4)
    assert not debt.is_too_high(now=102.6)


@pytest.mark.parametrize(("count", "expected"), [(24, False), (25, True)])
def test_refused(count, expected):
    """Twenty-five calls in a moment that are refused before their messages came are too many."""
    debt = Debt()
    for _ in range(count):
        debt.refused(now=100.0)
    assert expected == debt.is_too_high(now=100.0)


@pytest.mark.parametrize(("message_bytes", "left"), [(0, 0.895), (1_000_000, 0.795), (7_500_000, 0.145)])
def test_answered(message_bytes, left):
    """An answer pays for five milliseconds, and for 100 ns of each byte of its request."""
    debt = Debt()
    debt.cost(0.9, now=100.0)
    debt.answered(message_bytes, now=100.0)
    debt.cost(0.5 - left + 1e-4, now=100.0)
    assert debt.is_too_high(now=100.0)
    debt.cost(-2e-4, now=100.0)
    assert not debt.is_too_high(now=100.0)


def test_nothing_is_owed_to_the_peer():
    """Answers beyond what they cost, and time, do not pay for what comes later."""
    debt = Debt()
    debt.answered(2**30, now=100.0)
    debt.cost(0.5, now=1000.0)
    assert debt.is_too_high(now=1000.0)
