"""isplit.design.data and sources: every kind of data opens, is divided by the fixed rule, and fails clearly."""

import gzip
import io
import json
import os
import struct
import sys
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from isplit.design import sources
from isplit.design.data import Batch, balanced_order, iter_batches, normalise, open_data
from isplit.errors import DataError, InputError
from isplit.records import Preprocessing

SMALL = Preprocessing(
    image_size=(6, 6),
    resize_size=6,
    interpolation="bilinear",
    channels=3,
    mean=(0.1, 0.2, 0.3),
    std=(0.5, 0.6, 0.7),
)


def pixels(seed, shape=(8, 7, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(seed=0):
    file = io.BytesIO()
    Image.fromarray(pixels(seed)).save(file, "PNG")
    return file.getvalue()


def write_files(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def class_files(prefix="", *, classes=("cat", "dog"), count=10):
    return {f"{prefix}{name}/{i:02}.png": png(i) for name in classes for i in range(count)}


def write_idx(path, values, *, kind=8):
    content = bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def npz_arrays(count=40, shape=(8, 7, 3)):
    return {"images": pixels(0, (count, *shape)), "labels": np.arange(count) % 2}


def indices(dataset):
    return {part: values.tolist() for part, values in dataset.parts.items()}


# --- folders and zips ---


def test_class_folders(tmp_path):
    """Classes and files are in order of name; files that are not images, and hidden ones, are ignored."""
    files = class_files(classes=("dog", "cat"))
    extra = {
        "cat/notes.txt": b"",
        "cat/.hidden.png": b"",
        "README.md": b"",
        ".git/a/x.png": b"",
        "dog/z/y.PNG": png(99),
    }

    dataset = open_data(str(write_files(tmp_path, files | extra)))

    assert ("cat", "dog") == dataset.classes == dataset.titles
    assert [0] * 10 + [1] * 11 == dataset.labels.tolist()
    assert 21 == len(dataset)
    np.testing.assert_array_equal(pixels(3), np.asarray(dataset.image(13)))
    np.testing.assert_array_equal(pixels(99), np.asarray(dataset.image(20)))
    assert not dataset.groups
    assert dataset.split is None


@pytest.mark.parametrize("top", ["", "pets/", "download/pets/"])
def test_zip_equals_its_folder(tmp_path, top):
    """A zip gives what the folder gives, with or without enclosing folders."""
    files = {
        f"{top}{name}": content for name, content in (class_files("train/") | class_files("val/", count=3)).items()
    }

    zipped = open_data(str(write_zip(tmp_path / "pets.zip", files | {"__MACOSX/train/cat/._00.png": b"junk"})))
    folder = open_data(str(write_files(tmp_path / "folder", files)))

    assert zipped.classes == folder.classes
    assert indices(zipped) == indices(folder)
    np.testing.assert_array_equal(zipped.labels, folder.labels)
    np.testing.assert_array_equal(np.asarray(zipped.image(21)), np.asarray(folder.image(21)))


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_three_part_folders_are_kept(tmp_path, validation):
    """train, val and test become fit, select and test, whatever val is called."""
    files = class_files("train/") | class_files(f"{validation}/", count=2) | class_files("test/", count=3)

    dataset = open_data(str(write_files(tmp_path, files)))

    expected = {"fit": list(range(20)), "select": list(range(20, 24)), "test": list(range(24, 30))}
    assert expected == indices(dataset)
    assert "fit = train, select = val, test = test" == dataset.part_rule


@pytest.mark.parametrize("other", ["val", "test"])
def test_two_part_folders_hold_select_out_of_train(tmp_path, other):
    """The part beside train is the test; a tenth of each class of train becomes select, by the fixed rule."""
    files = class_files("train/", count=20) | class_files(f"{other}/", count=3)

    dataset = open_data(str(write_files(tmp_path, files)), seed=5)

    expected = []
    for label in range(2):
        own = np.arange(20) + 20 * label
        expected += np.random.default_rng([5, label]).permutation(own)[:2].tolist()
    assert sorted(expected) == dataset.parts["select"].tolist()
    assert list(range(40, 46)) == dataset.parts["test"].tolist()
    assert sorted(set(range(40)) - set(expected)) == dataset.parts["fit"].tolist()
    assert f"test = {other}" in dataset.part_rule
    assert "10 % of train" in dataset.part_rule
    assert "seed 5" in dataset.part_rule


def test_split_picks_one_part_folder(tmp_path):
    """With a split, that folder is all there is and is divided 80/10/10."""
    files = class_files("train/", count=20) | class_files("val/", count=10)

    dataset = open_data(str(write_files(tmp_path, files)), split="val")

    assert {"fit": 16, "select": 2, "test": 2} == {part: len(found) for part, found in dataset.parts.items()}
    assert "val" == dataset.split


def test_split_may_name_any_folder_of_class_folders(tmp_path):
    """A part folder of another name is usable by naming it."""
    files = class_files("round1/") | class_files("round2/", count=20)

    assert 40 == len(open_data(str(write_files(tmp_path, files)), split="round2"))


def test_a_class_may_be_called_train(tmp_path):
    """A folder "train" of images beside other classes is a class."""
    dataset = open_data(str(write_files(tmp_path, class_files(classes=("bus", "train")))))

    assert ("bus", "train") == dataset.classes


def test_titles_and_groups(tmp_path):
    """classes.json gives titles, in the order of the classes, and groups."""
    about = {"names": {"dog": "Hound", "x": "unused"}, "groups": {"pets": ["dog", "cat"]}}

    dataset = open_data(str(write_files(tmp_path, class_files() | {"classes.json": json.dumps(about).encode()})))

    assert ("cat", "Hound") == dataset.titles
    assert {"pets": ("dog", "cat")} == dataset.groups


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not of the form"),
        (b"[]", "is not of the form"),
        (b'{"groups": {"pets": ["cow"]}}', "unknown class 'cow'"),
        (b'{"groups": {"pets": []}}', "is empty"),
    ],
)
def test_bad_classes_json(tmp_path, content, message):
    """A classes.json that is damaged or names other classes is an error that names it."""
    with pytest.raises(DataError, match=rf"classes\.json.*{message}"):
        open_data(str(write_files(tmp_path, class_files() | {"classes.json": content})))


def test_folder_hash_follows_names_sizes_and_labels(tmp_path):
    """The hash of a folder changes with a file's name, and not with the folder's place."""
    files = class_files()
    here, there = (open_data(str(write_files(tmp_path / name, files))).sha256 for name in "ab")
    (tmp_path / "b/cat/00.png").rename(tmp_path / "b/cat/renamed.png")

    assert here == there
    assert here != open_data(str(tmp_path / "b")).sha256


def test_zip_hash_is_the_files(tmp_path):
    """The hash of a zip is that of its bytes."""
    path = write_zip(tmp_path / "a.zip", class_files())

    assert sources.file_sha256(path) == open_data(str(path)).sha256


def test_zip_is_read_from_several_threads(tmp_path):
    """Threads that read one zip at once get the right images."""
    dataset = open_data(str(write_zip(tmp_path / "a.zip", class_files())))
    wrong = []

    def read():
        wrong.extend(i for i in range(20) if not np.array_equal(pixels(i % 10), np.asarray(dataset.image(i))))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == wrong


def test_folder_errors(tmp_path):
    """An empty directory, an empty class folder, a single class: each is named."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        open_data(str(tmp_path / "empty"))

    write_files(tmp_path / "hollow", class_files() | {"cow/notes.txt": b""})
    with pytest.raises(DataError, match="class folder cow is empty"):
        open_data(str(tmp_path / "hollow"))

    write_files(tmp_path / "single", class_files(classes=("cat",)))
    with pytest.raises(DataError, match="only one class, 'cat'"):
        open_data(str(tmp_path / "single"))

    write_files(tmp_path / "flat", {"a.png": png()})
    with pytest.raises(DataError, match="expected CLASS/IMAGE"):
        open_data(str(tmp_path / "flat"))


def test_empty_class_folder_in_a_zip(tmp_path):
    """A class folder without images in a zip is named too."""
    with pytest.raises(DataError, match="class folder cow is empty"):
        open_data(str(write_zip(tmp_path / "a.zip", class_files() | {"cow/": b""})))


def test_part_folder_errors(tmp_path):
    """A class that train lacks, and part folders beside others, are errors that name them."""
    write_files(tmp_path / "a", class_files("train/") | class_files("val/", classes=("cat", "cow")))
    with pytest.raises(DataError, match="val has a class 'cow' that train lacks"):
        open_data(str(tmp_path / "a"))

    write_files(tmp_path / "b", class_files("train/") | class_files("extra/"))
    with pytest.raises(DataError, match=r"part folders \(train\) beside extra"):
        open_data(str(tmp_path / "b"))

    write_files(tmp_path / "c", class_files("train/") | {"test/1.png": png()})
    with pytest.raises(DataError, match=r"part folders \(train\) beside test"):
        open_data(str(tmp_path / "c"))
    assert 20 == len(open_data(str(tmp_path / "c"), split="train"))

    write_files(tmp_path / "d", class_files("val/") | class_files("test/"))
    with pytest.raises(DataError, match="no train"):
        open_data(str(tmp_path / "d"))


def test_unknown_split(tmp_path):
    """A split that is not there is an error that lists those that are."""
    write_files(tmp_path / "a", class_files("train/") | class_files("val/"))
    with pytest.raises(DataError, match="no part 'tset': it has train, val"):
        open_data(str(tmp_path / "a"), split="tset")

    write_files(tmp_path / "b", class_files())
    with pytest.raises(DataError, match="no part 'train': it is not divided"):
        open_data(str(tmp_path / "b"), split="train")


def test_corrupt_image(tmp_path):
    """A damaged image is named when it is read, in a folder and in a zip."""
    files = class_files() | {"cat/05.png": png()[:100], "cat/06.png": b"junk"}
    for dataset in (
        open_data(str(write_files(tmp_path / "a", files))),
        open_data(str(write_zip(tmp_path / "a.zip", files))),
    ):
        with pytest.raises(DataError, match=r"cat/05\.png is damaged"):
            dataset.image(5)
        with pytest.raises(DataError, match=r"cat/06\.png is not an image"):
            dataset.image(6)


def test_removed_image(tmp_path):
    """An image that is gone by the time it is read is named."""
    dataset = open_data(str(write_files(tmp_path, class_files())))
    (tmp_path / "cat/05.png").unlink()

    with pytest.raises(DataError, match=r"cat/05\.png cannot be read"):
        dataset.image(5)


@pytest.mark.parametrize("index", [-1, 20])
def test_no_image_beyond_the_last(tmp_path, index):
    """Indices do not wrap around."""
    with pytest.raises(IndexError):
        open_data(str(write_files(tmp_path, class_files()))).image(index)


def test_bomb_image(tmp_path):
    """An image that claims gigapixels is refused, not decoded."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\0IDAT"
    dataset = open_data(str(write_files(tmp_path, class_files() | {"cat/00.png": content})))

    with pytest.raises(DataError, match="larger than"):
        dataset.image(0)


def test_corrupt_zip(tmp_path):
    """A file that is no zip, and a member whose bytes changed, are errors that name them."""
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(DataError, match=r"a\.zip cannot be read as a zip"):
        open_data(str(path))

    write_zip(path, class_files())
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cat/00\.png cannot be read"):
        open_data(str(path)).image(0)


def test_encrypted_zip_member(tmp_path):
    """A member that needs a password is an error that says so."""
    path = write_zip(tmp_path / "a.zip", class_files())
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the local header's encryption flag
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and the directory's
    path.write_bytes(content)

    with pytest.raises(DataError, match="password"):
        open_data(str(path)).image(0)


def test_hostile_zip(tmp_path):
    """A member that would decode to more than the limit is refused on opening."""
    path = write_zip(tmp_path / "a.zip", class_files())
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 24  # the uncompressed size in the directory
    content[at : at + 4] = struct.pack("<I", sources.MAX_MEMBER_BYTES + 1)
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"cat/00\.png would take 268435457 bytes"):
        open_data(str(path))


