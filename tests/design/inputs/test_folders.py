"""isplit.design.inputs.folders: folders and zips are read in place, and what is wrong with them is named."""

import json
import struct
import zlib

import numpy as np
import pytest

from isplit.design.inputs.data import open_data
from isplit.design.inputs.files import file_sha256
from isplit.errors import DataError


def test_class_folders(tmp_path, pixels, png, class_files, write_files):
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
def test_zip_equals_its_folder(tmp_path, top, class_files, write_files, write_zip, indices):
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


def test_split_picks_one_part_folder(tmp_path, class_files, write_files):
    """With a split, that folder is all there is and is divided 80/10/10."""
    files = class_files("train/", count=20) | class_files("val/", count=10)

    dataset = open_data(str(write_files(tmp_path, files)), split="val")

    assert {"fit": 16, "select": 2, "test": 2} == {part: len(images) for part, images in dataset.parts.items()}
    assert "val" == dataset.split


def test_split_may_name_any_folder_of_class_folders(tmp_path, class_files, write_files):
    """A part folder of another name is usable by naming it."""
    files = class_files("round1/") | class_files("round2/", count=20)

    assert 40 == len(open_data(str(write_files(tmp_path, files)), split="round2"))


def test_a_class_may_be_called_train(tmp_path, class_files, write_files):
    """A folder "train" of images beside other classes is a class."""
    dataset = open_data(str(write_files(tmp_path, class_files(classes=("bus", "train")))))

    assert ("bus", "train") == dataset.classes


def test_titles_and_groups(tmp_path, class_files, write_files):
    """classes.json gives titles, in the order of the classes, and groups."""
    about = {"names": {"dog": "Hound", "x": "unused"}, "groups": {"pets": ["dog", "cat"]}}

    dataset = open_data(str(write_files(tmp_path, class_files() | {"classes.json": json.dumps(about).encode()})))

    assert ("cat", "Hound") == dataset.titles
    assert {"pets": ("dog", "cat")} == dataset.groups


def test_titles_that_clash(tmp_path, class_files, write_files):
    """Classes of one title are told apart by their names, as ImageNet's two cranes have to be; others stay."""
    names = {"n01": "crane", "n02": "crane", "n03": "cat"}
    files = class_files(classes=tuple(names)) | {"classes.json": json.dumps({"names": names}).encode()}

    dataset = open_data(str(write_files(tmp_path, files)))

    assert ("crane (n01)", "crane (n02)", "cat") == dataset.titles
    assert dataset.titles == dataset.source((0, 1, 2)).class_titles


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not of the form"),
        (b"[]", "is not of the form"),
        (b'{"names": ["cat"]}', "is not of the form"),
        (b'{"groups": {"pets": ["cow"]}}', "unknown class 'cow'"),
        (b'{"groups": {"pets": []}}', "is empty"),
    ],
)
def test_bad_classes_json(tmp_path, content, message, class_files, write_files):
    """A classes.json that is damaged or names other classes is an error that names it."""
    with pytest.raises(DataError, match=rf"classes\.json.*{message}"):
        open_data(str(write_files(tmp_path, class_files() | {"classes.json": content})))


def test_folder_hash_follows_names_sizes_and_labels(tmp_path, class_files, write_files):
    """The hash of a folder changes with a file's name, and not with the folder's place."""
    files = class_files()
    here, there = (open_data(str(write_files(tmp_path / name, files))).sha256 for name in "ab")
    (tmp_path / "b/cat/00.png").rename(tmp_path / "b/cat/renamed.png")

    assert here == there
    assert here != open_data(str(tmp_path / "b")).sha256


def test_zip_hash_is_the_files(tmp_path, class_files, write_zip):
    """The hash of a zip is that of its bytes."""
    path = write_zip(tmp_path / "a.zip", class_files())

    assert file_sha256(path) == open_data(str(path)).sha256


def test_folder_errors(tmp_path, png, class_files, write_files):
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


def test_empty_class_folder_in_a_zip(tmp_path, class_files, write_zip):
    """A class folder without images in a zip is named too."""
    with pytest.raises(DataError, match="class folder cow is empty"):
        open_data(str(write_zip(tmp_path / "a.zip", class_files() | {"cow/": b""})))


def test_part_folder_errors(tmp_path, png, class_files, write_files):
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


def test_unknown_split(tmp_path, class_files, write_files):
    """A split that is not there is an error that lists those that are."""
    write_files(tmp_path / "a", class_files("train/") | class_files("val/"))
    with pytest.raises(DataError, match="no part 'tset': it has train, val"):
        open_data(str(tmp_path / "a"), split="tset")

    write_files(tmp_path / "b", class_files())
    with pytest.raises(DataError, match="no part 'train': it is not divided"):
        open_data(str(tmp_path / "b"), split="train")


def test_corrupt_image(tmp_path, png, class_files, write_files, write_zip):
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


def test_removed_image(tmp_path, class_files, write_files):
    """An image that is gone by the time it is read is named."""
    dataset = open_data(str(write_files(tmp_path, class_files())))
    (tmp_path / "cat/05.png").unlink()

    with pytest.raises(DataError, match=r"cat/05\.png cannot be read"):
        dataset.image(5)


@pytest.mark.parametrize("index", [-1, 20])
def test_no_image_beyond_the_last(tmp_path, index, class_files, write_files):
    """Indices do not wrap around."""
    with pytest.raises(IndexError):
        open_data(str(write_files(tmp_path, class_files()))).image(index)


def test_bomb_image(tmp_path, class_files, write_files):
    """An image that claims gigapixels is refused, not decoded."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\0IDAT"
    dataset = open_data(str(write_files(tmp_path, class_files() | {"cat/00.png": content})))

    with pytest.raises(DataError, match="larger than"):
        dataset.image(0)


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
