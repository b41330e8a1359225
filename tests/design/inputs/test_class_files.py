"""isplit.design.inputs.class_files: classes.json in each of its forms, and what does not fit is refused."""

import json

import pytest

from isplit.design.inputs.class_files import parse_class_file
from isplit.errors import DataError

NUMBERS = tuple(sorted(str(k) for k in range(12)))


def parse(value, classes=("cat", "dog", "eel")):
    return parse_class_file(json.dumps(value).encode(), classes, name="classes.json")


def test_names_and_groups():
    """The full form gives titles and groups, and keeps the order."""
    about = parse({"names": {"dog": "Hound", "x": "unused"}, "groups": {"pets": ["dog", "cat"]}})

    assert ("cat", "dog", "eel") == about.order
    assert "Hound" == about.titles["dog"]
    assert {"pets": ("dog", "cat")} == about.groups


def test_list_of_folders_is_the_order():
    """A list of all folders says which class is 0."""
    assert ("eel", "cat", "dog") == parse(["eel", "cat", "dog"]).order


def test_numbers_of_folders_are_the_order():
    """So do numbers by folder, as torchvision's class_to_idx has them."""
    assert ("eel", "cat", "dog") == parse({"cat": 1, "dog": 2, "eel": 0}).order


def test_titles_by_folder():
    """The titles may stand without "names" around them."""
    about = parse({"cat": "Cat", "eel": "Eel"})

    assert {"cat": "Cat", "eel": "Eel"} == about.titles
    assert ("cat", "dog", "eel") == about.order


def test_list_of_titles_for_numbered_folders():
    """The k-th title is that of folder k, not of the k-th folder by name."""
    about = parse([f"title {k}" for k in range(12)], NUMBERS)

    assert {str(k): f"title {k}" for k in range(12)} == about.titles
    assert NUMBERS == about.order
    assert () == about.notices


def test_list_of_titles_for_other_folders():
    """For other folders their order is taken, and it is said."""
    about = parse(["Cat", "Dog", "Eel"])

    assert {"cat": "Cat", "dog": "Dog", "eel": "Eel"} == about.titles
    assert "'cat' being 'Cat' and 'eel' 'Eel'" in about.notices[0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "is not of the form"),
        ([1, 2, 3], "is not of the form"),
        ("cat", "is not of the form"),
        ({}, "none of its keys is a class folder"),
        ({"cow": "Cow"}, "none of its keys is a class folder"),
        ({"cat": 0, "dog": "Dog"}, "values are of several kinds"),
        (["cat", "dog"], "has 2 entries, and there are 3 class folders"),
        (["cat", "dog", "dog"], "names 'dog' twice"),
        (["cat", "dog", "ray"], "lists cat, dog, which are class folders, and other names"),
        ({"cat": 0, "dog": 1}, "must give each of the 3 class folders its own number"),
        ({"cat": 1, "dog": 2, "eel": 3}, "its own number, from 0 on"),
        ({"cat": 0, "dog": 0, "eel": 1}, "its own number"),
        ({"names": ["cat"]}, "is not of the form"),
        ({"groups": {"pets": "cat"}}, "group 'pets' is a str"),
        ({"groups": {"pets": ["cow"]}}, "unknown class 'cow'"),
        ({"groups": {"pets": []}}, "is empty"),
    ],
)
def test_other_forms_are_refused(value, message):
    """What is not understood, or does not fit the folders, is refused with the file's name."""
    with pytest.raises(DataError, match=f"^classes.json.*{message}"):
        parse(value)
