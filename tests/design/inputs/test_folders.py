"""isplit.design.inputs.folders: folders and zips are read in place, and what is wrong with them is named."""

import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

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


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_three_part_folders_are_kept(tmp_path, validation, class_files, write_files, indices):
    """train, val and test become fit, select and test, whatever val is called."""
    files = class_files("train/") | class_files(f"{validation}/", count=2) | class_files("test/", count=3)

    dataset = open_data(str(write_files(tmp_path, files)))

    expected = {"fit": list(range(20)), "select": list(range(20, 24)), "test": list(range(24, 30))}
    assert expected == indices(dataset)
    assert "fit = train, select = val, test = test" == dataset.part_rule


@pytest.mark.parametrize("other", ["val", "test"])
def test_two_part_folders_hold_select_out_of_train(tmp_path, other, class_files, write_files):
    """The part beside train is the test; a tenth of each class of train becomes select, by the fixed rule."""
    files = class_files("train/", count=20) | class_files(f"{other}/", count=3)

    dataset = open_data(str(write_files(tmp_path, files)), seed=5)

    expected = []
    for label in range(2):
        members = np.arange(20) + 20 * label
        expected += np.random.default_rng([5, label]).permutation(members)[:2].tolist()
    assert sorted(expected) == dataset.parts["select"].tolist()
    assert list(range(40, 46)) == dataset.parts["test"].tolist()
    assert sorted(set(range(40)) - set(expected)) == dataset.parts["fit"].tolist()
    assert f"test = {other}" in dataset.part_rule
    assert "10 % of train" in dataset.part_rule
    assert "seed 5" in dataset.part_rule


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


# --- parts under other names ---


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("Training Data", "Test Data"),
        ("trainset", "testset"),
        ("train-images", "val-images"),
        ("TrainImages", "ValidationImages"),
        ("training_set/training_set", "test_set/test_set"),
    ],
)
def test_parts_under_other_names(tmp_path, train, test, class_files, write_files):
    """Folders that are called like parts are parts, whatever words stand beside, one inside another too."""
    files = class_files(f"{train}/", count=20) | class_files(f"{test}/", count=3)

    dataset = open_data(str(write_files(tmp_path, files)))

    assert ("cat", "dog") == dataset.classes
    assert {"fit": 36, "select": 4, "test": 6} == {part: len(images) for part, images in dataset.parts.items()}


@pytest.mark.parametrize("folders", [("fold1", "fold2"), ("2019", "2020", "2021"), ("a", "b")])
def test_folders_with_the_same_subfolders_are_no_classes(tmp_path, folders, class_files, write_files):
    """Parts under names that nobody knows are refused, not taken for classes; naming one as the split helps."""
    files = {name: content for folder in folders for name, content in class_files(f"{folder}/").items()}
    files |= class_files(f"{folders[0]}/", classes=("cow",))
    write_files(tmp_path, files)

    with pytest.raises(DataError, match=rf"{folders[0]} and {folders[1]} hold the same subfolders \(cat, dog\)"):
        open_data(str(tmp_path))
    assert ("cat", "dog") == open_data(str(tmp_path), split=folders[1]).classes


def test_parts_inside_class_folders_are_refused(tmp_path, class_files, write_files):
    """CLASS/train/IMAGE would mix the parts of each class."""
    files = class_files("cat/", classes=("train", "test")) | class_files("dog/", classes=("train", "test"))

    with pytest.raises(DataError, match=r"cat and dog hold the same subfolders \(test, train\)"):
        open_data(str(write_files(tmp_path, files)))


def test_subfolders_of_classes(tmp_path, class_files, write_files):
    """One subfolder of the same name is no sign of parts; and a classes.json tells that folders are classes."""
    single = {name.replace("/", "/images/"): content for name, content in class_files().items()}
    assert ("cat", "dog") == open_data(str(write_files(tmp_path / "single", single))).classes

    several = class_files("cat/", classes=("day", "night")) | class_files("dog/", classes=("day", "night"))
    several |= {"classes.json": b'["cat", "dog"]'}
    listed = open_data(str(write_files(tmp_path / "several", several)))
    assert (("cat", "dog"), ()) == (listed.classes, listed.notices)


