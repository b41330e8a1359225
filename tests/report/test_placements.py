"""Ranks, what is efficient, and whether splitting is worth it: by hand."""

import pytest

from isplit.records import Prediction, PredictionsRecord
from isplit.report.placements import (
    efficient,
    image_setting,
    split_rows,
    verdict,
    verdict_text,
    verdict_texts,
    within,
)


def test_ranks_are_within_budget_and_classes(predictions: PredictionsRecord):
    """By accuracy, by importance and by size; other budgets and other classes do not count."""
    found = {
        (row.prediction.cut, row.prediction.budget.tag, row.prediction.group): (
            row.accuracy_rank,
            row.cui_rank,
            row.size_rank,
        )
        for row in split_rows(predictions.predictions)
    }
    assert (3, 3, 3) == found["features.4", "128B", "all classes"]
    assert (1, 1, 1) == found["features.28", "128B", "all classes"]
    assert (3, 1, 1) == found["features.28", "512B", "all classes"]
    assert (1, 1, 1) == found["features.4", "128B", "animals"]


def test_equals_share_a_rank(predictions: PredictionsRecord):
    """Two of the same accuracy are both first, and the next is third; a cut without importance has no such rank."""
    first, second, third = (
        one for one in predictions.predictions if one.budget.tag == "128B" and one.group != "animals"
    )
    same = second.model_copy(update={"measurement": third.measurement, "cui": None})
    rows = split_rows([first, same, third])

    assert [3, 1, 1] == [row.accuracy_rank for row in rows]
    assert [2, None, 1] == [row.cui_rank for row in rows]


def test_budgets_in_order(predictions: PredictionsRecord):
    """Bytes before ratios, small before large, the ratio that sends least first."""
    one = predictions.predictions[0]

    def with_budget(**fields: float) -> Prediction:
        return one.model_copy(update={"budget": one.budget.model_validate(fields)})

    found = [with_budget(element_ratio=8), with_budget(payload_bytes=512), with_budget(payload_bytes=64)]
    found.append(with_budget(element_ratio=64))
    assert ["64B", "512B", "1in64", "1in8"] == [
        one.budget.tag for one in sorted(found, key=lambda one: one.budget.order)
    ]


def test_a_beaten_image_setting_is_left_out(predictions: PredictionsRecord):
    """JPEG 50 has more bytes and a lower accuracy than WebP 80; the others stay, smallest first."""
    assert [("webp", 5), ("webp", 80), ("jpeg", 90)] == [
        (one.format, one.quality) for one in efficient(predictions.remote)
    ]
    assert "WebP quality 5, side × 0.5" == image_setting(predictions.remote[3])


def test_within_counts_the_paired_difference(predictions: PredictionsRecord):
    """158 of 200 against 160 is one point below: within one point, exactly."""
    one = predictions.predictions[4]
    assert (True, False) == (within(one, 0.01), within(one, 0.009))


def test_verdict_by_hand(predictions: PredictionsRecord):
    """Within one point: 120 bytes at features.28, 500 with a small head, 600 as an image."""
    found = verdict(predictions, group="all classes", loss=0.01)
    assert found.split is not None
    assert found.small_head is not None
    assert found.remote is not None
    assert ("features.28", 120) == (found.split.cut, found.split.measurement.payload_bytes.mean)
    assert ("features.13", 500) == (found.small_head.cut, found.small_head.measurement.payload_bytes.mean)
    assert ("webp", 600) == (found.remote.format, found.remote.payload_bytes.mean)
    expected = (
        "Within 1 point of the whole model a split sends 120 bytes after features.28 (80% of the MACs on the device); "
        "the compressed image takes 600 bytes (WebP quality 80). Worth it for the bytes alone: the split sends 0.2 × "
        "the image. With at most 50% of the MACs on the device: 500 bytes after features.13 (50% of the MACs on the "
        "device), 0.83 × the image."
    )
    assert expected == verdict_text(found)


def test_verdict_that_does_not_change_is_said_once(predictions: PredictionsRecord):
    """Three points allow nothing more than one point does."""
    texts = verdict_texts(predictions, group="all classes")
    assert ["Within 1 point of", "Within 3 points: t"[:17]] == [text[:17] for text in texts]
    assert "Within 3 points: the same." == texts[1]


def test_nearly_all_on_the_device_is_no_split(predictions: PredictionsRecord):
    """A head with 95 % of the MACs is not offered, however few bytes it sends."""
    deep = predictions.predictions[4]
    deep = deep.model_copy(update={"measurement": deep.measurement.model_copy(update={"head_mac_share": 0.95})})
    record = predictions.model_copy(update={"predictions": (deep,)})
    assert verdict(record, group="all classes", loss=0.01).split is None
    assert "no split stays at these budgets" in verdict_texts(record, group="all classes")[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"remote": ()}, "no compressed image stays that close"),
        ({"predictions": ()}, "no split stays at these budgets: try larger ones; the compressed image takes 600 bytes"),
    ],
)
def test_what_was_not_measured_is_said(predictions: PredictionsRecord, change: dict[str, object], says: str):
    """Without images or without splits the sentence says so."""
    record = predictions.model_copy(update=change)
    assert says in verdict_text(verdict(record, group="all classes", loss=0.01))


def test_split_that_sends_more_than_the_image(predictions: PredictionsRecord):
    """A small image that the model can read makes splitting not worth it."""
    image = predictions.remote[0]
    small = image.model_copy(update={"payload_bytes": image.payload_bytes.model_copy(update={"mean": 100.0})})
    record = predictions.model_copy(update={"remote": (small,)})
    text = verdict_text(verdict(record, group="all classes", loss=0.01))
    assert "Not worth it for the bytes alone: the split sends 1.2 × the image." in text
