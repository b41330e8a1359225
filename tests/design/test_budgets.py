"""Budgets as users give them."""

import pytest

from isplit.codec.codec import smallest_payload_bytes
from isplit.design.budgets import DEFAULT_BUDGETS, read_budget, read_budgets
from isplit.errors import InputError
from isplit.records import Budget


def test_numbers_are_bytes():
    """An int is a mean payload in bytes; a budget stays as it is."""
    assert Budget(payload_bytes=256) == read_budget(256)
    assert Budget(element_ratio=64) == read_budget(Budget(element_ratio=64))


def test_one_or_several():
    """One budget is a tuple of one, and several keep their order."""
    assert (Budget(payload_bytes=256),) == read_budgets(256)
    assert (Budget(payload_bytes=512), Budget(element_ratio=4)) == read_budgets([512, Budget(element_ratio=4)])
    assert DEFAULT_BUDGETS == read_budgets(DEFAULT_BUDGETS)


def test_the_smallest_payload_is_the_limit():
    """A budget of just the smallest payload is taken; a byte less is refused with that number."""
    least = smallest_payload_bytes()
    assert least == read_budget(least).payload_bytes
    with pytest.raises(InputError, match=f"the smallest payload, {least} bytes"):
        read_budget(least - 1)


@pytest.mark.parametrize("count", [0, -3])
def test_no_bytes_at_all(count: int):
    """Zero and negative numbers are too few bytes like others, although no `Budget` could hold them."""
    with pytest.raises(InputError, match=f"a budget of {count} bytes is below the smallest payload"):
        read_budgets(count)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(), "either bytes or an element ratio"),
        (Budget(payload_bytes=256, element_ratio=4), "either bytes or an element ratio"),
        (Budget(element_ratio=0.5), "sends more than everything"),
    ],
)
def test_refused(budget: Budget, words: str):
    """Neither of the two, both, and a ratio below one are refused."""
    with pytest.raises(InputError, match=words):
        read_budget(budget)


def test_none_at_all():
    """No budget is refused with what to give."""
    with pytest.raises(InputError, match="at least one budget"):
        read_budgets([])
