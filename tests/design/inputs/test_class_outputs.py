"""isplit.design.inputs.class_outputs: classes find their outputs by rule, and what is doubtful is said."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from isplit.design.inputs.class_outputs import match_classes, match_data
from isplit.design.inputs.data import open_data
from isplit.design.inputs.models import LoadedModel
from isplit.errors import ModelError
from isplit.records import ModelSource, Preprocessing

PREPROCESSING = Preprocessing(
    image_size=(32, 32), resize_size=32, interpolation="bilinear", channels=3, mean=(0, 0, 0), std=(1, 1, 1)
)


def loaded_model(num_outputs, *, class_names=None):
    source = ModelSource(
        spec="x", weights=None, weights_sha256=None, fingerprint="", num_outputs=num_outputs, parameters=0
    )
    return LoadedModel(module=nn.Identity(), source=source, preprocessing=PREPROCESSING, class_names=class_names)


def write_map(tmp_path, content):
    path = tmp_path / "map.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_as_many_classes_as_outputs():
    """Classes match outputs by position when there are as many and nothing else is known."""
    match = match_classes(("x", "y", "z"), loaded=loaded_model(3))

    assert (0, 1, 2) == match.outputs
    assert "by position" == match.rule
    assert () == match.notices


def test_classes_by_name():
    """The names of the outputs win over position: by class name, title, or the title's first synonym."""
    loaded = loaded_model(4, class_names=("Dog", "tabby", "zebra", "ox"))

    titles = ("tabby, tabby cat", "Hound", "ox")
    assert (1, 0, 3) == match_classes(("n1", "dog", "n3"), loaded=loaded, titles=titles).outputs
    assert (3, 2, 1, 0) == match_classes(("ox", "zebra", "tabby", "dog"), loaded=loaded).outputs


def test_names_that_are_not_unique_match_nothing():
    """Two outputs of one name cannot be told apart, nor two classes that would share an output."""
    loaded = loaded_model(4, class_names=("crane", "crane", "cat", "dog"))

    for classes, titles in ((("crane", "cat"), None), (("cat", "tom"), ("cat", "cat"))):
        with pytest.raises(ModelError, match="the data has 2 classes, the model 4 outputs"):
            match_classes(classes, loaded=loaded, titles=titles)


def test_imagenet_ids():
    """Classes that are ImageNet ids find their outputs among 1000."""
    assert (151, 187) == match_classes(("n02085620", "n02094433"), loaded=loaded_model(1000)).outputs


def test_unknown_imagenet_ids():
    """An id that is not among the thousand does not match."""
    with pytest.raises(ModelError, match="pass `num_classes=2`"):
        match_classes(("n02085620", "n99999999"), loaded=loaded_model(1000))


def test_class_map(tmp_path):
    """A class map decides whatever else is known, and may hold more than the classes."""
    path = write_map(tmp_path, {"cat": 5, "dog": 0, "cow": 77})

    assert (5, 0) == match_classes(("cat", "dog"), loaded=loaded_model(6), class_map=path).outputs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ([1, 2], "is a JSON list"),
        ('{"cat": 1, "dog": 0, "cat": 2}', "'cat' stands in it twice"),
        (["cat", "cat"], "twice"),
        ({"cat": 1}, "'dog' has no output"),
        ({"cat": 1, "dog": 6}, "'dog' has the output 6: give each class its own of 0 to 5"),
        ({"cat": -1, "dog": 1}, "'cat' has the output -1"),
        ({"cat": 1, "dog": 1}, "'dog' has the output 1"),
        ({"cat": True, "dog": 0}, "'cat' has the output True"),
        ({"cat": "1", "dog": 0}, "'cat' has the output '1'"),
    ],
)
def test_bad_class_map(tmp_path, content, message):
    """A class map that is damaged, incomplete, ambiguous or out of range is refused."""
    with pytest.raises(ModelError, match=message):
        match_classes(("cat", "dog"), loaded=loaded_model(6), class_map=write_map(tmp_path, content))


def test_missing_class_map(tmp_path):
    """A class map that is not there is an error that names it."""
    with pytest.raises(ModelError, match=r"gone\.json cannot be read"):
        match_classes(("cat",), loaded=loaded_model(6), class_map=tmp_path / "gone.json")


def test_imagenet_ids_without_timm(no_timm):
    """Without timm the message says what to install."""
    with pytest.raises(ModelError, match=r"ImageNet ids: .*isplit\[timm\]"):
        match_classes(("n02085620", "n02094433"), loaded=loaded_model(1000))


# --- names ---


def test_names_in_another_form_match():
    """Case, underscores, spaces and the Unicode form of a name do not matter."""
    loaded = loaded_model(3, class_names=("golden retriever", "Caf\u00e9", "tea"))

    assert (1, 0) == match_classes(("cafe\u0301", "golden_retriever"), loaded=loaded).outputs