def test_zip_paths_do_not_escape(tmp_path):
    """Nothing is extracted: a member called ../x is only ever read."""
    (tmp_path / "data").mkdir()
    path = write_zip(tmp_path / "data" / "a.zip", class_files() | {"cat/../../../evil.png": png()})

    open_data(str(path))

    assert ["a.zip"] == [found.name for found in (tmp_path / "data").iterdir()]
    assert ["data"] == [found.name for found in tmp_path.iterdir()]


# --- parts ---


def test_one_part_follows_the_fixed_rule(tmp_path):
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


def test_classes_of_two_images_stay_in_fit(tmp_path):
    """A class too small to divide keeps its images for fitting."""
    labels = np.array([0] * 10 + [1] * 2)

    dataset = open_data(str(write_npz(tmp_path / "a.npz", images=pixels(0, (12, 4, 4)), labels=labels)))

    assert {10, 11} <= set(dataset.parts["fit"].tolist())


def test_data_too_small_to_divide(tmp_path):
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
    from isplit.design.data import _hold_out

    labels = np.repeat(np.arange(len(counts)), counts)
    found = _hold_out(labels, np.arange(len(labels)), parts=parts, seed=seed)

    assert list(range(len(labels))) == sorted(np.concatenate(found).tolist())
    for part in found:
        assert set(range(len(counts))) == set(labels[part].tolist())


