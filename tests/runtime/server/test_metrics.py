"""What Prometheus is told: counts, and times in seconds."""

import pytest

from isplit.runtime.server.metrics import Metrics


def test_answers_are_counted_in_seconds():
    """Two answers of one model: images and requests add up, and stages in milliseconds are told in seconds."""
    metrics = Metrics()
    for images in (1, 3):
        stages_ms = {"decode": 0.5, "queue": 2.0, "infer": 40.0, "server": 1500.0}
        metrics.answered("tiny", images=images, batch_size=4, stages_ms=stages_ms)
    metrics.refused("tiny", "NOT_FOUND")

    def value(name, **labels):
        return metrics.registry.get_sample_value(name, {"model": "tiny", **labels})

    assert (4, 2, 1) == (
        value("isplit_images_total"),
        value("isplit_requests_total", status="OK"),
        value("isplit_requests_total", status="NOT_FOUND"),
    )
    assert (2, 8) == (value("isplit_batch_images_count"), value("isplit_batch_images_sum"))
    assert [0, 2, 2] == [value("isplit_batch_images_bucket", le=bound) for bound in ("2.0", "4.0", "+Inf")]
    expected = {"decode": 0.001, "queue": 0.004, "infer": 0.08, "server": 3.0}
    assert expected == pytest.approx({stage: value("isplit_stage_seconds_sum", stage=stage) for stage in expected})
