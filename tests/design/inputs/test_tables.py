"""isplit.design.inputs.tables: images and labels come from tables, by column, and what is doubtful is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from isplit.design.inputs.data import open_data
from isplit.design.inputs.tables import parse_csv
from isplit.errors import DataError


@pytest.fixture
def write_table(tmp_path, png, write_files):
    """Return a function that writes a labels.csv beside twelve images i.png, of which image i holds the pixels of i."""

    def write(text, *, name="labels.csv", encoding="utf-8"):
        write_files(tmp_path, {f"images/{i}.png": png(i) for i in range(12)})
        (tmp_path / name).write_bytes(text.encode(encoding))
        return str(tmp_path / name)

    return write


def rows(label_of):
    return "".join(f"images/{i}.png,{label_of(i)}\n" for i in range(12))


def test_table_of_names(write_table, pixels):
    """Labels that are names give classes in the order of the names; paths are relative to the table."""
    dataset = open_data(write_table("path,label\n" + rows(lambda i: ("dog", "cat")[i % 2])))

    assert ("cat", "dog") == dataset.classes
    assert [1, 0] * 6 == dataset.labels.tolist()
    np.testing.assert_array_equal(pixels(5), np.asarray(dataset.image(5)))


def test_table_of_numbers(write_table):
    """Labels that are numbers give classes in the order of the numbers, not of their text."""
    dataset = open_data(write_table("file,label\n" + rows(lambda i: 11 - i)))

    assert tuple(map(str, range(12))) == dataset.classes
    assert list(range(11, -1, -1)) == dataset.labels.tolist()


def test_names_beside_numbers_are_titles(write_table):
    """Where a number and a name stand in each row, one for one, the name is the number's title."""
    text = "path,label,class_name\n" + rows(lambda i: f"{i % 2},{('dog', 'cat')[i % 2]}")

    dataset = open_data(write_table(text))

    assert ("0", "1") == dataset.classes
    assert ("dog", "cat") == dataset.titles


def test_folder_with_a_table(write_table, tmp_path, write_zip, png):
    """A labels.csv in a folder or zip says the labels, whatever its folders are called, and a notice tells."""
    write_table("path,label\n" + rows(lambda i: "ab"[i % 2]))
    files = {f"images/{i}.png": png(i) for i in range(12)}
    files["labels.csv"] = ("path,label\n" + rows(lambda i: "ab"[i % 2])).encode()
    zipped = write_zip(tmp_path / "a.zip", files)

    for dataset in (open_data(str(tmp_path)), open_data(str(zipped))):
        assert ("a", "b") == dataset.classes
        assert "labels were taken from its labels.csv" in dataset.notices[0]
        assert dataset.image(0).size == (7, 8)


@pytest.mark.parametrize(
    ("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8"), ("\t", "utf-8"), (",", "utf-8-sig")]
)
def test_kinds_of_csv(write_table, delimiter, encoding):
    """Commas, semicolons and tabs separate; a byte order mark is no part of the header; names may hold commas."""
    text = "path,label\n" + rows(lambda i: ("dog", "cat")[i % 2])
    text = text.replace(",", delimiter).replace("cat", '"cat, tabby"')

    assert ("cat, tabby", "dog") == open_data(write_table(text, encoding=encoding)).classes


def test_parts_of_a_table(write_table):
    """A column of parts divides the data, under the names that parts have."""
    parts = ["training"] * 8 + ["validation"] * 2 + ["test"] * 2
    text = "path,label,split\n" + rows(lambda i: f"{i % 2},{parts[i]}")

    dataset = open_data(write_table(text))

    assert {"fit": 8, "select": 2, "test": 2} == {part: len(images) for part, images in dataset.parts.items()}
    assert 8 == len(open_data(write_table(text), split="training"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ("path,label\n", "holds no rows"),
        ("path,label\nimages/0.png\n", "row 2 has 1 values, and the header 2"),
        ("a,b\nimages/0.png,cat\n", "no column of paths of the images; it has a, b: call one 'path'"),
        ("path,kind\nimages/0.png,cat\n", "no column of labels"),
        ("path,file,label\nimages/0.png,x,cat\n", r"several columns for the paths of the images \(path, file\)"),
        ("path,label\nimages/0.png,\n", "image 1 has no label"),
        ("path,label\nimages/0.png,cat\ngone.png,dog\n", "1 of the 2 images are not there, the first 'gone.png'"),
        ("path,label\nimages/0.png,cat\nimages/0.png,dog\n", "images/0.png has two labels, 'cat' and 'dog'"),
        ("path,label,class\nimages/0.png,0,cat\nimages/1.png,1,cat\n", "two columns of labels that disagree"),
        (
            "path,label,split\nimages/0.png,cat,one\nimages/1.png,dog,two\n",
            "has the parts one, two in 'split': call them train, val and test",
        ),
    ],
)
def test_bad_tables(write_table, text, message):
    """What is missing, ambiguous or contradictory is refused with the table's name."""
    with pytest.raises(DataError, match=message):
        open_data(write_table(text))


def test_pandas_frame(tmp_path, write_table, pixels):
    """A frame of paths and labels is a table; whole numbers that pandas holds as floats are whole numbers."""
    write_table("")
    paths = [tmp_path / f"images/{i}.png" for i in range(12)]

    dataset = open_data(pd.DataFrame({"path": paths, "label": [float(i % 2) for i in range(12)]}))

    assert ("0", "1") == dataset.classes
    assert "python:DataFrame" == dataset.spec
    np.testing.assert_array_equal(pixels(5), np.asarray(dataset.image(5)))
    with pytest.raises(DataError, match="image 1 has no label"):
        open_data(pd.DataFrame({"path": paths, "label": [np.nan] + ["a"] * 11}))