# --- arrays ---


@pytest.mark.parametrize("shape", [(8, 7), (8, 7, 1), (8, 7, 3), (8, 7, 4)])
def test_npz(tmp_path, shape):
    """Arrays of grey, RGB or RGBA images open, with classes named by the file or numbered."""
    arrays = npz_arrays(shape=shape)

    numbered = open_data(str(write_npz(tmp_path / "a.npz", **arrays)))
    named = open_data(str(write_npz(tmp_path / "b.npz", **arrays, classes=np.array(["left", "right"]))))

    assert ("0", "1") == numbered.classes
    assert ("left", "right") == named.classes
    np.testing.assert_array_equal(np.squeeze(arrays["images"][5]), np.asarray(numbered.image(5)))
    assert sources.file_sha256(tmp_path / "a.npz") == numbered.sha256


def test_npz_floats_are_scaled(tmp_path):
    """Floats in [0, 1] become bytes, rounded."""
    arrays = npz_arrays()
    floats = {"images": (arrays["images"] / 255).astype(np.float32), "labels": arrays["labels"][:, None]}

    dataset = open_data(str(write_npz(tmp_path / "a.npz", **floats)))

    np.testing.assert_array_equal(arrays["images"][7], np.asarray(dataset.image(7)))


@pytest.mark.parametrize("pattern", ["{0}_{1}", "{1}_{0}"])
def test_npz_parts(tmp_path, pattern):
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
        ({"images": np.zeros((40, 3, 8, 7), np.uint8)}, "must be uint8"),
        ({"images": np.full((40, 8, 7), 1.5)}, "must lie in"),
        ({"images": np.full((40, 8, 7), np.nan)}, "must lie in"),
        ({"images": np.zeros((0, 8, 7), np.uint8), "labels": np.zeros(0, int)}, "holds no images"),
        ({"labels": np.zeros(40, int)}, "only one class"),
        ({"labels": np.arange(40) % 2 * 2}, "class '1' has no image to fit on"),
    ],
)
def test_bad_npz(tmp_path, change, message):
    """Labels and images that do not fit each other, or are of another kind, are errors."""
    with pytest.raises(DataError, match=message):
        open_data(str(write_npz(tmp_path / "a.npz", **npz_arrays() | change)))


