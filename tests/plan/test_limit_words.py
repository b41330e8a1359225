"""isplit.plan.limit_words: the limits of a plan in sentences, by hand."""

import pytest

from isplit.plan.limit_words import broken_by_any, broken_figures, broken_limits, excluded
from isplit.plan.planner import plan
from isplit.records import ExcludedBy, Limits
from tests.plan.conftest import plain_link


@pytest.fixture
def local(study, board, cloud):
    """The whole model on the device, which takes 100 ms."""
    record = plan(study, device=board, link=plain_link(), server=cloud)
    return record.placement("local").model_copy(update={"latency_ms": 100.0})


def entry(limit, value, **changes):
    fields = {"excludes": 3, "excludes_alone": 0, "nearest_value": None, "nearest_placement": None}
    return ExcludedBy(limit=limit, limit_value=value, **fields | changes)


def test_limits_that_are_kept(local):
    """Nothing is said of a placement that keeps all limits."""
    kept = local.model_copy(update={"violates": ()})
    assert ("", "") == (broken_limits(kept), broken_figures(kept, []))


def test_limits_that_are_broken(local):
    """Each is named once, with its figure and the limit where there is one."""
    broken = local.model_copy(
        update={"violates": ("max_latency_ms", "max_accuracy_loss", "min_accuracy", "hide_answer")}
    )
    assert "the latency and the accuracy and who sees the answer" == broken_limits(broken)
    broken = local.model_copy(update={"violates": ("max_latency_ms", "hide_answer")})
    expected = "the latency (100 ms instead of at most 20 ms) and who sees the answer"
    assert expected == broken_figures(broken, [entry("max_latency_ms", 20.0)])


def test_legend_of_broken_limits(local):
    """Every limit that a row breaks is named once with its option; of a loss, the bound is judged."""
    limits = Limits(max_device_memory_bytes=150_000_000, max_accuracy_loss=0.01, hide_image=True)
    rows = [
        local.model_copy(update={"violates": violates})
        for violates in [(), ("max_accuracy_loss", "capacity"), ("max_accuracy_loss", "hide_image")]
    ]

    expected = (
        "a loss of at most 1.0 points, judged by its 95 % bound (--max-accuracy-loss)",
        "serving requests as fast as they come",
        "keeping the image on the device (--hide-image)",
    )
    assert expected == broken_by_any(rows, limits)
    memory = local.model_copy(update={"violates": ("max_device_memory_bytes",)})
    (words,) = broken_by_any([memory], limits)
    assert words.endswith(" of memory on the device (--max-device-memory)")
    assert () == broken_by_any(rows[:1], limits)


@pytest.mark.parametrize(
    ("limit", "value", "changes", "default", "says"),
    [
        ("max_latency_ms", 20.0, {}, False, "A latency of at most 20 ms excludes 3 of 7 placements."),
        ("max_accuracy_loss", 0.01, {}, True, "A loss of at most 1.0 points (the default) excludes 3 of 7 placements."),
        ("max_accuracy_loss", 0.01, {}, False, "A loss of at most 1.0 points excludes 3 of 7 placements."),
        ("min_accuracy", 0.8, {}, True, "An accuracy of at least 80.0 % excludes 3 of 7 placements."),
        (
            "max_latency_ms",
            20.0,
            {"nearest_value": 1234.5, "nearest_placement": "local"},
            False,
            "A latency of at most 20 ms excludes 3 of 7 placements (closest: 1,234 ms, local).",
        ),
        ("hide_image", 1.0, {}, False, "Keeping the image on the device excludes 3 of 7 placements."),
    ],
)
def test_excluded(limit, value, changes, default, says):
    """How many placements a limit excludes, and how close the closest comes."""
    assert says == excluded(entry(limit, value, **changes), of=7, default_loss=default)
