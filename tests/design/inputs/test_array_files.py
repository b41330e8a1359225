"""isplit.design.inputs.array_files: .npz and IDX files open, and are refused when damaged, foreign or too large."""

import gzip
import io
import struct
import warnings
import zipfile

import numpy as np
import pytest

from isplit.design.inputs import array_files
from isplit.design.inputs.data import open_data
from isplit.design.inputs.files import file_sha256
from isplit.errors import DataError


@pytest.fixture
def npz_arrays(pixels):
    """Return a function that makes the arrays of an .npz file of two classes."""

    def make(count=40, shape=(8, 7, 3)):
        return {"images": pixels(0, (count, *shape)), "labels": np.arange(count) % 2}

    return make


@pytest.mark.parametrize("shape", [(8, 7), (8, 7, 1), (8, 7, 3), (8, 7, 4)])
def test_npz(tmp_path, shape, write_npz, npz_arrays):
    """Arrays of grey, RGB or RGBA images open, with classes named by the file or numbered."""
    arrays = npz_arrays(shape=shape)

    numbered = open_data(str(write_npz(tmp_path / "a.npz", **arrays)))
    named = open_data(str(write_npz(tmp_path / "b.npz", **arrays, classes=np.array(["left", "right"]))))

    assert ("0", "1") == numbered.classes
    assert ("left", "right") == named.classes
    np.testing.assert_array_equal(np.squeeze(arrays["images"][5]), np.asarray(numbered.image(5)))
    assert file_sha256(tmp_path / "a.npz") == numbered.sha256


def test_npz_floats_are_scaled(tmp_path, write_npz, npz_arrays):
    """Floats in [0, 1] become bytes, rounded."""
    arrays = npz_arrays()
    floats = {"images": (arrays["images"] / 255).astype(np.float32), "labels": arrays["labels"][:, None]}

    dataset = open_data(str(write_npz(tmp_path / "a.npz", **floats)))

    np.testing.assert_array_equal(arrays["images"][7], np.asarray(dataset.image(7)))


@pytest.mark.parametrize("pattern", ["{0}_{1}", "{1}_{0}"])
def test_npz_parts(tmp_path, pattern, pixels, write_npz, indices):
    """Arrays may be given by part, as images_train or as train_images."""
    arrays = {}
    for seed, (part, count) in enumerate({"train": 20, "val": 4, "test": 6}.items()):
        arrays[pattern.format("images", part)] = pixels(seed, (count, 5, 5))
        arrays[pattern.format("labels", part)] = np.arange(count) % 2

    path = str(write_npz(tmp_path / "a.npz", **arrays))
    dataset = open_data(path)

    assert {"fit": list(range(20)), "select": list(range(20, 24)), "test": list(range(24, 30))} == indices(dataset)
    np.testing.assert_array_equal(pixels(2, (6, 5, 5))[1], np.asarray(dataset.image(25)))
    assert 6 == len(open_data(path, split="test"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.arange(40) % 2 - 1}, "label -1 is out of range"),
        ({"labels": np.full(40, 40)}, "label 40 is out of range"),
        ({"labels": np.arange(40) % 3, "classes": np.array(["a", "b"])}, "label 2 is out of range: with 2 classes"),
        ({"labels": np.arange(39) % 2}, "40 images but 39 labels"),
        ({"labels": np.zeros(40)}, "one integer per image, not float64"),
        ({"labels": np.zeros((40, 2), int)}, "one integer per image"),
        ({"labels": np.array([None] * 40)}, "not unpickled"),
        ({"images": np.zeros((40, 8, 7), np.int32)}, "must be uint8"),
        ({"images": np.zeros((40, 3, 8, 7), np.uint8)}, "if their channels come first"),
        ({"images": np.full((40, 8, 7), 1.5)}, "must lie in"),
        ({"images": np.full((40, 8, 7), np.nan)}, "must lie in"),
        ({"images": np.zeros((0, 8, 7), np.uint8), "labels": np.zeros(0, int)}, "holds no images"),
        ({"labels": np.zeros(40, int)}, "only one class"),
    ],
)
def test_bad_npz(tmp_path, change, message, write_npz, npz_arrays):
    """Labels and images that do not fit each other, or are of another kind, are errors."""
    with pytest.raises(DataError, match=message):
        open_data(str(write_npz(tmp_path / "a.npz", **npz_arrays() | change)))


def test_npz_lacks_arrays(tmp_path, write_npz):
    """A missing array is named."""
    with pytest.raises(DataError, match="has the arrays x: it needs images and labels"):
        open_data(str(write_npz(tmp_path / "a.npz", x=np.zeros(3))))
    with pytest.raises(DataError, match="lacks an array"):
        open_data(str(write_npz(tmp_path / "b.npz", images=np.zeros((3, 4, 4), np.uint8))))