def test_subfolders_that_may_be_the_classes_are_told(tmp_path, class_files, write_files):
    """Where a class folder holds several folders, a notice names them: they might be the classes that were meant."""
    files = class_files("animals/", classes=("cat", "dog")) | class_files("vehicles/", classes=("bus", "car"))

    dataset = open_data(str(write_files(tmp_path, files)))

    assert ("animals", "vehicles") == dataset.classes
    assert ["animals holds cat, dog" in notice for notice in dataset.notices] == [True]


@pytest.mark.parametrize("top", ["", "pets/"])
def test_images_in_no_class_folder_are_told(tmp_path, png, top, class_files, write_files):
    """Images beside class folders, beside the folders of parts, and beside the classes of a part are left out."""
    strays = {f"{top}1.png": png(1), f"{top}2.png": png(2)}
    undivided = open_data(str(write_files(tmp_path / "undivided", class_files(top) | strays)))
    files = class_files(f"{top}train/") | class_files(f"{top}test/") | strays | {f"{top}train/3.png": png(3)}
    divided = open_data(str(write_files(tmp_path / "divided", files)))

    for dataset, images, number in ((undivided, 20, 2), (divided, 40, 3)):
        assert (("cat", "dog"), images) == (dataset.classes, len(dataset))
        expected = f"{number} images that lie in no class folder had to be left out, for example {top}1.png"
        assert [expected in notice for notice in dataset.notices] == [True]


@pytest.mark.parametrize(
    ("first", "second"), [("cat", "Cat"), ("cat", "cat "), ("tabby_cat", "tabby cat"), ("1", "01")]
)
def test_classes_with_similar_names_are_told(tmp_path, first, second, class_files, write_files):
    """Classes that a slip of the hand has divided are two classes, and a notice names them."""
    dataset = open_data(str(write_files(tmp_path, class_files(classes=(first, second, "dog")))))

    assert 3 == len(dataset.classes)
    assert ["differ only in how they are written" in notice for notice in dataset.notices] == [True]


def test_parts_without_class_folders_are_refused(tmp_path, class_files, write_files):
    """Images in train and test without class folders have no labels: train and test are not their classes."""
    with pytest.raises(DataError, match="test, train are called like parts and hold images, not class folders"):
        open_data(str(write_files(tmp_path, class_files(classes=("train", "test")))))


def test_two_folders_for_one_part_are_refused(tmp_path, class_files, write_files):
    """Two folders for one part must not replace each other."""
    files = class_files("train/") | class_files("training_set/") | class_files("test/")

    with pytest.raises(DataError, match="two folders for the part train, train and training_set"):
        open_data(str(write_files(tmp_path, files)))


# --- names ---

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_unicode_forms_of_a_name_are_one(tmp_path, class_files, write_files):
    """A class is the same in both Unicode forms: in parts, in classes.json, and in what is recorded."""
    files = class_files("train/", classes=(DECOMPOSED, "tea")) | class_files("val/", classes=(COMPOSED, "tea"), count=2)
    about = {"names": {COMPOSED: "Coffee"}, "groups": {"drinks": [DECOMPOSED, "tea"]}}
    files["classes.json"] = json.dumps(about).encode()

    dataset = open_data(str(write_files(tmp_path, files)))

    assert (COMPOSED, "tea") == dataset.classes
    assert ("Coffee", "tea") == dataset.titles
    assert {"drinks": (COMPOSED, "tea")} == dataset.groups
    assert 4 == len(dataset.parts["test"])


def test_two_folders_of_one_name_are_refused(tmp_path, class_files, write_files):
    """Both forms beside each other would be two classes of one name."""
    with pytest.raises(DataError, match="two class folders are called"):
        open_data(str(write_files(tmp_path, class_files(classes=(DECOMPOSED, COMPOSED, "tea")))))


