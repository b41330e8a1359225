"""What a peer costs beyond the answers that it gets."""

import pytest

from isplit.runtime.server.front.debt import AddressDebts, Debt


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


@pytest.mark.parametrize(("seconds", "rank"), [(0.0, 0), (0.099, 0), (0.1, 1), (0.499, 1), (0.5, 2), (9.0, 2)])
def test_rank(seconds, rank):
    """A tenth of a second is noticed, and half a second is too much."""
    debt = Debt()
    debt.cost(seconds, now=100.0)
    assert rank == debt.rank(now=100.0)


@pytest.mark.parametrize(
    ("address", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("unknown", "unknown", True),
        ("not:an:address", "not:an:address", True),
    ],
)
def test_addresses(address, other, same):
    """Connections of one address share a debt; a host may use any IPv6 address with the same first 64 bits."""
    debts = AddressDebts()
    assert same == (debts.of(address) is debts.of(other))


def test_address_is_forgiven():
    """No more than two seconds are held against an address, so it is no newcomer's trouble for longer than that."""
    debt = AddressDebts().of("192.0.2.1")
    debt.cost(1000.0, now=100.0)
    assert 2 == debt.rank(now=174.9)
    assert 1 == debt.rank(now=175.1)
    assert 0 == debt.rank(now=195.1)


def test_addresses_are_bounded():
    """The address that was seen longest ago is forgotten beyond 4,096."""
    debts = AddressDebts()
    first, second = debts.of("first"), debts.of("second")
    for number in range(4094):
        debts.of(str(number))
    assert first is debts.of("first")
    debts.of("one more")
    assert first is debts.of("first")
    assert second is not debts.of("second")
