"""isplit.design.inputs.library_sets: sets of torchvision and scikit-learn open, a failed download is explained."""

import numpy as np
import pytest
import torchvision
from PIL import Image

from isplit.design.inputs.data import open_data
from isplit.errors import DataError


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

    assert {"fit": 40, "select": 10, "test": 30} == {part: len(indices) for part, indices in dataset.parts.items()}
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

    assert {"fit": 36, "select": 4, "test": 10} == {part: len(indices) for part, indices in dataset.parts.items()}


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