def test_names_that_partly_match_in_another_order_are_refused():
    """One name that differs must not turn names that are known into positions."""
    loaded = loaded_model(3, class_names=("cat", "dog", "car"))

    with pytest.raises(ModelError, match=r"class 1 is 'cat', which is the model's output 0.*class_map=FILE"):
        match_classes(("automobile", "cat", "dog"), loaded=loaded)


def test_position_against_other_names_is_said():
    """Where names are known and say nothing, position is taken with a notice that shows both."""
    loaded = loaded_model(2, class_names=("cat", "dog"))

    match = match_classes(("Katze", "Hund"), loaded=loaded)

    assert (0, 1) == match.outputs
    assert "output 0 is called 'cat', and class 0 'Katze'" in match.notices[0]


def test_too_few_classes_with_one_unknown_name():
    """The class that is none of the outputs is named."""
    loaded = loaded_model(4, class_names=("cat", "dog", "car", "bus"))

    with pytest.raises(ModelError, match="automobile is none of the model's outputs"):
        match_classes(("automobile", "cat", "dog"), loaded=loaded)


# --- numbers ---


def numbered(count):
    return tuple(sorted(str(k) for k in range(count)))


def test_numbers_that_sort_differently_as_text():
    """Both orders are given, and shown: by number first, by name as the other."""
    match = match_classes(numbered(12), loaded=loaded_model(12))

    assert (0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9) == match.outputs
    assert tuple(range(12)) == match.other_outputs
    assert "by number (0, 1, 2, 3, 4, ...) than by name (0, 1, 10, 11, 2, ...)" in match.notices[0]


def test_numbers_within_names():
    """The same holds for numbers that stand within names."""
    names = tuple(sorted(f"class {k}" for k in range(1, 12)))

    match = match_classes(names, loaded=loaded_model(11))

    assert (0, 9, 10, 1, 2, 3, 4, 5, 6, 7, 8) == match.outputs
    assert tuple(range(11)) == match.other_outputs


@pytest.mark.parametrize("names", [("0", "1", "2"), ("00", "01", "10"), ("cat", "dog", "eel"), ("zebra", "ape", "ox")])
def test_orders_that_are_not_in_doubt(names):
    """Padded numbers, names, and names in an order of their own have one order."""
    match = match_classes(names, loaded=loaded_model(3))

    assert (0, 1, 2) == match.outputs
    assert match.other_outputs is None


def test_numbers_that_are_not_the_outputs():
    """Classes 1 to 3 of a model with outputs 0 to 2 are matched, and it is said."""
    match = match_classes(("1", "2", "3"), loaded=loaded_model(3))

    assert (0, 1, 2) == match.outputs
    assert "1, 2, 3 were matched to the model's outputs 0 to 2 by position" in match.notices[0]


class Brightness(nn.Module):
    """Output k is the highest for an image whose pixels are `20 * meanings[k]`."""

    def __init__(self, meanings):
        super().__init__()
        self.register_buffer("meanings", torch.tensor(meanings, dtype=torch.float32))

    def forward(self, x):
        brightness = x.mean((1, 2, 3)) * 255 / 20
        return -((brightness[:, None] - self.meanings) ** 2)


@pytest.fixture
def grey_folders(tmp_path):
    """Folders 0 to 11; every image of folder k has pixels of 20 k."""
    from PIL import Image

    for k in range(12):
        (tmp_path / str(k)).mkdir()
        for j in range(4):
            Image.fromarray(np.full((8, 8, 3), 20 * k, np.uint8)).save(tmp_path / str(k) / f"{j}.png")
    return open_data(str(tmp_path))


@pytest.mark.parametrize(
    ("meanings", "rule"),
    [(list(range(12)), "by number"), ([int(name) for name in numbered(12)], "by name")],
)
def test_the_model_decides_between_two_orders(grey_folders, meanings, rule):
    """The order is taken in which the model is right, whichever way it was trained, and the notice says how often."""
    source = loaded_model(12).source
    loaded = LoadedModel(module=Brightness(meanings), source=source, preprocessing=PREPROCESSING, class_names=None)

    match = match_data(loaded, grey_folders)

    assert rule == match.rule
    assert [meanings.index(int(name)) for name in grey_folders.classes] == list(match.outputs)
    assert "of 48 images, the model is right on 48 that way, and on 8 by" in match.notices[0]


def test_a_class_map_needs_no_trial(grey_folders, tmp_path):
    """A class map decides, in either form."""
    path = write_map(tmp_path, [str(k) for k in range(12)])

    match = match_data(loaded_model(12), grey_folders, class_map=path)

    assert tuple(int(name) for name in grey_folders.classes) == match.outputs
    assert () == match.notices
