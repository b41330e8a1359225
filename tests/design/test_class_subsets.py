"""Class subsets in the user's words, and what they do to logits and labels."""

import json
from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from isplit.design.class_subsets import ClassSubset, parse_groups
from isplit.design.inputs.data import Dataset
from isplit.errors import DataError, StudyError
from isplit.records import ClassGroup


@pytest.fixture
def dataset() -> Dataset:
    names = ("n1", "n2", "n3", "n4")
    return Dataset(
        spec="made up",
        split=None,
        classes=names,
        titles=("cat", "dog", "car", "bus"),
        groups={"pets": ("n1", "n2")},
        labels=np.arange(8) % 4,
        parts={"fit": np.arange(8)},
        part_rule="",
        sha256="",
        read=lambda index: Image.new("L", (1, 1)),
    )


def test_no_subset_is_all_classes(dataset: Dataset) -> None:
    """One group of every class, by its title."""
    (group,) = parse_groups((), dataset)

    assert ("cat", "dog", "car", "bus") == group.classes
    assert (("n1",), ("n2",), ("n3",), ("n4",)) == group.members


def test_one_subset_is_the_study_s_own(dataset: Dataset) -> None:
    """By title or by name, and in the order given."""
    (group,) = parse_groups(["bus, n1"], dataset)

    assert ("bus", "cat") == group.classes
    assert (("n4",), ("n1",)) == group.members


def test_names_with_separators(dataset: Dataset) -> None:
    """Names that hold commas, plus or equals signs stand in double quotes; the message says so."""
    titles = ("tabby, tabby cat", "dog", "a+b=c", 'the "bus"')
    odd = replace(dataset, titles=titles)

    (group,) = parse_groups(['"tabby, tabby cat",dog,"a+b=c","the ""bus"""'], odd)
    assert titles == group.classes
    (merged,) = parse_groups(['"x, y"="tabby, tabby cat"+dog,"a+b=c"'], odd)
    assert ("x, y", "a+b=c") == merged.classes
    assert (("n1", "n2"), ("n3",)) == merged.members
    with pytest.raises(DataError, match="go into double quotes"):
        parse_groups(["tabby, tabby cat,dog"], odd)


def test_several_subsets_stand_beside_all(dataset: Dataset, tmp_path: Path) -> None:
    """Named groups come from the data's own file or from a JSON file."""
    path = tmp_path / "groups.json"
    path.write_text(json.dumps({"wheels": ["car", "bus"]}))

    assert ["all classes", "pets", "wheels"] == [group.name for group in parse_groups(["pets", str(path)], dataset)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("cat,dgo", "did you mean dog"),
        ("cat", "one class only"),
        ("cat,dog,cat", "n1 twice"),
        ("a=cat+dog,b=dog+car", "n2 twice"),
        ("missing.json", "cannot read"),
    ],
)
def test_bad_subsets(dataset: Dataset, words: str, message: str) -> None:
    """Each is named, with what to do."""
    with pytest.raises(DataError, match=message):
        parse_groups([words], dataset)


def test_logits_of_a_subset_by_hand() -> None:
    """Only the group's outputs compete, in the group's order, wherever the class map puts them."""
    group = ClassGroup(name="g", classes=("bus", "cat"), members=(("n4",), ("n1",)))
    subset = ClassSubset(group, ("n1", "n2", "n3", "n4"), (7, 5, 3, 1))
    logits = torch.arange(20.0).reshape(2, 10)

    assert [[1.0, 7.0], [11.0, 17.0]] == subset(logits).tolist()
    assert [1, -1, -1, 0] == subset.label_map.tolist()
    assert 1.0 + 17.0 == subset.decision(logits, torch.tensor([0, 1]), "correct").item()
    assert 7.0 + 17.0 == subset.decision(logits, torch.tensor([0, 1]), "predicted").item()


def test_merged_classes_join_by_logsumexp() -> None:
    """Two classes that count as one: log(e^0 + e^log 3) = log 4."""
    group = ClassGroup(name="g", classes=("well", "ill"), members=(("n1",), ("n2", "n3")))
    subset = ClassSubset(group, ("n1", "n2", "n3"), (0, 1, 2))

    assert [[5.0, pytest.approx(log(4))]] == subset(torch.tensor([[5.0, 0.0, log(3)]])).tolist()
    assert [0, 1, 1] == subset.label_map.tolist()


@pytest.mark.parametrize("members", [(("cat",), ("wolf",)), (("cat",), ())])
def test_a_record_with_classes_that_are_not_there(members):
    """A study whose record names classes that the data does not have is refused, and not a fault of isplit."""
    group = ClassGroup(name="pets", classes=("cat", "other"), members=members)
    with pytest.raises(StudyError, match="the group 'pets' has the class"):
        _ = ClassSubset(group, ("cat", "dog"), (0, 1)).outputs
