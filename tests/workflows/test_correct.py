"""isplit.workflows.correct: a benchmark's times take the place of those of a profile."""

import pytest

from isplit.errors import InputError
from isplit.records import ProfileRecord, TimeFigure
from isplit.workflows.bench import BenchSettings, bench
from isplit.workflows.correct import corrected_profile


def test_corrected_profile(bundle, folder):
    """A benchmark's times take the place of a profile's: 95th percentiles keep their ratio."""
    record = bench(bundle, folder, placements=["local"], settings=BenchSettings(warm_up=1))
    before = ProfileRecord(
        isplit_version="0",
        name="x",
        title="x",
        source="measured",
        model="tiny",
        model_fingerprint=bundle.record.model_fingerprint,
        whole=TimeFigure(median_ms=100.0, p95_ms=200.0, runs=3),
    )

    after = corrected_profile(before, record, bundle.record)

    assert record.runs[0].part_ms["local"] == after.whole.median_ms
    assert pytest.approx(2.0) == after.whole.p95_ms / after.whole.median_ms
    with pytest.raises(InputError, match="another model"):
        corrected_profile(before.model_copy(update={"model_fingerprint": "0" * 64}), record, bundle.record)