def test_npz_lacks_arrays(tmp_path):
    """A missing array is named."""
    with pytest.raises(DataError, match="has the arrays x: it needs images and labels"):
        open_data(str(write_npz(tmp_path / "a.npz", x=np.zeros(3))))
    with pytest.raises(DataError, match="lacks an array"):
        open_data(str(write_npz(tmp_path / "b.npz", images=np.zeros((3, 4, 4), np.uint8))))


def test_damaged_npz(tmp_path):
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


def test_oversized_npz(tmp_path, monkeypatch):
    """An array beyond the limit is refused before it is decoded."""
    monkeypatch.setattr(sources, "MAX_ARRAY_BYTES", 1000)

    with pytest.raises(DataError, match=r"images\.npy would take"):
        open_data(str(write_npz(tmp_path / "a.npz", **npz_arrays())))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(tmp_path, suffix):
    """IDX files open, compressed or not."""
    values, labels = pixels(0, (30, 6, 5)), (np.arange(30) % 3).astype(np.uint8)
    images = write_idx(tmp_path / f"images{suffix}", values)

    dataset = open_data(f"idx:{images},{write_idx(tmp_path / f'labels{suffix}', labels)}")

    assert ("0", "1", "2") == dataset.classes
    np.testing.assert_array_equal(labels, dataset.labels)
    np.testing.assert_array_equal(values[17], np.asarray(dataset.image(17)))
    assert {"fit": 24, "select": 3, "test": 3} == {part: len(found) for part, found in dataset.parts.items()}


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
def test_bad_idx(tmp_path, suffix, content, message):
    """Truncated, oversized and foreign files are errors, before memory is taken for what they promise."""
    labels = write_idx(tmp_path / "labels", np.zeros(30, np.uint8))
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)

    with pytest.raises(DataError, match=message):
        open_data(f"idx:{path},{labels}")