def test_names_that_are_not_utf8(tmp_path, png):
    """Folders and files of other encodings are read; their names are recorded with escapes."""
    for folder in (b"ni\xf1o", b"plain"):
        directory = tmp_path / os.fsdecode(folder)
        directory.mkdir()
        for k in range(4):
            (directory / os.fsdecode(b"\xe4%d.png" % k)).write_bytes(png(k))

    dataset = open_data(str(tmp_path))

    assert ("ni\\xf1o", "plain") == dataset.classes
    assert (8, 7) == dataset.image(0).size[::-1]
    record = dataset.source((0, 1)).model_dump_json()
    assert "ni\\\\xf1o" in record
    (tmp_path / os.fsdecode(b"plain/\xe40.png")).write_bytes(b"junk")
    with pytest.raises(DataError, match=r"plain/\\xe40\.png is not an image"):
        open_data(str(tmp_path)).image(4)


def test_gif_files_count(tmp_path, class_files, write_files):
    """GIF files are images of a study, as they are of a device."""
    file = io.BytesIO()
    Image.new("P", (8, 8)).save(file, "GIF")

    dataset = open_data(str(write_files(tmp_path, class_files() | {"cat/a.gif": file.getvalue()})))

    assert 11 == int((dataset.labels == 0).sum())


def test_images_that_are_not_read_are_told(tmp_path, class_files, write_files):
    """Files of kinds that Pillow does not read here are left out with a notice."""
    files = class_files() | {"cat/a.heic": b"", "cat/b.HEIC": b"", "dog/c.avif": b"", "other.heic": b""}

    (notice,) = open_data(str(write_files(tmp_path, files))).notices

    assert "left out (1 .avif, 3 .heic)" in notice


@pytest.mark.parametrize("folders", [("images", "masks"), ("Image", "label"), ("imgs", "ground_truth", "annotations")])
def test_images_and_masks_are_no_classes(tmp_path, folders, class_files, write_files):
    """Folders of images and of their masks are refused, in parts too, unless a classes.json lists them."""
    write_files(tmp_path / "whole", class_files(classes=folders))
    write_files(tmp_path / "parts", class_files("train/", classes=folders) | class_files("test/", classes=folders))

    for name in ("whole", "parts"):
        with pytest.raises(DataError, match="called like images and their masks or labels, not like classes"):
            open_data(str(tmp_path / name))
    (tmp_path / "whole" / "classes.json").write_text(json.dumps({name: name.upper() for name in folders}))
    assert len(folders) == len(open_data(str(tmp_path / "whole")).classes)


def test_folders_of_systems_are_no_classes(tmp_path, png, class_files, write_files):
    """Thumbnails, bins and the like are left out, beside the class folders and inside them."""
    files = class_files() | {
        "@eaDir/a.png": png(),
        "cat/@eaDir/1.png/thumbnail.png": png(),
        "lost+found/a.png": png(),
        "$RECYCLE.BIN/a.png": png(),
        "__MACOSX/cat/._1.png": b"",
        "cat/Thumbs.db": b"",
    }
    clean = open_data(str(write_files(tmp_path / "clean", class_files())))
    dataset = open_data(str(write_files(tmp_path / "full", files)))

    assert ("cat", "dog") == dataset.classes
    assert clean.labels.tolist() == dataset.labels.tolist()
    assert () == dataset.notices


def test_one_folder_beside_a_table(tmp_path, class_files, write_files):
    """The only folder is no class where a table of labels lies beside it; the message says how to use the table."""
    write_files(tmp_path, class_files(classes=("images",)) | {"metadata.csv": b"path,label\n"})

    with pytest.raises(DataError, match=r"only one class, 'images'.* If metadata.csv holds the labels, give its path"):
        open_data(str(tmp_path))


def test_a_table_with_an_odd_name_can_be_shown(tmp_path, class_files, write_files):
    """Bytes of its name that are not UTF-8 are escapes in the message, which can then be printed."""
    write_files(tmp_path, class_files(classes=("images",)))
    (tmp_path / os.fsdecode(b"caf\xe9.csv")).touch()

    with pytest.raises(DataError) as error:
        open_data(str(tmp_path))
    assert rb"If caf\xe9.csv holds the labels" in str(error.value).encode()
