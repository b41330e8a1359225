"""Folders of parts and of classes: which folder is what, under whatever names, and what cannot be told."""

import json

import numpy as np
import pytest

from isplit.design.inputs.data import open_data
from isplit.errors import DataError


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


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


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
