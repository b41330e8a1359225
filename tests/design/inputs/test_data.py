"""isplit.design.inputs.data: every kind of data opens, unknown kinds fail clearly, orders are balanced."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isplit.design.inputs.data import balanced_order, open_data
from isplit.errors import DataError

# --- specs and records ---


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no/such/folder", r"'no/such/folder' is not there; data is a folder"),
        ("cifar10", r"did you mean torchvision:CIFAR10"),
        ("torchvision:CIFAR11", r"did you mean torchvision:CIFAR10"),
        ("torchvison:CIFAR10", r"did you mean torchvision:CIFAR10"),
        ("torchvision:Kitti", r"no classification data 'Kitti'.*there are CIFAR10"),
        ("sklearn:iris", r"is not a kind of data that is understood.*sklearn:digits"),
        ("idx:images", r"idx:IMAGES,LABELS"),
    ],
)
def test_unknown_spec(spec, message):
    """What is not understood is answered with what is, and with names that are close."""
    with pytest.raises(DataError, match=message):
        open_data(spec)


def test_unknown_kind_of_file(tmp_path):
    """A file of another kind is an error."""
    (tmp_path / "a.tar").write_bytes(b"")

    with pytest.raises(DataError, match="neither a folder nor a kind of file"):
        open_data(str(tmp_path / "a.tar"))


def test_source_record(tmp_path, class_files, write_files):
    """The record holds what the study needs to repeat it."""
    dataset = open_data(str(write_files(tmp_path, class_files())))

    record = dataset.source((7, 3))

    assert (7, 3) == record.class_outputs
    assert {"fit": 16, "select": 2, "test": 2} == record.part_images
    assert (dataset.spec, dataset.sha256, dataset.part_rule) == (record.spec, record.sha256, record.part_rule)


# --- order ---


def test_balanced_order_by_hand():
    """Classes take turns; one that has run out is passed over."""
    labels = np.array([0, 0, 0, 0, 1, 1, 2])

    order = balanced_order(labels, np.arange(7), seed=0)

    assert [0, 1, 2, 0, 1, 0, 0] == labels[order].tolist()
    assert list(range(7)) == sorted(order.tolist())
    assert order.tolist() == balanced_order(labels, np.arange(7)[::-1], seed=0).tolist()
    assert [] == balanced_order(labels, [], seed=0).tolist()


def test_many_classes_come_in_random_order():
    """A prefix of more than 100 classes is no choice by label, and repeats with its seed."""
    labels = np.repeat(np.arange(101), 2)

    order = balanced_order(labels, np.arange(202), seed=0)

    assert list(range(101)) == sorted(labels[order[:101]].tolist())
    assert labels[order[:101]].tolist() == labels[order[101:]].tolist()
    assert max(labels[order[:20]]) > 60
    assert order.tolist() == balanced_order(labels, np.arange(202)[::-1], seed=0).tolist()
    assert order.tolist() != balanced_order(labels, np.arange(202), seed=1).tolist()
    assert list(range(100)) == balanced_order(np.arange(100), np.arange(100), seed=0).tolist()


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_balanced_order_is_balanced_at_every_prefix(labels, seed, data):
    """In any prefix, two classes that have not run out differ by at most one; nothing is lost or repeated."""
    chosen = data.draw(st.sets(st.integers(0, len(labels) - 1), min_size=1))
    order = balanced_order(labels, sorted(chosen), seed=seed)
    ordered = np.asarray(labels)[order]
    stop = data.draw(st.integers(0, len(order)))

    counts = {int(c): int((ordered[:stop] == c).sum()) for c in np.unique(ordered)}
    left = {c for c in counts if counts[c] < (ordered == c).sum()}

    assert sorted(chosen) == sorted(order.tolist())
    assert all(max(counts.values()) - counts[c] <= 1 for c in left)
    assert order.tolist() == balanced_order(labels, sorted(chosen, reverse=True), seed=seed).tolist()


# --- real data ---


@pytest.fixture(scope="module")
def real_data():
    folder = os.environ.get("ISPLIT_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("the environment variable ISPLIT_DATA does not name the folder of real data")
    return Path(folder)


def test_tiny_imagenet(real_data):
    """20 classes with titles and four groups; 1,000 of train held out, val as test."""
    dataset = open_data(str(real_data / "tiny-imagenet-20.zip"))

    assert {"fit": 9000, "select": 1000, "test": 1000} == {part: len(images) for part, images in dataset.parts.items()}
    assert 20 == len(dataset.classes)
    assert "Chihuahua" == dataset.titles[dataset.classes.index("n02085620")]
    assert {"pets", "vehicles", "food", "structures"} == set(dataset.groups)
    assert [50] * 20 == np.bincount(dataset.labels[dataset.parts["select"]]).tolist()
    assert (64, 64) == dataset.image(10_500).size


def test_chest_xray_keeps_its_parts(real_data):
    """The parts by patient are kept as they are."""
    dataset = open_data(str(real_data / "chest-xray-pneumonia-128.zip"))

    assert {"fit": 3951, "select": 564, "test": 685} == {part: len(images) for part, images in dataset.parts.items()}


def test_notmnist(real_data):
    """The compressed IDX pair opens and is divided 80/10/10, class by class."""
    names = [real_data / f"notmnist-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1")]

    dataset = open_data(f"idx:{names[0]},{names[1]}")

    assert {"fit": 8000, "select": 1000, "test": 1000} == {part: len(images) for part, images in dataset.parts.items()}
