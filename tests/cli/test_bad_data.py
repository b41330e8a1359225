"""Data that cannot be used: exit 2, a sentence that says what to do, no traceback."""

import zipfile

import numpy as np


def test_unknown_data(refuse, tmp_path):
    """A path that is not there is named, with the forms that are understood."""
    refuse(data=tmp_path / "nowhere", says=["nowhere", ".npz", "torchvision:"])


def test_unknown_torchvision_data(refuse):
    """An unknown data set gets the nearest name."""
    refuse(data="torchvision:CIFAR1O", says=["CIFAR1O", "CIFAR10"])


def test_unknown_split(refuse):
    """A part that is not there gets those that are."""
    refuse("--split", "validation", says=["validation", "train", "test"])


def test_corrupt_image(refuse, folders):
    """An image that cannot be decoded is named."""
    root = folders(bars=10, dots=10, rows=10)
    (root / "dots" / "3.png").write_bytes((root / "dots" / "3.png").read_bytes()[:60])
    refuse(data=root, says=["3.png"])


def test_corrupt_zip(refuse, tmp_path):
    """A zip that is none is named."""
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 and then nothing")
    refuse(data=tmp_path / "bad.zip", says=["bad.zip"])


def test_corrupt_image_in_a_zip(refuse, folders, tmp_path):
    """A broken image inside a zip is named."""
    root = folders(bars=10, dots=10, rows=10)
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        for path in sorted(root.rglob("*.png")):
            content = path.read_bytes()
            archive.writestr(str(path.relative_to(root)), content[:50] if path.match("rows/5.png") else content)
    refuse(data=tmp_path / "some.zip", says=["some.zip", "rows/5.png"])


def test_empty_class(refuse, folders):
    """A class folder without images is named."""
    refuse(data=folders(bars=10, dots=0, rows=10), says=["dots"])


def test_one_class_only(refuse, folders):
    """With one class there is nothing to tell apart."""
    refuse(data=folders(bars=10), says=["one class", "bars"])


def test_empty_folder(refuse, tmp_path):
    """A folder without class folders is refused."""
    (tmp_path / "empty").mkdir()
    refuse(data=tmp_path / "empty", says=["empty"])


def test_label_out_of_range(refuse, tmp_path):
    """A label beyond the named classes is refused, with its value."""
    labels = np.arange(30) % 3
    labels[7] = 9
    np.savez(
        tmp_path / "labels.npz",
        images=np.zeros((30, 16, 16, 3), np.uint8),
        labels=labels,
        classes=np.array(["a", "b", "c"]),
    )
    refuse(data=tmp_path / "labels.npz", says=["label", "9"])


def test_negative_label(refuse, tmp_path):
    """A label below zero is refused, with its value."""
    labels = np.arange(30) % 3
    labels[7] = -1
    np.savez(tmp_path / "labels.npz", images=np.zeros((30, 16, 16, 3), np.uint8), labels=labels)
    refuse(data=tmp_path / "labels.npz", says=["label", "-1"])