def test_idx_files_that_cannot_be_read(tmp_path):
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


# --- libraries and factories ---


def test_sklearn_digits():
    """scikit-learn's digits are grey 8 x 8 images, their 0 to 16 spread over 0 to 255."""
    dataset = open_data("sklearn:digits")

    values = np.stack([np.asarray(dataset.image(i)) for i in range(50)])
    assert 1797 == len(dataset)
    assert tuple("0123456789") == dataset.classes
    assert (50, 8, 8) == values.shape
    assert (0, 255) == (values.min(), values.max())


def make_mnist(root):
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, count in (("train", 50), ("t10k", 30)):
        write_idx(folder / f"{name}-images-idx3-ubyte", pixels(count, (count, 28, 28)))
        write_idx(folder / f"{name}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))


def test_torchvision_set(tmp_path):
    """A torchvision set opens from files that are there; its test part is ours, select comes out of train."""
    make_mnist(tmp_path)

    dataset = open_data("torchvision:MNIST", data_root=tmp_path)

    assert {"fit": 40, "select": 10, "test": 30} == {part: len(found) for part, found in dataset.parts.items()}
    assert "0 - zero" == dataset.classes[0]
    np.testing.assert_array_equal(pixels(30, (30, 28, 28))[3], np.asarray(dataset.image(53)))
    assert 30 == len(open_data("torchvision:MNIST", data_root=tmp_path, split="test"))


def test_torchvision_hash_follows_the_pixels(tmp_path):
    """The hash of a set held in memory changes with one pixel."""
    make_mnist(tmp_path)
    before = open_data("torchvision:MNIST", data_root=tmp_path).sha256
    path = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")

    assert before != open_data("torchvision:MNIST", data_root=tmp_path).sha256


def test_torchvision_set_with_split_argument(tmp_path, monkeypatch):
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


def test_default_data_root_is_in_the_cache(tmp_path, monkeypatch):
    """Without a data root, torchvision's sets are in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    make_mnist(tmp_path / "isplit" / "data")

    assert 80 == len(open_data("torchvision:MNIST"))


FACTORY = """
import helper_beside
from PIL import Image
import numpy as np
LOADED = __name__

class Items:
    classes = ["no", "yes"]
    def __len__(self):
        return 30
    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError(i)
        image = np.full((5, 4, 3), i, np.uint8)
        return (Image.fromarray(image) if i % 2 else image), i % 2

def make():
    return Items()

def make_floats():
    return [(np.zeros((5, 4, 3)), i % 2) for i in range(30)]

def make_torch():
    import torch
    return [(torch.zeros(5, 4, 3, dtype=torch.uint8), i % 2) for i in range(30)]

def make_none():
    return None

def make_singles():
    return [1] * 30

def fail():
    raise RuntimeError("no disk")
"""


@pytest.fixture
def factory_file(tmp_path):
    (tmp_path / "helper_beside.py").write_text("")
    path = tmp_path / "mine.py"
    path.write_text(FACTORY)
    yield path
    sys.modules.pop("helper_beside", None)


def test_factory_in_a_file(factory_file):
    """A function in a file gives a set of PIL images or arrays; the import path is as before."""
    before = list(sys.path)

    dataset = open_data(f"{factory_file}:make")

    assert ("no", "yes") == dataset.classes
    assert [0, 1] * 15 == dataset.labels.tolist()
    assert (4, 5) == dataset.image(6).size == dataset.image(7).size
    assert 7 == np.asarray(dataset.image(7)).max()
    assert before == sys.path
    assert "mine" not in sys.modules


def test_factory_in_a_package(factory_file, monkeypatch):
    """A module in the working directory is found by its name."""
    monkeypatch.chdir(factory_file.parent)
    try:
        assert 30 == len(open_data("mine:make"))
    finally:
        sys.modules.pop("mine", None)


def test_factory_of_tensors(factory_file):
    """Uint8 tensors are taken like arrays."""
    assert (4, 5) == open_data(f"{factory_file}:make_torch").image(0).size


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", r"has no function 'gone'; it has .*make, make_floats"),
        ("fail", "RuntimeError: no disk"),
        ("make_none", "gave a NoneType"),
        ("make_singles", r"item 0 is not an \(image, label\) pair"),
        ("Items", None),
    ],
)
def test_bad_factories(factory_file, name, message):
    """A factory that is missing, raises or returns something else is an error that says so."""
    if message is None:
        assert 30 == len(open_data(f"{factory_file}:{name}"))
        return
    with pytest.raises(DataError, match=message):
        open_data(f"{factory_file}:{name}")


def test_factory_of_float_images(factory_file):
    """Transformed images are refused when they are read: the preprocessing is isplit's."""
    with pytest.raises(DataError, match="item 3 is float64"):
        open_data(f"{factory_file}:make_floats").image(3)


def test_file_that_cannot_be_imported(tmp_path):
    """A missing file, a missing module and a syntax error are errors with the cause in them."""
    with pytest.raises(DataError, match="there is no such file"):
        open_data(f"{tmp_path}/gone.py:make")
    with pytest.raises(DataError, match="ModuleNotFoundError"):
        open_data("no_such_package.here:make")
    (tmp_path / "bad.py").write_text("def")
    with pytest.raises(DataError, match="SyntaxError"):
        open_data(f"{tmp_path}/bad.py:make")


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


# --- records ---


def test_source_record(tmp_path):
    """The record holds what the study needs to repeat it."""
    dataset = open_data(str(write_files(tmp_path, class_files())))

    record = dataset.source((7, 3))

    assert (7, 3) == record.class_outputs
    assert {"fit": 16, "select": 2, "test": 2} == record.part_images
    assert (dataset.spec, dataset.sha256, dataset.part_rule) == (record.spec, record.sha256, record.part_rule)


# --- order and batches ---


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


def test_batches_equal_torchvision(tmp_path):
    """Batches hold the images in the order asked for, as torchvision's transforms make them."""
    dataset = open_data(str(write_files(tmp_path, class_files())))
    order = np.array([3, 19, 0, 7, 11])
    theirs = transforms.Compose(
        [
            transforms.Resize(6),
            transforms.CenterCrop(6),
            transforms.ToTensor(),
            transforms.Normalize(SMALL.mean, SMALL.std),
        ]
    )

    batches = list(iter_batches(dataset, order, SMALL, batch_size=2))

    assert [2, 2, 1] == [len(batch.indices) for batch in batches]
    assert order.tolist() == np.concatenate([batch.indices for batch in batches]).tolist()
    assert [0, 1, 0, 0, 1] == torch.cat([batch.labels for batch in batches]).tolist()
    expected = torch.stack([torch.as_tensor(theirs(dataset.image(int(index)))) for index in order])
    torch.testing.assert_close(expected, torch.cat([batch.images for batch in batches]), rtol=0, atol=0)
    assert isinstance(batches[0], Batch)


def test_normalise_leaves_the_pixels():
    """The pixels given are not written to."""
    given_pixels = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)

    images = normalise(given_pixels, SMALL)

    torch.testing.assert_close(torch.tensor([1.8, 0.8 / 0.6, 1.0]), images[0, :, 0, 0])
    assert 255 == int(given_pixels.min())


