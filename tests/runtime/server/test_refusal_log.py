"""Refusals in the metrics and in the log, which a flood does not fill."""

from pathlib import Path

import pytest
from prometheus_client import generate_latest

from isplit.runtime.server.metrics import Metrics
from isplit.runtime.server.refusal_log import REASONS, RefusalLog

DOCS = Path(__file__).parents[3] / "docs" / "server.md"


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def logged(caplog):
    return [record.fields for record in caplog.records if record.getMessage() == "refused"]


def test_flood(clock, caplog):
    """The first refusal of a reason is logged at once, the rest of ten seconds in one line, and all are counted."""
    metrics = Metrics()
    refusals = RefusalLog(metrics, clock=clock)
    for number in range(1000):
        refusals.note("token", detail="wrong", peer=f"10.0.0.{number % 7}")
        refusals.flush()
    assert [("token", 1)] == [(line["reason"], line["count"]) for line in logged(caplog)]
    clock.seconds = 10
    refusals.flush()
    last = logged(caplog)[-1]
    assert (2, 999, 10, 5) == (len(logged(caplog)), last["count"], last["seconds"], len(last["peers"]))
    assert 'isplit_refusals_total{reason="token"} 1000.0' in generate_latest(metrics.registry).decode()


def test_after_a_quiet_time(clock, caplog):
    """After ten quiet seconds a refusal is logged at once again."""
    refusals = RefusalLog(Metrics(), clock=clock)
    refusals.note("late", detail="a")
    clock.seconds = 10
    refusals.flush()
    refusals.note("late", detail="b")
    assert ["a", "b"] == [line["detail"] for line in logged(caplog)]


def test_debug(clock, caplog):
    """At the level debug each refusal is logged."""
    caplog.set_level("DEBUG", logger="isplit.server")
    refusals = RefusalLog(Metrics(), clock=clock)
    for detail in ("a", "b"):
        refusals.note("invalid", detail=detail, model="m")
    assert [("a", "m"), ("b", "m")] == [(line["detail"], line["model"]) for line in logged(caplog)]


def test_end(clock, caplog):
    """At the end what was not logged yet is."""
    refusals = RefusalLog(Metrics(), clock=clock)
    for _ in range(3):
        refusals.note("invalid", detail="a")
    refusals.flush(force=True)
    assert [1, 2] == [line["count"] for line in logged(caplog)]


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_documented(reason):
    """Every reason is explained in the documentation, in the same words."""
    assert f"| `{reason}` | {REASONS[reason]} |" in DOCS.read_text()
