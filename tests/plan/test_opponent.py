"""The verdict on trained splits, by hand: beside networks trained on compressed images, and where there are none."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from isplit.plan.opponent import ASK_FOR_OPPONENT, trained_verdict, trained_verdict_texts
from isplit.plan.planner import plan
from isplit.plan.study_facts import StudyFacts, load_facts
from isplit.records import (
    Accuracy,
    Compression,
    Paired,
    PayloadBytes,
    ProfileRecord,
    RemoteImage,
    TrainedRemote,
    WireBytes,
)
from isplit.records.remote import REMOTES
from isplit.records.splits import SplitFile
from tests.plan.conftest import make_predictions, measurement, plain_link

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
    """20 losses are more than a point, and `last` leaves the server nothing to do: 88 + 9 bytes over 290 + 9."""
    remotes = [opponent(290, losses=3), opponent(100, losses=15), opponent(10, losses=0, group="animals")]
    verdict = trained_verdict(SPLITS, remotes, None, group=CLASSES, loss=0.01)

    assert "late" == verdict.split.cut
    assert WireBytes(up=299, down=33) == verdict.image_bytes
    assert verdict.image_is_trained
    assert (97 / 299, 130 / 332) == pytest.approx(verdict.factors)


def test_text_names_the_opponent():
    """Within 1 and 3 points; the sentence says that the image's network was trained."""
    first, second = trained_verdict_texts(SPLITS, [opponent(290, losses=3)], make_predictions(), group=CLASSES)
    assert "a trained split sends 97 bytes up (payload 88) after late (40% of the MACs on the device)" in first
    assert "the compressed image with a network trained on such images takes 299 bytes up (payload 290; WebP" in first
    assert "worth it for the bytes alone: it takes 0.32 × the image's bytes up, and 0.39 × in both" in first
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
        "no trained split is sure to stay" in text and "no compressed image that was measured" in text for text in texts
    )


def test_untrained_splits_have_no_trained_verdict():
    """Closed forms are judged elsewhere."""
    closed_form = split("late", 88, losses=2)
    closed_form.training = None
    assert [] == trained_verdict_texts([closed_form], [], make_predictions(), group=CLASSES)


def saved_opponent(study: Path, payload: int, *, losses: int, compression: str, after: str | None = None, **changes):
    """Save the record of a network trained on compressed images in a study."""
    setting = Compression.from_tag(compression)
    image = opponent(payload, losses=losses).measurement.model_copy(update=setting.model_dump())
    record = TrainedRemote(
        isplit_version="0",
        versions={},
        model="a" * 64,
        group=CLASSES,
        compression=setting,
        after=after,
        part="fit",
        images=100,
        epochs=3,
        best_epoch=2,
        seconds=1.0,
        settings={},
        curve=(),
        before=image,
        measurement=image,
        weights=SplitFile.of(b"", part="weights", suffix=".safetensors"),
    )
    directory = study / REMOTES / f"{payload}"
    directory.mkdir(parents=True)
    record.model_copy(update=changes).save(directory)


def trained(facts: StudyFacts, cut: str) -> StudyFacts:
    """Return facts in which the splits at a cut were trained and lose nothing."""
    splits = tuple(
        replace(split, accuracy=split.accuracy.model_copy(update={"source": "trained", "largest_loss": 0.0}))
        if split.cut == cut
        else split
        for split in facts.splits
    )
    return replace(facts, splits=splits)


def test_plan_has_trained_opponents(study: Path, board: ProfileRecord, cloud: ProfileRecord):
    """They are placements beside the network as it is; those of other classes or another model are not."""
    saved_opponent(study, 290, losses=3, compression="webp:50@0.5")
    saved_opponent(study, 280, losses=3, compression="avif:40", after="middle")
    saved_opponent(study, 270, losses=3, compression="webp:50", group="animals")
    saved_opponent(study, 260, losses=3, compression="webp:50", model="b" * 64)
    record = plan(load_facts(study), device=board, server=cloud, link=plain_link())

    names = [placement.name for placement in record.placements if placement.kind == "remote"]
    assert [
        "remote WebP q35",
        "remote WebP q80",
        "remote AVIF q40, trained after middle",
        "remote WebP q50 x 0.5, trained",
    ] == sorted(names, key=lambda name: ("trained" in name, name))
    image = record.placement("remote WebP q50 x 0.5, trained")
    assert ("trained", "test", 290.0) == (image.accuracy.source, image.accuracy.part, image.payload_bytes)
    assert "send the image as WebP q50 x 0.5 to a network trained on such images: " in record.answer.text
    assert ASK_FOR_OPPONENT not in record.answer.text


def test_plan_of_a_trained_split_asks_for_its_opponent(facts: StudyFacts, board: ProfileRecord, cloud: ProfileRecord):
    """Where a trained split is the answer and no network was trained on images, the answer says so."""
    limits = {"max_accuracy_loss": 0.02, "hide_image": True}
    without = plan(trained(facts, "middle"), device=board, server=cloud, link=plain_link(), limits=limits)
    assert without.answer.worth_splitting
    assert ASK_FOR_OPPONENT in without.answer.text
    untrained = plan(facts, device=board, server=cloud, link=plain_link(), limits=limits)
    assert ASK_FOR_OPPONENT not in untrained.answer.text

    saved_opponent(Path(facts.directory), 290, losses=3, compression="webp:50@0.5")
    images = load_facts(Path(facts.directory)).images
    beside = plan(
        replace(trained(facts, "middle"), images=images), device=board, server=cloud, link=plain_link(), limits=limits
    )
    assert without.answer.chosen == beside.answer.chosen
    assert ASK_FOR_OPPONENT not in beside.answer.text