def test_bytes_that_are_not_utf8():
    """Paths in another encoding lead to the files of that name, and are recorded with escapes."""
    columns = parse_csv(b"path,label\nni\xf1o.png,cat\n", name="x")

    assert ["ni\udcf1o.png"] == columns["path"]
    assert json.dumps(columns["label"]) == '["cat"]'


@pytest.mark.parametrize(
    ("label_of", "classes"),
    [
        (lambda i: f"{11 - i}.0", tuple(map(str, range(12)))),
        (lambda i: ("1", "1.0", "2")[i % 3], ("1", "2")),
        (lambda i: ("0.5", "10.0", "2.0")[i % 3], ("0.5", "10.0", "2.0")),
        (lambda i: (-1, 0, 1)[i % 3], ("-1", "0", "1")),
    ],
)
def test_numbers_with_a_decimal_point(write_table, label_of, classes):
    """Whole numbers that a program has written as "10.0" are in the order of numbers; other decimals are names."""
    assert classes == open_data(write_table("path,label\n" + rows(label_of))).classes


def test_a_number_below_zero_is_told(write_table):
    """-1 often means that an image has no label; where it is taken for a class, a notice says so."""
    dataset = open_data(write_table("path,label\n" + rows(lambda i: (-1, 0, 1)[i % 3])))

    assert ["the label -1 is taken for a class" in notice for notice in dataset.notices] == [True]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_tables_of_other_programs(write_table, separator, encoding):
    """Other separators, marks of the encoding, and backslashes between folders."""
    text = ("path,label\n" + rows(lambda i: "ab"[i % 2])).replace("/", "\\").replace(",", separator)

    dataset = open_data(write_table(text.replace("\n", "\r\n"), encoding=encoding))

    assert [0, 1] * 6 == dataset.labels.tolist()
    assert dataset.name_of(3).endswith("images/3.png")


def test_rows_that_repeat_an_image(write_table):
    """An image with two rows counts once; with two labels, or in two parts, it is refused, however it is spelled."""
    table = "path,label\n" + rows(lambda i: "ab"[i % 2])

    dataset = open_data(write_table(table + "./images/0.png,a\nimages/../images/1.png,b\n"))
    assert 12 == len(dataset)
    assert ["2 rows name an image that an earlier row has named" in notice for notice in dataset.notices] == [True]
    with pytest.raises(DataError, match=r"images/0\.png has two labels, 'a' and 'b'"):
        open_data(write_table(table + "./images/0.png,b\n"))
    divided = "path,label,split\n" + rows(lambda i: f"{'ab'[i % 2]},{('train', 'test')[i % 3 == 0]}")
    with pytest.raises(DataError, match=r"images/0\.png belongs to two parts, test and train"):
        open_data(write_table(divided + "images/0.png,a,train\n"))


def test_order_of_categories(write_table, tmp_path, monkeypatch):
    """A frame whose labels are pandas' categories has the classes in the order of the categories."""
    write_table("")
    monkeypatch.chdir(tmp_path)
    labels = pd.Categorical([("cat", "dog")[i % 2] for i in range(12)], categories=["dog", "bird", "cat"])

    dataset = open_data(pd.DataFrame({"path": [f"images/{i}.png" for i in range(12)], "label": labels}))

    assert ("dog", "bird", "cat") == dataset.classes
    assert [2, 0] * 6 == dataset.labels.tolist()
    assert any("no image at all: 'bird'" in notice for notice in dataset.notices)


@pytest.mark.parametrize("label", [True, 0.5])
def test_labels_of_a_frame_that_name_no_class(write_table, tmp_path, monkeypatch, label):
    """Truth values and fractions are no classes."""
    write_table("")
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"path": [f"images/{i}.png" for i in range(12)], "label": [label] * 12})

    with pytest.raises(DataError, match=f"image 1 has the label {label} in 'label': give a whole number or a name"):
        open_data(frame)


def test_images_outside_the_folder_are_told(write_table, tmp_path):
    """Paths that lead out of the table's folder are read, and a notice says so; others leave no notice."""
    names = [str(tmp_path / f"images/{i}.png") for i in range(12)]
    inside = open_data(write_table("path,label\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(names))))
    (tmp_path / "tables").mkdir()
    outside = tmp_path / "tables" / "labels.csv"
    outside.write_text("path,label\n" + "".join(f"../images/{i}.png,{i % 2}\n" for i in range(12)))

    assert not [notice for notice in inside.notices if "outside" in notice]
    (notice,) = [notice for notice in open_data(str(outside)).notices if "outside" in notice]
    assert notice.endswith("12 images lie outside the table's folder, for example ../images/0.png")


def test_a_folder_behind_a_link_is_its_own(write_table, tmp_path):
    """Absolute paths may name the table's folder through a link, or as it is called in the end."""
    link = tmp_path.with_name(f"{tmp_path.name}-link")
    link.symlink_to(tmp_path)
    folders = [link if i % 3 else tmp_path for i in range(12)]
    rows = "".join(f"{folder}/images/{i}.png,{i % 2}\n" for i, folder in enumerate(folders))
    write_table("path,label\n" + rows)

    assert not [notice for notice in open_data(str(link / "labels.csv")).notices if "outside" in notice]