def test_npz_with_an_array_twice(tmp_path, write_npz, npz_arrays):
    """Which of two is meant cannot be known."""
    path = write_npz(tmp_path / "a.npz", **npz_arrays())
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the second name, from the module that writes it
        archive.writestr("labels.npy", archive.read("labels.npy"))

    with pytest.raises(DataError, match=r"has the array labels more than once: save each under a name of its own"):
        open_data(str(path))


def test_damaged_npz(tmp_path, write_zip, write_npz, npz_arrays):
    """A cut-off file, and an array whose header promises more than there is, are errors."""
    path = write_npz(tmp_path / "a.npz", **npz_arrays())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read"):
        open_data(str(path))

    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1000, 1000)})
    write_zip(path, {"images.npy": file.getvalue(), "labels.npy": file.getvalue()})
    with pytest.raises(DataError, match="cannot be read"):
        open_data(str(path))


def test_oversized_npz(tmp_path, monkeypatch, write_npz, npz_arrays):
    """An array beyond the limit is refused before it is decoded."""
    monkeypatch.setattr(array_files, "MAX_ARRAY_BYTES", 1000)

    with pytest.raises(DataError, match=r"images\.npy would take"):
        open_data(str(write_npz(tmp_path / "a.npz", **npz_arrays())))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(tmp_path, suffix, pixels, write_idx):
    """IDX files open, compressed or not."""
    values, labels = pixels(0, (30, 6, 5)), (np.arange(30) % 3).astype(np.uint8)
    images = write_idx(tmp_path / f"images{suffix}", values)

    dataset = open_data(f"idx:{images},{write_idx(tmp_path / f'labels{suffix}', labels)}")

    assert ("0", "1", "2") == dataset.classes
    np.testing.assert_array_equal(labels, dataset.labels)
    np.testing.assert_array_equal(values[17], np.asarray(dataset.image(17)))
    assert {"fit": 24, "select": 3, "test": 3} == {part: len(images) for part, images in dataset.parts.items()}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is not an IDX file", id="empty"),
        pytest.param(b"\0\0\x0d\x03" + bytes(12), "is not an IDX file of bytes", id="floats"),
        pytest.param(b"\0\0\x08\x03\0\0", "truncated", id="header"),
        pytest.param(b"\0\0\x08\x03" + struct.pack(">3I", 30, 6, 5) + bytes(899), "truncated or too long", id="short"),
        pytest.param(b"\0\0\x08\x03" + struct.pack(">3I", 30, 6, 5) + bytes(901), "truncated or too long", id="long"),
        pytest.param(b"\0\0\x08\x03" + b"\xff" * 12, "would take", id="huge"),
        pytest.param(b"\0\0\x08\x03" + struct.pack(">3I", 2000, 1000, 1000), "truncated", id="large"),
    ],
)
def test_bad_idx(tmp_path, suffix, content, message, write_idx):
    """Truncated, oversized and foreign files are errors, before memory is taken for what they promise."""
    labels = write_idx(tmp_path / "labels", np.zeros(30, np.uint8))
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)

    with pytest.raises(DataError, match=message):
        open_data(f"idx:{path},{labels}")


def test_idx_files_that_cannot_be_read(tmp_path, pixels, write_idx):
    """A missing file, a cut-off .gz, and labels of another length are errors."""
    labels = write_idx(tmp_path / "labels", np.zeros(30, np.uint8))
    with pytest.raises(DataError, match="cannot read"):
        open_data(f"idx:{tmp_path / 'gone'},{labels}")

    path = write_idx(tmp_path / "images.gz", pixels(0, (30, 6, 5)))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"images\.gz cannot be read"):
        open_data(f"idx:{path},{labels}")

    with pytest.raises(DataError, match="20 images but 30 labels"):
        open_data(f"idx:{write_idx(tmp_path / 'images', pixels(0, (20, 6, 5)))},{labels}")


def test_images_of_zeros_and_ones_are_refused():
    """Bytes that hold a mask of 0 and 1 would be nearly black, and floats of 0 and 1 are black and white."""
    mask = np.arange(20 * 64, dtype=np.uint8).reshape(20, 8, 8) % 2
    labels = np.arange(20) % 2

    with pytest.raises(DataError, match="only the values 0 and 1 of 255"):
        open_data((mask, labels))
    assert 255 == open_data((mask.astype(float), labels)).image(0).getextrema()[1]
