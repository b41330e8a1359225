"""isplit.design.inputs.source: parts are chosen by name, labels are checked, and close names are suggested."""

import numpy as np
import pytest

from isplit.design.inputs.source import check_labels, choose_parts, close_match, part_name
from isplit.errors import DataError


def test_choose_parts():
    """Without a split all parts are read, with one only that; an unknown one is refused."""
    assert ("train", "val") == choose_parts(["train", "val"], split=None, spec="x")
    assert ("val",) == choose_parts(["train", "val"], split="val", spec="x")
    with pytest.raises(DataError, match="x has no part 'test': it has train, val"):
        choose_parts(["train", "val"], split="test", spec="x")


def test_labels_become_one_int64_for_each_image():
    """A column of labels is taken as a list of them."""
    labels = check_labels(np.array([[2], [0]], np.uint8), images=2, classes=("a", "b", "c"), spec="x")

    assert np.int64 == labels.dtype
    assert [2, 0] == labels.tolist()


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0.0, 1.0], None, "one integer per image, not float64"),
        ([0, 1, 1], None, "2 images but 3 labels"),
        ([0, -1], None, "label -1 is out of range"),
        ([0, 2], None, "label 2 is out of range: with 2 images"),
        ([0, 2], ("a", "b"), "label 2 is out of range: with 2 classes"),
    ],
)
def test_labels_that_do_not_fit(labels, classes, message):
    """Labels that are no class of an image are refused."""
    with pytest.raises(DataError, match=message):
        check_labels(labels, images=2, classes=classes, spec="x")


def test_close_match():
    """Names that are close are suggested whatever their case; others are not."""
    assert " (did you mean kind:Cats?)" == close_match("cast", ["Cats", "Horses"], prefix="kind:")
    assert "" == close_match("zebra", ["Cats", "Horses"])


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("training_set", "train"),
        ("trainset", "train"),
        ("train-images", "train"),
        ("TrainData", "train"),
        ("valid", "val"),
        ("validation set", "val"),
        ("dev", "val"),
        ("test_set", "test"),
        ("Testing", "test"),
        ("the test set", "test"),
        ("trains", None),
        ("train station", None),
        ("training_test", None),
        ("images", None),
        ("set", None),
        ("", None),
        ("contest", None),
    ],
)
def test_part_names(name, part):
    """Parts are known by many names; other names that hold such a word are no parts."""
    assert part == part_name(name)
