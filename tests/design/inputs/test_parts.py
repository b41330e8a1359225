"""isplit.design.inputs.parts: undivided data is divided class by class by a fixed rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isplit.design.inputs.data import open_data
from isplit.design.inputs.parts import hold_out
from isplit.errors import DataError


def test_one_part_follows_the_fixed_rule(tmp_path, pixels, write_npz, indices):
    """Undivided data: per class the first tenth of a seeded permutation is select, the next test, the rest fit."""
    counts = (25, 11, 4)
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3), counts))
    path = write_npz(tmp_path / "a.npz", images=pixels(0, (40, 4, 4)), labels=labels)

    dataset = open_data(str(path), seed=3)

    select, test = [], []
    for label, count in enumerate((2, 1, 1)):
        permuted = np.random.default_rng([3, label]).permutation(np.flatnonzero(labels == label)).tolist()
        select += permuted[:count]
        test += permuted[count : 2 * count]
    assert sorted(select) == dataset.parts["select"].tolist()
    assert sorted(test) == dataset.parts["test"].tolist()
    assert sorted(set(range(40)) - set(select) - set(test)) == dataset.parts["fit"].tolist()
    assert indices(open_data(str(path), seed=3)) == indices(dataset)
    assert indices(open_data(str(path), seed=4)) != indices(dataset)


def test_classes_of_two_images_stay_in_fit(tmp_path, pixels, write_npz):
    """A class too small to divide keeps its images for fitting."""
    labels = np.array([0] * 10 + [1] * 2)

    dataset = open_data(str(write_npz(tmp_path / "a.npz", images=pixels(0, (12, 4, 4)), labels=labels)))

    assert {10, 11} <= set(dataset.parts["fit"].tolist())


def test_data_too_small_to_divide(tmp_path, pixels, write_npz):
    """When no class has three images, there is nothing to select or test on."""
    with pytest.raises(DataError, match="at least 3 images"):
        open_data(str(write_npz(tmp_path / "a.npz", images=pixels(0, (4, 4, 4)), labels=np.array([0, 0, 1, 1]))))


@given(
    counts=st.lists(st.integers(3, 40), min_size=2, max_size=5),
    seed=st.integers(0, 2**32),
    parts=st.sampled_from([1, 2]),
)
def testhold_out_is_a_stratified_partition(counts, seed, parts):
    """Every index lands in exactly one part, and every class of three or more in every part."""
    labels = np.repeat(np.arange(len(counts)), counts)
    pieces = hold_out(labels, np.arange(len(labels)), parts=parts, seed=seed)

    assert list(range(len(labels))) == sorted(np.concatenate(pieces).tolist())
    for piece in pieces:
        assert set(range(len(counts))) == set(labels[piece].tolist())


def test_classes_of_one_to_three_images(tmp_path, pixels, write_npz):
    """Images of classes that are too small to divide are divided together, and a notice says so."""
    labels = np.repeat(np.arange(60), [1, 2, 3] * 20)

    dataset = open_data(str(write_npz(tmp_path / "a.npz", images=pixels(0, (120, 4, 4)), labels=labels)))

    assert {"fit": 68, "select": 26, "test": 26} == {part: len(images) for part, images in dataset.parts.items()}
    assert list(range(120)) == sorted(np.concatenate(list(dataset.parts.values())).tolist())
    assert "40 of the 60 classes have fewer than 3 images: their 60 images were divided together" in dataset.notices[0]
    assert "classes of fewer than 3 images as one" in dataset.part_rule


def test_one_image_of_each_class(tmp_path, pixels, write_npz):
    """With one image a class, the parts hold different classes."""
    path = write_npz(tmp_path / "a.npz", images=pixels(0, (100, 4, 4)), labels=np.arange(100))

    dataset = open_data(str(path))

    assert {"fit": 80, "select": 10, "test": 10} == {part: len(images) for part, images in dataset.parts.items()}


def test_a_class_without_images(tmp_path, pixels, write_npz):
    """A class that no image has is named in a notice, and keeps its number."""
    labels = np.repeat([0, 2], 10)
    path = write_npz(tmp_path / "a.npz", images=pixels(0, (20, 4, 4)), labels=labels, classes=["a", "b", "c"])

    dataset = open_data(str(path))

    assert ("a", "b", "c") == dataset.classes
    assert ("1 of the 3 classes have no image at all: 'b'",) == dataset.notices


def test_a_class_that_only_the_test_has(tmp_path, pixels, write_npz):
    """A class without an image to fit on is named in a notice."""
    arrays = {"train_images": pixels(0, (20, 4, 4)), "train_labels": np.repeat([0, 1], 10)}
    path = write_npz(tmp_path / "a.npz", **arrays, test_images=pixels(1, (3, 4, 4)), test_labels=np.arange(3))

    assert ("1 of the 3 classes have no image to fit on: '2'",) == open_data(str(path)).notices
