"""Many answers in a few numbers, counted by hand."""

import pytest

from isplit.records import Answer, Timings
from isplit.runtime.edge.summary import PartTime, Summary


def answer(source, *, late=False, payload_bytes=None, reason=None, provider_fallback=None, **times):
    return Answer(
        id="a",
        index=0,
        image="a",
        placement="stage.1",
        source=source,
        late=late,
        payload_bytes=payload_bytes,
        reason=reason,
        provider_fallback=provider_fallback,
        started_unix_s=0,
        timings=Timings(**times),
    )


def test_summary():
    """Sources and late answers are counted; each part's median and 95th percentile are of the answers that have it."""
    summary = Summary()
    for total_ms in range(1, 101):
        summary.add(answer("split", payload_bytes=60, head_ms=total_ms / 2, total_ms=total_ms))
    summary.add(answer("failed", late=True, total_ms=1000))
    assert ({"split": 100, "failed": 1}, 101, 1) == (dict(summary.sources), summary.answers, summary.late)
    assert [60.0] * 100 == list(summary.payload_bytes)
    head, total = summary.parts()
    assert PartTime(name="head", answers=100, median_ms=25.25, p95_ms=head.p95_ms) == head
    assert 47.525 == pytest.approx(head.p95_ms)  # the 94.05th of 99 steps of a half
    assert ("total", 101, 51.0) == (total.name, total.answers, total.median_ms)


def test_what_is_amiss():
    """Fallbacks and failures are amiss; the last reason is kept, whatever follows it."""
    summary = Summary()
    assert (0, None) == (summary.amiss, summary.last_reason)
    for source, reason in (("split", None), ("failed", "a"), ("local-fallback", "b"), ("local", None), ("failed", "c")):
        summary.add(answer(source, reason=reason, total_ms=1))
    assert (3, "c") == (summary.amiss, summary.last_reason)
    summary.add(answer("remote", total_ms=1))
    assert (3, "c") == (summary.amiss, summary.last_reason)


def test_providers():
    """Answers whose model did not run where it should are counted by the reason."""
    summary = Summary()
    for reason in (None, "cuda: lost", "cuda: lost", "qnn: not built"):
        summary.add(answer("local", provider_fallback=reason, total_ms=1))
    assert {"cuda: lost": 2, "qnn: not built": 1} == dict(summary.provider_fallbacks)


def test_nothing():
    """No answers have no parts."""
    assert (0, ()) == (Summary().answers, Summary().parts())
