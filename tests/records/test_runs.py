"""Answers summed up: accuracy, medians of the parts that took place, and bytes, by hand."""

import pytest

from isplit.records import Answer, PlacementRun, RunsRecord, Timings


def answer(number: int, *, class_name: str | None, total_ms: float, head_ms: float | None, sent: int | None) -> Answer:
    return Answer(
        id=str(number),
        index=number,
        image=f"{number}.png",
        placement="pool1",
        source="failed" if class_name is None else "split",
        class_name=class_name,
        payload_bytes=sent,
        started_unix_s=0.0,
        timings=Timings(total_ms=total_ms, head_ms=head_ms),
    )


ANSWERS = [
    answer(0, class_name="cat", total_ms=10, head_ms=1, sent=100),
    answer(1, class_name="dog", total_ms=20, head_ms=3, sent=200),
    answer(2, class_name=None, total_ms=60, head_ms=None, sent=None),
]


def test_by_hand() -> None:
    """A failed answer counts as wrong, and its missing parts count for nothing."""
    run = PlacementRun.from_answers("pool1", ANSWERS, classes={"0.png": "cat", "1.png": "cat", "2.png": "cat"})

    assert run.accuracy is not None
    assert (1, 3) == (run.accuracy.correct, run.accuracy.images)
    assert {"split": 2, "failed": 1} == run.sources
    assert (20.0, pytest.approx(56.0)) == (run.total_median_ms, run.total_p95_ms)
    assert {"head": 2.0} == run.part_ms
    assert run.payload_bytes is not None
    assert 150.0 == run.payload_bytes.mean


def test_without_classes_and_payloads() -> None:
    """What is not known is None: nothing is made up."""
    run = PlacementRun.from_answers("local", ANSWERS[2:])

    assert (None, None, {}) == (run.accuracy, run.payload_bytes, run.part_ms)


def test_comes_back_from_json() -> None:
    """The record survives its file."""
    record = RunsRecord(link="over loopback", link_bits_per_s=None, runs=(PlacementRun.from_answers("pool1", ANSWERS),))

    assert record == RunsRecord.from_json(record.to_json())
