"""isplit.design.inputs.data: every kind of data opens, is divided by the fixed rule, and fails clearly."""

import os
from pathlib import Path

import numpy as np
import pytest
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from isplit.design.inputs.data import _hold_out, balanced_order, open_data
from isplit.errors import DataError

# --- parts ---


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
def test_hold_out_is_a_stratified_partition(counts, seed, parts):
    """Every index lands in exactly one part, and every class of three or more in every part."""
    labels = np.repeat(np.arange(len(counts)), counts)
    found = _hold_out(labels, np.arange(len(labels)), parts=parts, seed=seed)

    assert list(range(len(labels))) == sorted(np.concatenate(found).tolist())
    for part in found:
        assert set(range(len(counts))) == set(labels[part].tolist())


# --- libraries ---


def test_sklearn_digits():
    """scikit-learn's digits are grey 8 x 8 images, their 0 to 16 spread over 0 to 255."""
    dataset = open_data("sklearn:digits")

    values = np.stack([np.asarray(dataset.image(i)) for i in range(50)])
    assert 1797 == len(dataset)
    assert tuple("0123456789") == dataset.classes
    assert (50, 8, 8) == values.shape
    assert (0, 255) == (values.min(), values.max())


@pytest.fixture
def make_mnist(pixels, write_idx):
    """Return a function that writes small files of random pixels as torchvision's MNIST expects them."""

    def make(root):
        folder = root / "MNIST" / "raw"
        folder.mkdir(parents=True)
        for name, count in (("train", 50), ("t10k", 30)):
            write_idx(folder / f"{name}-images-idx3-ubyte", pixels(count, (count, 28, 28)))
            write_idx(folder / f"{name}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))

    return make


def test_torchvision_set(tmp_path, pixels, make_mnist):
    """A torchvision set opens from files that are there; its test part is ours, select comes out of train."""
    make_mnist(tmp_path)

    dataset = open_data("torchvision:MNIST", data_root=tmp_path)

    assert {"fit": 40, "select": 10, "test": 30} == {part: len(found) for part, found in dataset.parts.items()}
    assert "0 - zero" == dataset.classes[0]
    np.testing.assert_array_equal(pixels(30, (30, 28, 28))[3], np.asarray(dataset.image(53)))
    assert 30 == len(open_data("torchvision:MNIST", data_root=tmp_path, split="test"))


def test_torchvision_hash_follows_the_pixels(tmp_path, make_mnist):
    """The hash of a set held in memory changes with one pixel."""
    make_mnist(tmp_path)
    before = open_data("torchvision:MNIST", data_root=tmp_path).sha256
    path = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")

    assert before != open_data("torchvision:MNIST", data_root=tmp_path).sha256


def test_torchvision_set_with_split_argument(tmp_path, monkeypatch, pixels):
    """Sets that take split= rather than train= work as well."""

    class Fake:
        def __init__(self, root, split="train", download=False):
            self.labels = np.arange(40 if split == "train" else 10) % 2

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, index):
            return Image.fromarray(pixels(index)), self.labels[index]

    monkeypatch.setattr(torchvision.datasets, "SVHN", Fake)

    dataset = open_data("torchvision:SVHN", data_root=tmp_path)

    assert {"fit": 36, "select": 4, "test": 10} == {part: len(found) for part, found in dataset.parts.items()}


def test_failed_download(tmp_path, monkeypatch):
    """A download that fails says where to put the files."""
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])

    with pytest.raises(DataError, match=f"downloaded to or read from {tmp_path}.*put its files there yourself"):
        open_data("torchvision:MNIST", data_root=tmp_path)


def test_default_data_root_is_in_the_cache(tmp_path, monkeypatch, make_mnist):
    """Without a data root, torchvision's sets are in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    make_mnist(tmp_path / "isplit" / "data")

    assert 80 == len(open_data("torchvision:MNIST"))


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

    assert {"fit": 9000, "select": 1000, "test": 1000} == {part: len(found) for part, found in dataset.parts.items()}
    assert 20 == len(dataset.classes)
    assert "Chihuahua" == dataset.titles[dataset.classes.index("n02085620")]
    assert {"pets", "vehicles", "food", "structures"} == set(dataset.groups)
    assert [50] * 20 == np.bincount(dataset.labels[dataset.parts["select"]]).tolist()
    assert (64, 64) == dataset.image(10_500).size


def test_chest_xray_keeps_its_parts(real_data):
    """The parts by patient are kept as they are."""
    dataset = open_data(str(real_data / "chest-xray-pneumonia-128.zip"))

    assert {"fit": 3951, "select": 564, "test": 685} == {part: len(found) for part, found in dataset.parts.items()}


def test_notmnist(real_data):
    """The compressed IDX pair opens and is divided 80/10/10, class by class."""
    names = [real_data / f"notmnist-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1")]

    dataset = open_data(f"idx:{names[0]},{names[1]}")

    assert {"fit": 8000, "select": 1000, "test": 1000} == {part: len(found) for part, found in dataset.parts.items()}