def test_no_indices_no_batches(tmp_path):
    """Nothing asked for gives nothing."""
    dataset = open_data(str(write_files(tmp_path, class_files())))

    assert [] == list(iter_batches(dataset, [], SMALL, batch_size=4))


def test_batch_size_must_be_positive(tmp_path):
    """A batch size of 0 is an error at once, not at the first batch."""
    dataset = open_data(str(write_files(tmp_path, class_files())))

    with pytest.raises(InputError, match="at least 1, not 0"):
        iter_batches(dataset, [1], SMALL, batch_size=0)


def decoding_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("isplit-decode")]


def test_a_broken_image_surfaces_with_its_batch(tmp_path):
    """The batches before a damaged image are given; then its own error comes up, and the threads end."""
    dataset = open_data(str(write_files(tmp_path, class_files() | {"cat/05.png": b"junk"})))
    batches = iter_batches(dataset, range(10), SMALL, batch_size=2)

    assert [0, 1] == next(batches).indices.tolist()
    assert [2, 3] == next(batches).indices.tolist()
    with pytest.raises(DataError, match=r"cat/05\.png is not an image"):
        next(batches)
    assert [] == decoding_threads()


def test_closing_stops_the_threads(tmp_path):
    """A caller that has seen enough leaves no thread behind."""
    dataset = open_data(str(write_files(tmp_path, class_files())))
    batches = iter_batches(dataset, range(20), SMALL, batch_size=2)
    next(batches)

    assert decoding_threads()
    batches.close()
    assert [] == decoding_threads()


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
