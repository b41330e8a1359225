"""The verdict on trained splits, by hand: beside networks trained on compressed images, and where there are none."""

from types import SimpleNamespace

import pytest

from isplit.plan.opponent import ASK_FOR_OPPONENT, trained_verdict, trained_verdict_texts
from isplit.records import Accuracy, Paired, PayloadBytes, RemoteImage, WireBytes
from tests.plan.conftest import make_predictions, measurement

CLASSES = "all classes"
IMAGES = 1000


def split(cut, payload, *, losses, head_share=0.4):
    """Return what is read of a trained split that gets so many of 1,000 images wrong that the whole model has right."""
    against = Paired.from_answers([True] * IMAGES, [False] * losses + [True] * (IMAGES - losses))
    measured = measurement(0.0, payload=payload, elements=100, head_share=head_share)
    measured = measured.model_copy(update={"part": "test", "against_whole": against})
    return SimpleNamespace(cut=cut, group=CLASSES, training=object(), measurement=measured)


def opponent(payload, *, losses, group=CLASSES):
    """Return what is read of a network that was trained on compressed images."""
    image = RemoteImage(
        group=group,
        format="webp",
        quality=50,
        scale=0.5,
        part="test",
        accuracy=Accuracy.from_counts(IMAGES - losses, IMAGES),
        against_whole=Paired.from_answers([True] * IMAGES, [False] * losses + [True] * (IMAGES - losses)),
        payload_bytes=PayloadBytes.from_lengths([payload] * IMAGES),
    )
    return SimpleNamespace(group=group, measurement=image)


SPLITS = [split("late", 88, losses=2), split("small", 50, losses=20), split("last", 10, losses=0, head_share=0.97)]


def test_fewest_bytes_beside_the_trained_opponent():
    """20 losses are more than a point, and `last` leaves the server nothing to do: 88 + 112 bytes over 290 + 110."""
    remotes = [opponent(290, losses=3), opponent(100, losses=15), opponent(10, losses=0, group="animals")]
    verdict = trained_verdict(SPLITS, remotes, None, group=CLASSES, loss=0.01)

    assert "late" == verdict.split.cut
    assert WireBytes(up=400, down=238) == verdict.image_bytes
    assert verdict.image_is_trained
    assert (200 / 400, 438 / 638) == pytest.approx(verdict.factors)


def test_text_names_the_opponent():
    """Within 1 and 3 points; the sentence says that the image's network was trained."""
    first, second = trained_verdict_texts(SPLITS, [opponent(290, losses=3)], make_predictions(), group=CLASSES)
    assert "a trained split sends 200 bytes up (payload 88) after late (40% of the MACs on the device)" in first
    assert "the compressed image with a network trained on such images takes 400 bytes up (payload 290; WebP" in first
    assert "worth it for the bytes alone: it takes 0.5 × the image's bytes up, and 0.69 × in both" in first
    assert "Within 3 points" in second
    assert "after small" in second


def test_without_a_trained_opponent_the_text_says_so():
    """The untrained image takes its place, and the last sentence tells how to train the opponent."""
    predictions = make_predictions()
    *texts, last = trained_verdict_texts(SPLITS, [opponent(10, losses=0, group="animals")], predictions, group=CLASSES)
    assert last == ASK_FOR_OPPONENT
    assert all("with the network as it is" in text for text in texts)
    assert not any("trained on such images" in text for text in texts)


def test_nothing_close_enough():
    """Where neither side stays within the loss, both are said to."""
    texts = trained_verdict_texts([split("small", 50, losses=100)], [opponent(10, losses=99)], None, group=CLASSES)
    assert all(
        "no trained split surely stays" in text and "no compressed image that was measured" in text for text in texts
    )


def test_untrained_splits_have_no_trained_verdict():
    """Closed forms are judged elsewhere."""
    closed_form = split("late", 88, losses=2)
    closed_form.training = None
    assert [] == trained_verdict_texts([closed_form], [], make_predictions(), group=CLASSES)
