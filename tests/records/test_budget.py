"""Budgets: their order, their short names, and that one in a record is of one kind."""

import pytest
from pydantic import TypeAdapter, ValidationError

from isplit.records import Budget
from isplit.records.budget import RecordedBudget


def test_order_of_budgets():
    """Bytes come first, small before large; then shares of the elements, the smallest first."""
    budgets = [Budget(element_ratio=8), Budget(payload_bytes=512), Budget(element_ratio=64), Budget(payload_bytes=64)]
    assert ["64B", "512B", "1in64", "1in8"] == [b.tag for b in sorted(budgets, key=lambda budget: budget.order)]


@pytest.mark.parametrize("fields", [{}, {"payload_bytes": 64, "element_ratio": 8}])
def test_a_recorded_budget_is_of_one_kind(fields: dict[str, float]):
    """A budget of bytes and of elements at once, or of neither, is refused when a record is read."""
    with pytest.raises(ValidationError, match="either payload_bytes or element_ratio"):
        TypeAdapter(RecordedBudget).validate_python(fields)
