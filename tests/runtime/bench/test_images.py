"""isplit.runtime.bench.images: labelled images in an order that is fair to all classes."""

import os

import pytest

from isplit.errors import DataError, InputError
from isplit.runtime.bench.images import read_labelled_images
from tests.runtime.conftest import CLASSES


def test_labelled_images(tmp_path):
    """Classes take turns; a folder without labels or with a strange one is refused."""
    for name, count in (("ant", 3), ("bee", 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number}.png").touch()
    images = read_labelled_images(tmp_path, CLASSES, limit=3)
    assert ["ant", "bee", "ant"] == [images.classes[path] for path in images.paths]
    (tmp_path / "yak").mkdir()
    with pytest.raises(DataError, match="'yak', which is no class"):
        read_labelled_images(tmp_path, CLASSES)
    with pytest.raises(DataError, match="no subfolder"):
        read_labelled_images(tmp_path / "ant", CLASSES)
    with pytest.raises(InputError, match="cannot read"):
        read_labelled_images(tmp_path / "none", CLASSES)


def test_names_as_the_study_writes_them(tmp_path):
    """A folder is a class of the bundle in any Unicode form or encoding, and hidden files are no images."""
    names = ("cafe\u0301", os.fsdecode(b"ni\xf1o"))
    for name in (*names, ".cache"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
        (tmp_path / name / "._a.png").touch()

    images = read_labelled_images(tmp_path, ("caf\u00e9", "ni\\xf1o"))

    assert {"caf\u00e9", "ni\\xf1o"} == set(images.classes.values())
    assert {str(tmp_path / name / "a.png") for name in names} == set(images.paths)
