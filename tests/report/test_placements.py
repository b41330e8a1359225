"""Ranks, and what is efficient: by hand."""

from isplit.records import Prediction, PredictionsRecord
from isplit.report.placements import efficient, split_rows


def test_ranks_are_within_budget_and_classes(predictions: PredictionsRecord):
    """By accuracy, by importance and by size; other budgets and other classes do not count."""
    ranks = {
        (row.prediction.cut, row.prediction.budget.tag, row.prediction.group): (
            row.accuracy_rank,
            row.cui_rank,
            row.size_rank,
        )
        for row in split_rows(predictions.predictions)
    }
    assert (3, 3, 3) == ranks["features.4", "128B", "all classes"]
    assert (1, 1, 1) == ranks["features.28", "128B", "all classes"]
    assert (3, 1, 1) == ranks["features.28", "512B", "all classes"]
    assert (1, 1, 1) == ranks["features.4", "128B", "animals"]


def test_equals_share_a_rank(predictions: PredictionsRecord):
    """Two of the same accuracy are both first, and the next is third; a cut without importance has no such rank."""
    first, second, third = (
        row for row in predictions.predictions if row.budget.tag == "128B" and row.group != "animals"
    )
    same = second.model_copy(update={"measurement": third.measurement, "cui": None})
    rows = split_rows([first, same, third])

    assert [3, 1, 1] == [row.accuracy_rank for row in rows]
    assert [2, None, 1] == [row.cui_rank for row in rows]


def test_budgets_in_order(predictions: PredictionsRecord):
    """Bytes before ratios, small before large, the ratio that sends least first."""
    prediction = predictions.predictions[0]

    def with_budget(**fields: float) -> Prediction:
        return prediction.model_copy(update={"budget": prediction.budget.model_validate(fields)})

    rows = [with_budget(element_ratio=8), with_budget(payload_bytes=512), with_budget(payload_bytes=64)]
    rows.append(with_budget(element_ratio=64))
    assert ["64B", "512B", "1in64", "1in8"] == [
        prediction.budget.tag for prediction in sorted(rows, key=lambda prediction: prediction.budget.order)
    ]


def test_a_beaten_image_setting_is_left_out(predictions: PredictionsRecord):
    """JPEG 50 has more bytes and a lower accuracy than WebP 80; the others stay, smallest first."""
    assert [("webp", 5), ("webp", 80), ("jpeg", 90)] == [
        (image.format, image.quality) for image in efficient(predictions.remote)
    ]
