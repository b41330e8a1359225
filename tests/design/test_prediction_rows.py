"""Warnings of predictions: which splits exceed their budget, by how much, and whose accuracy is less certain."""

from types import SimpleNamespace

import pytest

from isplit.design.prediction_rows import prediction_warnings
from tests.plan.conftest import make_predictions

ENOUGH = SimpleNamespace(are_shared=False, held_out=range(500))
SHARED = SimpleNamespace(are_shared=True, held_out=range(50))
EXACT = "on the select part 2 of 8 splits exceed their budget by more than 2%, most of all late at 256B by 10.2%."


def rows(payloads=None):
    """Return eight predictions, of which some have other mean payloads than 6 bytes below their budget."""
    changed = []
    for row in make_predictions().predictions:
        mean = (payloads or {}).get((row.cut, row.budget.payload_bytes), row.measurement.payload_bytes.mean)
        payload = row.measurement.payload_bytes.model_copy(update={"mean": mean})
        measurement = row.measurement.model_copy(update={"payload_bytes": payload})
        changed.append(row.model_copy(update={"measurement": measurement}))
    return changed


@pytest.mark.parametrize("images", [ENOUGH, SHARED])
def test_exceeded_budgets(images):
    """Splits more than 2 % above their budget are counted and the worst is named, whatever the statistics are from."""
    over = {("late", 256): 282.0, ("late", 1024): 1044.0, ("early", 1024): 1050.0}
    warnings = prediction_warnings(images, rows(over))
    assert EXACT in warnings[-1]
    assert images.are_shared + 1 == len(warnings)
    assert ("the fit part has 50 images, too few" in warnings[0]) == images.are_shared


def test_kept_budgets():
    """Payloads below the budget, or hardly above it, are no reason to warn."""
    assert () == prediction_warnings(ENOUGH, rows({("late", 256): 261.0, ("early", 1024): 500.0}))
