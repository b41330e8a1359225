"""Whether splitting is worth it for the bytes alone: by hand, on bytes on the wire."""

import pytest

from isplit.plan.verdict import image_setting, verdict, verdict_text, verdict_texts, within
from isplit.records import PredictionsRecord
from tests.plan.conftest import make_predictions

CLASSES = "all classes"


@pytest.fixture
def predictions() -> PredictionsRecord:
    return make_predictions()


def test_within_counts_the_paired_difference(predictions: PredictionsRecord):
    """A split that loses 0.8 points is within 0.8 points, exactly."""
    split = next(one for one in predictions.predictions if (one.cut, one.budget.tag) == ("late", "256B"))
    assert (True, False) == (within(split, 0.008), within(split, 0.0079))


def test_verdict_by_hand(predictions: PredictionsRecord):
    """Within a point: 250 bytes at `late`, 1,018 with a small head, 4,000 as an image; the protocol adds to all."""
    result = verdict(predictions, group=CLASSES, loss=0.01)
    assert result.split is not None
    assert result.small_head is not None
    assert ("late", "middle") == (result.split.cut, result.small_head.cut)
    assert (362.0, 238.0) == result.split_bytes(result.split)
    assert (4110.0, 238.0) == result.image_bytes()
    assert (362 / 4110, 600 / 4348) == pytest.approx(result.factors(result.split))
    expected = (
        "Within 1 point of the whole model a split sends 362 bytes up (payload 250) after late (60% of the MACs on the "
        "device); the compressed image takes 4,110 bytes up (payload 4,000; WebP quality 80). Worth it for the bytes "
        "alone: the split takes 0.088 × the image's bytes up, and 0.14 × in both directions together. With at most 50% "
        "of the MACs on the device: 1,130 bytes up (payload 1,018) after middle (30% of the MACs on the device), "
        "0.27 × the image."
    )
    assert expected == verdict_text(result)


def test_a_verdict_that_does_not_change_is_said_once(predictions: PredictionsRecord):
    """With images that lose nothing or 3 points, one and two points allow the same; three allow more."""
    texts = verdict_texts(predictions, group=CLASSES, losses=(0.01, 0.015))
    assert "Within 1.5 points: the same." == texts[1]
    assert "the same" not in verdict_texts(predictions, group=CLASSES)[1]


def test_nearly_all_on_the_device_is_no_split(predictions: PredictionsRecord):
    """A head with 95 % of the operations is not offered, however few bytes it sends."""
    deep = tuple(one for one in predictions.predictions if one.cut == "last")
    record = predictions.model_copy(update={"predictions": deep})
    assert verdict(record, group=CLASSES, loss=0.01).split is None
    assert "no split stays at these budgets" in verdict_texts(record, group=CLASSES)[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"remote": ()}, "no compressed image stays that close"),
        ({"predictions": ()}, "try larger ones; the compressed image takes 4,110 bytes up"),
    ],
)
def test_what_was_not_measured_is_said(predictions: PredictionsRecord, change: dict[str, object], says: str):
    """Without images or without splits the sentence says so."""
    record = predictions.model_copy(update=change)
    assert says in verdict_text(verdict(record, group=CLASSES, loss=0.01))


def test_the_protocol_can_make_a_small_split_not_worth_it(predictions: PredictionsRecord):
    """Images of 220 and 240 bytes take fewer bytes than a payload of 250, with the protocol too."""
    image = predictions.remote[1]
    for size in (220.0, 240.0):
        payload = image.payload_bytes.model_copy(update={"mean": size})
        small = image.model_copy(update={"payload_bytes": payload})
        record = predictions.model_copy(update={"remote": (small,)})
        text = verdict_text(verdict(record, group=CLASSES, loss=0.01))
        assert "Not worth it for the bytes alone" in text


def test_settings_have_names(predictions: PredictionsRecord):
    """Quality and side are part of the name."""
    half = predictions.remote[0].model_copy(update={"scale": 0.5})
    assert ["WebP quality 35", "WebP quality 35, side × 0.5"] == [
        image_setting(predictions.remote[0]),
        image_setting(half),
    ]
