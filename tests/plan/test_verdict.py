"""Whether splitting is worth it for the bytes alone: by hand, on bytes on the wire."""

import re
from dataclasses import replace

import pytest

from isplit.plan.verdict import (
    OpenQuestion,
    image_setting,
    images_to_settle,
    is_open,
    open_questions,
    verdict,
    verdict_text,
    verdict_texts,
    within,
)
from isplit.records import Accuracy, Paired, Prediction, PredictionsRecord, WireBytes
from tests.plan.conftest import make_predictions

CLASSES = "all classes"


@pytest.fixture
def few_images() -> PredictionsRecord:
    """1,000 images, which leave the loss of some splits open."""
    return make_predictions()


@pytest.fixture
def predictions(few_images: PredictionsRecord) -> PredictionsRecord:
    """The same shares of 1,000,000 images, which settle everything."""

    def more(against: Paired) -> Paired:
        counts = {"only_first": 1000 * against.only_first, "only_second": 1000 * against.only_second}
        return against.model_copy(update=counts)

    def many(accuracy: Accuracy) -> Accuracy:
        return Accuracy.from_counts(1000 * accuracy.correct, 1000 * accuracy.images)

    splits = []
    for split in few_images.predictions:
        measured = split.measurement
        changes = {"accuracy": many(measured.accuracy), "against_whole": more(measured.against_whole)}
        splits.append(split.model_copy(update={"measurement": measured.model_copy(update=changes)}))
    images = [
        image.model_copy(update={"accuracy": many(image.accuracy), "against_whole": more(image.against_whole)})
        for image in few_images.remote
    ]
    return few_images.model_copy(update={"predictions": tuple(splits), "remote": tuple(images)})


def test_within_is_decided_by_a_bound(few_images: PredictionsRecord, predictions: PredictionsRecord):
    """A split that loses 0.8 points is within 0.85 on a million images; 1,000 cannot even tell whether it is in 1."""

    def late(record: PredictionsRecord) -> Prediction:
        return next(split for split in record.predictions if (split.cut, split.budget.tag) == ("late", "256B"))

    assert (True, False) == (within(late(predictions), 0.0085), within(late(predictions), 0.0079))
    assert (False, True) == (within(late(few_images), 0.01), is_open(late(few_images), 0.01))
    assert within(late(few_images), 0.03)
    assert not is_open(late(few_images), 0.03)


def test_what_is_not_settled_is_said(few_images: PredictionsRecord):
    """The split with the fewest bytes that may stay within the loss is named, with the images that would tell."""
    result = verdict(few_images, group=CLASSES, loss=0.01)
    assert result.open_split is not None
    text = verdict_text(result)
    assert f"Not settled on 1,000 images: whether 259 bytes up (payload 250) after {result.open_split.cut}" in text
    assert re.search(r"about [0-9,]+ images would tell", text)
    wanted = images_to_settle(open_questions(few_images, group=CLASSES))
    assert wanted is not None
    assert wanted > 1000


def test_settled_verdicts_need_no_more_images(predictions: PredictionsRecord):
    """Where everything is settled there is nothing to take more images for."""
    assert images_to_settle(open_questions(predictions, group=CLASSES, losses=(0.0155,))) is None


def test_more_images_answer_what_was_open(predictions: PredictionsRecord, few_images: PredictionsRecord):
    """A question names its placement and its images; the answer says which way it was settled, and by which bound."""
    questions = open_questions(few_images, group=CLASSES, losses=(0.01,))
    (split,) = (question for question in questions if isinstance(question.placement, Prediction))
    assert isinstance(split.placement, Prediction)
    subject = f"the split after {split.placement.cut} at {split.placement.budget.tag}"
    assert f"Not settled on 1,000 images: whether {subject} stays within 1 point." == split.text
    assert split.answer(few_images) is None
    answer = split.answer(predictions)
    assert answer is not None
    assert answer.startswith(f"Settled on 1,000,000 images, open on 1,000: {subject} ")
    assert "stays within 90 points (it loses at most " in str(replace(split, loss=0.9).answer(predictions))
    assert "does not stay within 0.1 points (it loses at least " in str(replace(split, loss=0.001).answer(predictions))


def test_a_setting_that_more_images_made_pointless_has_no_answer(
    predictions: PredictionsRecord, few_images: PredictionsRecord
):
    """A later record may hold an image's setting no longer, because another one takes fewer bytes and loses nothing."""
    image = OpenQuestion(loss=0.01, placement=few_images.remote[0])
    assert image.answer(predictions.model_copy(update={"remote": ()})) is None


def test_verdict_by_hand(predictions: PredictionsRecord):
    """Within a point: 250 bytes at `late`, 1,018 with a small head, 4,000 as an image; the protocol adds to all."""
    result = verdict(predictions, group=CLASSES, loss=0.01)
    assert result.split is not None
    assert result.small_head is not None
    assert ("late", "middle") == (result.split.cut, result.small_head.cut)
    assert WireBytes(up=259, down=33) == result.split.measurement.wire_bytes
    assert WireBytes(up=4009, down=33) == result.image_bytes()
    assert (259 / 4009, 292 / 4042) == pytest.approx(result.factors(result.split))
    expected = (
        "Within 1 point of the whole model, a split sends 259 bytes up (payload 250) after late (60% of the MACs on "
        "the device); the compressed image takes 4,009 bytes up (payload 4,000; WebP quality 80). Worth it for the "
        "bytes alone: the split takes 0.065 × the image's bytes up, and 0.072 × in both directions together. With "
        "at most 50% of the MACs on the device: 1,027 bytes up (payload 1,018) after middle (30% of the MACs on the "
        "device), 0.26 × the image."
    )
    assert expected == verdict_text(result)


def test_a_verdict_that_does_not_change_is_said_once(predictions: PredictionsRecord):
    """With images that lose nothing or 3 points, one and two points allow the same; three allow more."""
    texts = verdict_texts(predictions, group=CLASSES, losses=(0.01, 0.015))
    assert "Within 1.5 points: the same." == texts[1]
    assert "the same" not in verdict_texts(predictions, group=CLASSES)[1]


def test_nearly_all_on_the_device_is_no_split(predictions: PredictionsRecord):
    """A head with 95 % of the operations is not offered, however few bytes it sends."""
    deep = tuple(row for row in predictions.predictions if row.cut == "last")
    record = predictions.model_copy(update={"predictions": deep})
    assert verdict(record, group=CLASSES, loss=0.01).split is None
    assert "no split is sure to stay at these budgets" in verdict_texts(record, group=CLASSES)[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"remote": ()}, "no compressed image is sure to stay that close"),
        ({"predictions": ()}, "or more images; the compressed image takes 4,009 bytes up"),
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
