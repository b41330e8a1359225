"""Budgets as users give them: a number of bytes, a `Budget`, or several of either."""

from collections.abc import Iterable

from isplit.codec.codec import smallest_payload_bytes
from isplit.errors import InputError
from isplit.records import Budget

DEFAULT_BUDGETS = tuple(Budget(payload_bytes=count) for count in (128, 512, 2048))
"""The budgets of `predict` where none is given: from far below a compressed photograph to about a small one."""

Budgets = int | Budget | Iterable[int | Budget]
"""One budget or several; an int is a mean payload in bytes."""


def read_budget(budget: int | Budget) -> Budget:
    """Return a budget, an int as a mean payload in bytes, after checking that a payload can meet it.

    Raises:
        InputError: the budget is too small, or it is neither bytes nor a ratio.

    Examples:
        >>> read_budget(256).payload_bytes
        256

    """
    payload_bytes = budget if isinstance(budget, int) else budget.payload_bytes
    if isinstance(budget, Budget) and (payload_bytes is None) == (budget.element_ratio is None):
        msg = "a budget is either bytes or an element ratio: give one of the two"
        raise InputError(msg)
    if payload_bytes is not None and payload_bytes < smallest_payload_bytes():
        msg = (
            f"a budget of {payload_bytes} bytes is below the smallest payload, {smallest_payload_bytes()} bytes "
            "with its header: give more"
        )
        raise InputError(msg)
    if isinstance(budget, int):
        return Budget(payload_bytes=budget)
    if budget.element_ratio is not None and not 1 <= budget.element_ratio < float("inf"):
        msg = f"an element ratio of {budget.element_ratio:g} sends more than everything: give 1 or more"
        raise InputError(msg)
    return budget


def read_budgets(budgets: Budgets) -> tuple[Budget, ...]:
    """Return one budget or several as a tuple of checked budgets.

    Raises:
        InputError: there is none, or one that no payload can meet (see `read_budget`).

    Examples:
        >>> [budget.payload_bytes for budget in read_budgets([64, 256])]
        [64, 256]

    """
    given: object = budgets
    several = (budgets,) if isinstance(budgets, int | Budget) else tuple(budgets) if isinstance(given, Iterable) else ()
    if not several or not all(isinstance(budget, int | Budget) for budget in several):
        msg = "give at least one budget: a number of bytes, or Budget(element_ratio=N)"
        raise InputError(msg)
    return tuple(read_budget(budget) for budget in several)
