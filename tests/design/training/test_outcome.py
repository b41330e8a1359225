"""The better of the trained split and its closed form is kept, and the record says why a budget is missed."""

from types import SimpleNamespace

import pytest

from isplit.design.splits import BuiltSplit
from isplit.design.training import outcome
from isplit.design.training.outcome import compare_with_closed_form
from isplit.design.training.rate import CodedLatents
from isplit.progress import silent
from isplit.records import Budget
from tests.plan.conftest import make_graph, measurement

CUT = make_graph().cuts[0]
FINEST = "at the finest quantiser, all information that the latents hold is sent"
FINER = "the next finer quantiser would take more than the budget"


def split(codec: str) -> BuiltSplit:
    """Return a split that is told apart from others by its codec alone."""
    return BuiltSplit(CUT, SimpleNamespace(), codec)


TRAINED, CLOSED_FORM, AT_BUDGET = split("trained"), split("closed form"), "at budget"


@pytest.fixture
def compare(monkeypatch):
    """Return a function that compares splits with these losses in points and payloads on the select part."""

    def run(figures, *, payload_bytes=100, before=CLOSED_FORM, at_budget=True, finest=(False, False)):
        budget = Budget(payload_bytes=payload_bytes) if payload_bytes else Budget(element_ratio=64)
        seen = []

        def measured(task, splits, *, part, progress):
            assert (budget, "select") == (task.budget, part)
            seen.extend(built.codec for built in splits)
            return [
                measurement(loss, payload=payload, elements=10, head_share=0.3)
                for loss, payload in (figures[built.codec] for built in splits)
            ]

        monkeypatch.setattr(outcome, "measured", measured)
        coded = CodedLatents(AT_BUDGET, 100.0, finest[1]) if at_budget else None
        result = compare_with_closed_form(
            SimpleNamespace(budget=budget),
            SimpleNamespace(before=before),
            TRAINED,
            at_budget=coded,
            is_finest=finest[0],
            progress=silent,
        )
        return result, seen

    return run


def test_the_more_accurate_is_kept(compare):
    """Within the budget, accuracy on the select part decides; the trained split is kept where both are as accurate."""
    for loss, expected in ((2, TRAINED), (1, TRAINED), (0.5, CLOSED_FORM)):
        result, _ = compare({"trained": (1, 99), "closed form": (loss, 100), AT_BUDGET: (9, 100)})
        assert expected is result.kept
        assert (expected is CLOSED_FORM) == result.is_closed_form
        assert (99, 100) == (result.select.payload_bytes.mean, result.closed_form_select.payload_bytes.mean)
        assert result.budget_note is None


@pytest.mark.parametrize("payload", [103, 97])
def test_a_closed_form_off_its_budget_gets_the_quantiser_that_fills_it(compare, payload):
    """It is kept only if it wins at the budget; accuracy at other bytes does not count."""
    result, seen = compare({"trained": (1, 100), "closed form": (0, payload), AT_BUDGET: (0.5, 101)})
    assert ["trained", "closed form", AT_BUDGET] == seen
    assert (CLOSED_FORM.bottleneck, AT_BUDGET, True) == (
        result.kept.bottleneck,
        result.kept.codec,
        result.is_closed_form,
    )
    assert payload == result.closed_form_select.payload_bytes.mean
    assert result.budget_note is None

    result, _ = compare({"trained": (1, 100), "closed form": (0, payload), AT_BUDGET: (2, 101)})
    assert (TRAINED, False, None) == (result.kept, result.is_closed_form, result.budget_note)


def test_a_missed_budget_is_explained(compare):
    """The reason is that of the split that is kept: its own quantiser is the finest, or the next one is too much."""
    figures = {"trained": (1, 90), "closed form": (0.5, 80), AT_BUDGET: (0.5, 85)}
    result, _ = compare(figures, finest=(False, True))
    assert f"payloads on the select part take 85.0 of 100 bytes: {FINEST}" == result.budget_note
    result, _ = compare(figures | {AT_BUDGET: (2, 85)}, finest=(False, True))
    assert f"payloads on the select part take 90.0 of 100 bytes: {FINER}" == result.budget_note
    result, _ = compare(figures | {AT_BUDGET: (2, 85)}, finest=(True, False))
    assert result.budget_note is not None
    assert FINEST in result.budget_note


def test_a_random_start_has_nothing_to_compare_with(compare):
    """The trained split is kept, whatever it loses."""
    result, seen = compare({"trained": (50, 90)}, before=None, at_budget=False)
    assert ["trained"] == seen
    assert (TRAINED, False, None) == (result.kept, result.is_closed_form, result.closed_form_select)
    assert f"payloads on the select part take 90.0 of 100 bytes: {FINER}" == result.budget_note


def test_a_ratio_has_no_budget_of_bytes_to_miss(compare):
    """Only accuracy decides, and no payload is explained."""
    result, seen = compare({"trained": (1, 90), "closed form": (0, 500)}, payload_bytes=None, at_budget=False)
    assert ["trained", "closed form"] == seen
    assert (CLOSED_FORM, True, None) == (result.kept, result.is_closed_form, result.budget_note)
