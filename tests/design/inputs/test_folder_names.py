"""Names of folders and files in any alphabet and form, and which files count as images."""

import io
import json
import os

import pytest
from PIL import Image

from isplit.design.inputs.data import open_data
from isplit.errors import DataError

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


def test_a_table_with_an_odd_name_can_be_shown(tmp_path, class_files, write_files):
    """Bytes of its name that are not UTF-8 are escapes in the message, which can then be printed."""
    write_files(tmp_path, class_files(classes=("images",)))
    (tmp_path / os.fsdecode(b"caf\xe9.csv")).touch()

    with pytest.raises(DataError) as error:
        open_data(str(tmp_path))
    assert rb"If caf\xe9.csv holds the labels" in str(error.value).encode()
