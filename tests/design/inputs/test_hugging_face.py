"""isplit.design.inputs.hugging_face: sets of the `datasets` library open without a network, by their columns."""

import io

import numpy as np
import pytest
from PIL import Image

from isplit.design.inputs.data import open_data
from isplit.errors import DataError

datasets = pytest.importorskip("datasets")


@pytest.fixture
def make(pixels):
    """Return a function that makes a set of grey images, image i with the pixels of i, and two classes."""

    def make(count=20, *, names=("cat", "dog"), labels=None, **columns):
        images = [Image.fromarray(pixels(i, (8, 7))) for i in range(count)]
        labels = [i % 2 for i in range(count)] if labels is None else labels
        features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
        features |= {name: datasets.ClassLabel(names=list(names)) for name in columns}
        values = {"image": images, "label": labels} | columns
        return datasets.Dataset.from_dict(values, features=datasets.Features(features))

    return make


def test_set_in_memory(make, pixels):
    """Labels, class names and pixels are the set's."""
    dataset = open_data(make())

    assert ("cat", "dog") == dataset.classes
    assert [0, 1] * 10 == dataset.labels.tolist()
    np.testing.assert_array_equal(pixels(5, (8, 7)), np.asarray(dataset.image(5)))
    assert "python:Dataset: all, row 5" == dataset.name_of(5)


def test_saved_set(make, tmp_path):
    """A folder of save_to_disk opens by path; splits are parts, and one without labels is left out with a notice."""
    parts = {"train": make(), "validation": make(4), "test": make(4, labels=[-1] * 4)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))

    dataset = open_data(f"hfdata:{tmp_path / 'saved'}")

    assert 4 == len(dataset.parts["test"])
    assert "the part test has no labels" in dataset.notices[0]
    assert open_data(f"hfdata:{tmp_path / 'saved'}").sha256 == dataset.sha256
    assert 20 == len(open_data(f"hfdata:{tmp_path / 'saved'}", split="train"))


def test_images_are_decoded_as_files_are(tmp_path):
    """What the set holds are files, which are turned and refused as files are."""
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = []
    for _ in range(6):
        file = io.BytesIO()
        Image.new("RGB", (5, 3)).save(file, "PNG", exif=exif)
        contents.append({"bytes": file.getvalue(), "path": None})
    contents[1] = {"bytes": b"junk", "path": None}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    values = {"image": contents, "label": [0, 1, 0, 1, 0, 1]}

    dataset = open_data(datasets.Dataset.from_dict(values, features=features))

    assert (3, 5) == dataset.image(0).size
    with pytest.raises(DataError, match="row 1 is not an image"):
        dataset.image(1)


def test_several_columns_of_labels(make, tmp_path):
    """Which labels count is not guessed; an option names the column."""
    make(fine=[0] * 10 + [1] * 10).save_to_disk(str(tmp_path / "saved"))

    with pytest.raises(DataError, match=r"several columns of labels \(label, fine\).*',label=COLUMN'"):
        open_data(f"hfdata:{tmp_path / 'saved'}")
    assert [0] * 10 + [1] * 10 == open_data(f"hfdata:{tmp_path / 'saved'},label=fine").labels.tolist()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hfdata:", "is not understood: give hfdata:DIR_OR_NAME"),
        ("hfdata:mnist,colour=red", "is not understood"),
        ("hfdata:no-such-owner/no-such-set", "cannot be read: .*; add ',download=yes' to fetch it"),
    ],
)
def test_sets_that_are_not_there(spec, message):
    """Nothing is fetched unless it is asked for."""
    with pytest.raises(DataError, match=message):
        open_data(spec)


def test_streams_are_refused(make):
    """A stream cannot be read twice."""
    with pytest.raises(DataError, match="is a stream"):
        open_data(make().to_iterable_dataset())


def test_parts_with_different_classes(make):
    """A label must stand for one class in all parts."""
    with pytest.raises(DataError, match="the parts have different classes"):
        open_data(datasets.DatasetDict({"train": make(), "test": make(names=("dog", "cat"))}))
